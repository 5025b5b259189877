//! From a gRPC message's fields to a method's arguments, and from what the method returns to the answer's message.
//!
//! [`Fields`] is what a person writes by hand. Generated code lets the compiler choose among its methods: `probe.rs`.

pub(crate) mod probe;

use std::{
    any::Any,
    collections::HashMap,
    error::Error,
    fmt::{self, Display},
    hash::Hash,
};

use crate::{
    cause::Cause,
    problem::{Problem, field_path, push_step},
};

/// How many mistakes of one message are told. Chosen: more than a person reads; a message of 4 MiB could make a million.
const MAX_VIOLATIONS: usize = 100;

/// The longest text of one mistake, in bytes: it may repeat what the caller sent.
const MAX_TEXT_BYTES: usize = 256;

/// Takes the fields of a message, and keeps what does not fit, so that all mistakes are told at once.
///
/// A field that does not fit gives `None`, and the text of the conversion's error is what the caller is told of it. A
/// conversion may itself fail with `Fields`: its mistakes are then told with their whole path, such as `items[1].sku`.
///
/// ```
/// use chassis::{problem::Problem, service::Fields};
///
/// // As prost makes them.
/// struct ItemMessage { sku: String, count: u32 }
/// struct OrderMessage { customer: String, items: Vec<ItemMessage> }
///
/// struct Sku(String);
///
/// impl TryFrom<String> for Sku {
///     type Error = &'static str;
///     fn try_from(text: String) -> Result<Self, Self::Error> {
///         if text.is_empty() { Err("is empty") } else { Ok(Self(text)) }
///     }
/// }
///
/// struct Item { sku: Sku, count: u32 }
///
/// impl TryFrom<ItemMessage> for Item {
///     type Error = Fields;
///     fn try_from(message: ItemMessage) -> Result<Self, Fields> {
///         let mut fields = Fields::new();
///         let sku = fields.take("sku", message.sku);
///         let Some(sku) = sku else { return Err(fields) };
///         Ok(Self { sku, count: message.count })
///     }
/// }
///
/// fn items(message: OrderMessage) -> Result<Vec<Item>, Problem> {
///     let mut fields = Fields::new();
///     let items = fields.each("items", message.items);
///     items.ok_or_else(|| fields.into_problem())
/// }
///
/// let item = |sku: &str| ItemMessage { sku: sku.into(), count: 1 };
/// let problem = items(OrderMessage { customer: "ada".into(), items: vec![item("a-01"), item("")] }).err().unwrap();
/// assert_eq!(problem.to_string(), "invalid_request: items[1].sku: is empty");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    violations: Vec<Violation>,
    /// How many more there were.
    untold: usize,
}

/// What is wrong, and where, as a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation {
    pointer: String,
    text: String,
}

impl Fields {
    /// Nothing wrong so far.
    #[must_use]
    pub const fn new() -> Self {
        Self { violations: Vec::new(), untold: 0 }
    }

    /// A field as it is. A scalar that the caller left out has its default value (proto3).
    pub fn take<F, P>(&mut self, name: &str, field: F) -> Option<P>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        self.convert(&of(name), field)
    }

    /// A field that has to be there: a message, or a scalar that is declared `optional`.
    pub fn required<F, P>(&mut self, name: &str, field: Option<F>) -> Option<P>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        let Some(field) = field else {
            self.violation(name, "is missing");
            return None;
        };
        self.convert(&of(name), field)
    }

    /// A field that may be left out.
    pub fn optional<F, P>(&mut self, name: &str, field: Option<F>) -> Option<Option<P>>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        match field {
            Some(field) => self.convert(&of(name), field).map(Some),
            None => Some(None),
        }
    }

    /// A repeated field.
    pub fn each<F, P>(&mut self, name: &str, field: Vec<F>) -> Option<Vec<P>>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        self.collect(name, field.into_iter().enumerate(), |_, item| item)
    }

    /// A map.
    pub fn map<K, F, P>(&mut self, name: &str, field: HashMap<K, F>) -> Option<HashMap<K, P>>
    where
        K: Display + Eq + Hash,
        P: TryFrom<F, Error: Display + 'static>,
    {
        self.collect(name, field, |key, value| (key, value))
    }

    /// The message as a whole.
    pub fn message<M, P>(&mut self, message: M) -> Option<P>
    where
        P: TryFrom<M, Error: Display + 'static>,
    {
        self.convert("", message)
    }

    /// One thing wrong, found by other means. The path is protobuf's: `items[1].sku`; empty for the whole message.
    pub fn violation(&mut self, path: &str, text: impl Display) {
        self.add(of(path), &text);
    }

    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    /// What the caller is told: `INVALID_ARGUMENT` with the word `invalid_request` and one violation for each mistake.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        let problem = Problem::from(Cause::InvalidRequest).detail(self.to_string()).refused(Cause::InvalidRequest);
        self.violations
            .into_iter()
            .fold(problem, |problem, violation| problem.violation(violation.pointer, violation.text))
    }

    fn convert<F, P>(&mut self, pointer: &str, field: F) -> Option<P>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        match P::try_from(field) {
            Ok(value) => Some(value),
            Err(error) => {
                self.misfit(pointer, &error);
                None
            }
        }
    }

    fn collect<K: Display, F, P, A, C: FromIterator<A>>(
        &mut self,
        name: &str,
        field: impl IntoIterator<Item = (K, F)>,
        with_key: impl Fn(K, P) -> A,
    ) -> Option<C>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        let before = self.count();
        let values = field.into_iter().filter_map(|(key, item)| match P::try_from(item) {
            Ok(value) => Some(with_key(key, value)),
            Err(error) => {
                let mut pointer = of(name);
                push_step(&mut pointer, &key.to_string());
                self.misfit(&pointer, &error);
                None
            }
        });
        let values = values.collect();
        (self.count() == before).then_some(values)
    }

    /// All mistakes, the untold ones too.
    fn count(&self) -> usize {
        self.violations.len() + self.untold
    }

    #[cold]
    fn misfit<E: Display + 'static>(&mut self, pointer: &str, error: &E) {
        match (error as &dyn Any).downcast_ref::<Self>() {
            Some(inner) if !inner.is_empty() => {
                for violation in &inner.violations {
                    self.add(format!("{pointer}{}", violation.pointer), &violation.text);
                }
                self.untold += inner.untold;
            }
            _ => self.add(pointer.to_owned(), error),
        }
    }

    #[cold]
    fn add(&mut self, pointer: String, text: &dyn Display) {
        if self.violations.len() >= MAX_VIOLATIONS {
            self.untold += 1;
            return;
        }
        let mut text = text.to_string();
        if text.len() > MAX_TEXT_BYTES {
            let end = (0..=MAX_TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        self.violations.push(Violation { pointer, text });
    }
}

impl Display for Fields {
    /// `id: is empty; items[1].sku: is missing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.violations.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            let path = field_path(&violation.pointer);
            if !path.is_empty() {
                write!(f, "{path}: ")?;
            }
            f.write_str(&violation.text)?;
        }
        match self.untold {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Error for Fields {}

impl From<Fields> for Problem {
    fn from(fields: Fields) -> Self {
        fields.into_problem()
    }
}

/// `items[1].sku` as a JSON pointer.
fn of(path: &str) -> String {
    let mut pointer = String::new();
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        push_step(&mut pointer, step.strip_suffix(']').unwrap_or(step));
    }
    pointer
}

#[cfg(test)]
mod tests;
