//! The form of parameters that are read without a type.
//!
//! Behind `#[serde(flatten)]`, `tag` and `untagged` serde buffers what is given before it knows the fields, so nothing says
//! that `?limit=10` is a number and `?name=10` is a text. The first reading takes what looks like a number or a boolean as
//! that. When that does not fit, the forms of single parameters are changed, led by the value that serde names, until all fit.

use std::{
    cell::Cell,
    collections::{HashSet, VecDeque},
    iter,
};

use serde::{
    Deserialize,
    de::{Visitor, value::SeqDeserializer},
};

use super::{
    query::{Pair, Place, Query},
    text::{Buffered, Misfit, Text, Wanted, is_plain_scalar, is_scalar, take_raised},
};

/// The most readings of one query. Chosen: any handful of parameters is tried in all forms, and a query made to be slow costs
/// about what a body of its size does.
const MAX_READINGS: usize = 64;

/// How a parameter is read where no type is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// A number or a boolean, if it can be read as one.
    Scalar,
    Text,
    /// A list of one.
    Scalars,
    Texts,
    /// Empty: none for an `Option`.
    Nothing,
}

/// The likeliest form of a text.
pub(super) fn likeliest(text: &str) -> Form {
    if is_plain_scalar(text) { Form::Scalar } else { Form::Text }
}

impl Form {
    pub(super) fn visit<'de, V: Visitor<'de>>(self, text: &'de str, visitor: V) -> Result<V::Value, Misfit> {
        use serde::Deserializer as _;
        match self {
            Self::Scalar => Text::<true>(text).deserialize_any(visitor),
            Self::Text => Text::<false>(text).deserialize_any(visitor),
            Self::Scalars => visitor.visit_seq(SeqDeserializer::new(iter::once(Text::<true>(text)))),
            Self::Texts => visitor.visit_seq(SeqDeserializer::new(iter::once(Text::<false>(text)))),
            Self::Nothing => visitor.visit_unit(),
        }
    }

    /// Another form of the same text that a type may take which did not take this one.
    fn changed(self, text: &str, wanted: Wanted) -> Option<Self> {
        match (self, wanted) {
            (Self::Scalar, Wanted::Text) => Some(Self::Text),
            (Self::Scalars, Wanted::Text) => Some(Self::Texts),
            (Self::Scalar, Wanted::List) => Some(Self::Scalars),
            (Self::Text, Wanted::List) => Some(Self::Texts),
            (Self::Text, Wanted::Other) if text.is_empty() => Some(Self::Nothing),
            (Self::Text, Wanted::Other) => is_scalar(text).then_some(Self::Scalar),
            (Self::Texts, Wanted::Other) => is_scalar(text).then_some(Self::Scalars),
            _ => None,
        }
    }
}

/// Returns whether a text is read as a number or a boolean from here on.
fn becomes_scalar(before: Form, after: Form) -> bool {
    matches!((before, after), (Form::Text, Form::Scalar) | (Form::Texts, Form::Scalars))
}

/// Where one reading ended: the place, if it is known, and what is wrong there.
type Ended = (Option<Place>, Misfit);

/// The outcome of one reading, with the last buffered value that did not fit.
struct Reading<T> {
    value: Result<T, Ended>,
    raised: Option<Buffered>,
}

fn read<T: for<'de> Deserialize<'de>>(pairs: &mut [Pair<'_>], readings: &mut usize) -> Reading<T> {
    *readings += 1;
    let place = Cell::new(None);
    take_raised();
    let value = T::deserialize(Query { pairs, place: &place });
    Reading { value: value.map_err(|misfit| (place.take(), misfit)), raised: take_raised() }
}

/// Reads the parameters, in other forms where those that they have do not fit.
pub(super) fn attempt<T: for<'de> Deserialize<'de>>(pairs: &mut [Pair<'_>], readings: &mut usize) -> Result<T, Ended> {
    let first = read(pairs, readings);
    let fits = first.value.is_ok() && first.raised.is_none();
    if fits || pairs.iter().all(|pair| !pair.untyped.get()) {
        return first.value;
    }
    search(pairs, readings, first)
}

/// The form of each parameter.
type Forms = Vec<Form>;

/// Returns whether a parameter's text was read as the value that did not fit.
fn is_same(text: &str, found: &str) -> bool {
    text == found || is_scalar(text) && text.parse::<f64>().ok() == found.parse::<f64>().ok()
}

/// What one reading tells of the forms.
#[derive(Default)]
struct Hints {
    /// Forms in which the value that did not fit would.
    led: Vec<Forms>,
    /// Forms worth trying where serde says nothing of a value.
    blind: Vec<Forms>,
    /// The only parameter that can be wrong, where no other form of it is left.
    mistaken: Option<String>,
}

fn hints(pairs: &[Pair<'_>], place: Option<&Place>, buffered: Option<&Buffered>) -> Hints {
    let forms: Forms = pairs.iter().map(|pair| pair.form).collect();
    let with = |at: usize, form: Form| {
        let mut forms = forms.clone();
        forms[at] = form;
        forms
    };
    let is_near = |pair: &Pair<'_>| pair.untyped.get() && place.is_none_or(|place| pair.name == place.name);
    let Some(Buffered { found, wanted }) = buffered else {
        let texts = pairs.iter().map(|pair| if is_near(pair) { Form::Text } else { pair.form }).collect();
        let toggled = pairs.iter().enumerate().filter(|(_, pair)| is_near(pair)).filter_map(|(at, pair)| {
            let other = if pair.form == Form::Scalar { Wanted::Text } else { Wanted::Other };
            Some(with(at, pair.form.changed(pair.text(), other)?))
        });
        return Hints { blind: iter::once(texts).chain(toggled).collect(), ..Hints::default() };
    };
    let suspects: Vec<_> =
        pairs.iter().enumerate().filter(|(_, pair)| is_near(pair) && is_same(pair.text(), found)).collect();
    let change = |(at, pair): &(usize, &Pair<'_>)| Some(with(*at, pair.form.changed(pair.text(), *wanted)?));
    let led: Vec<Forms> = suspects.iter().filter_map(change).collect();
    let mistaken = suspects.first().map(|(_, pair)| pair.name.to_string());
    let mistaken = mistaken.filter(|name| led.is_empty() && suspects.iter().all(|(_, pair)| pair.name == *name));
    Hints { led, mistaken, ..Hints::default() }
}

/// Depth first along the values that serde names; what it is silent about comes after.
#[cold]
fn search<T: for<'de> Deserialize<'de>>(
    pairs: &mut [Pair<'_>],
    readings: &mut usize,
    first: Reading<T>,
) -> Result<T, Ended> {
    let begin: Forms = pairs.iter().map(|pair| pair.form).collect();
    let mut seen = HashSet::from([begin.clone()]);
    let (mut next, mut later) = (Vec::new(), VecDeque::new());
    let (mut partly, mut ended) = (None, None);
    let mut reading = Some(first);
    while let Some(Reading { value, raised }) = reading.take() {
        let Hints { led, blind, .. } = match value {
            Ok(value) if raised.is_none() => return Ok(value),
            // serde has swallowed a misfit: in another form there may be more in the value. A text that fits stays one, also
            // when it could be read as a number: `007` is a name where there are names.
            Ok(value) => {
                partly.get_or_insert(value);
                let mut hints = hints(pairs, None, raised.as_ref());
                hints.led.retain(|forms| pairs.iter().zip(forms).all(|(pair, form)| !becomes_scalar(pair.form, *form)));
                hints
            }
            Err((place, misfit)) => {
                let hints = hints(pairs, place.as_ref(), misfit.buffered.as_ref().or(raised.as_ref()));
                match &hints.mistaken {
                    // What was wrong before fits by now.
                    Some(name) if misfit.buffered.is_some() => {
                        ended = Some((Some(Place { name: name.clone(), unknown: false, in_map: false }), misfit));
                    }
                    _ => ended = ended.or(Some((place, misfit))),
                }
                hints
            }
        };
        next.extend(led.into_iter().rev());
        later.extend(blind);
        while let Some(forms) = next.pop().or_else(|| later.pop_front()) {
            if *readings < MAX_READINGS && seen.insert(forms.clone()) {
                pairs.iter_mut().zip(&forms).for_each(|(pair, form)| pair.form = *form);
                reading = Some(read(pairs, readings));
                break;
            }
        }
    }
    pairs.iter_mut().zip(&begin).for_each(|(pair, form)| pair.form = *form);
    match (partly, ended) {
        (Some(value), _) => Ok(value),
        (None, Some(ended)) => Err(ended),
        // Not reached: every reading is one of the two.
        (None, None) => read(pairs, readings).value,
    }
}

#[cfg(test)]
mod tests;
