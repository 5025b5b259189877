//! The `tracestate` header: W3C Trace Context level 2, section "Tracestate Header".

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::TraceState as OtelState;

use super::trim_ows;

static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// "There can be a maximum of 32 list-members in a list".
const MAX_MEMBERS: usize = 32;
/// `key = ( lcalpha / DIGIT ) 0*255( keychar )`.
const MAX_KEY: usize = 256;
/// `value = 0*255(chr) nblk-chr`.
const MAX_VALUE: usize = 256;

/// What other tracing systems want passed on: the `tracestate` of the caller, checked and never changed.
///
/// It is kept as one header value, so that passing it on copies nothing. Members keep their order, the most recent
/// first. It is never shortened: what the grammar allows (32 members, 16,447 bytes) is passed on whole, where the
/// specification asks for at least 512.
///
/// Compared with what came in, two things are put in order, both allowed by the specification: empty members and
/// blanks around members go, and of members with the same key the first (most recent) stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceState(HeaderValue);

impl TraceState {
    /// Reads one header's value; `None` when it holds no member or breaks the grammar.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        Self::combine([&HeaderValue::from_bytes(value).ok()?])
    }

    /// The whole list, as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The members in their order, as key and value.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.as_str().split(',').filter_map(|member| member.split_once('='))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.members().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The same as OpenTelemetry has it, for spans made by its SDK.
    ///
    /// OpenTelemetry still holds keys to the grammar of level 1, so a member like `a@b@c=1` is missing there.
    #[must_use]
    pub fn to_otel(&self) -> OtelState {
        OtelState::from_key_value(self.members())
            .or_else(|_| {
                let known = |member: &(&str, &str)| OtelState::from_key_value([*member]).is_ok();
                OtelState::from_key_value(self.members().filter(known))
            })
            .unwrap_or_default()
    }

    /// What OpenTelemetry's trace state says; `None` when it is empty or breaks the grammar.
    #[must_use]
    pub fn from_otel(state: &OtelState) -> Option<Self> {
        if *state == OtelState::NONE { None } else { Self::parse(state.header().as_bytes()) }
    }

    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        Self::combine(headers.get_all(&TRACESTATE))
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(&TRACESTATE, self.0.clone());
    }

    pub(super) fn remove(headers: &mut HeaderMap) {
        headers.remove(&TRACESTATE);
    }

    /// Several headers are one list in the order of the headers (RFC 9110 section 5.3).
    fn combine<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Option<Self> {
        let mut values = values.into_iter();
        let first = values.next()?;
        let mut list = List::default();
        list.add(first.as_bytes())?;
        let mut single = true;
        for value in values {
            single = false;
            list.add(value.as_bytes())?;
        }
        match list.length()? {
            // Nothing was left out, so the header can be passed on as it came.
            length if single && length == first.len() => Some(Self(first.clone())),
            length => HeaderValue::from_maybe_shared(list.join(length)).ok().map(Self),
        }
    }
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The members found so far: the key's length and the whole member.
#[derive(Default)]
struct List<'a> {
    members: [(usize, &'a [u8]); MAX_MEMBERS],
    count: usize,
}

impl<'a> List<'a> {
    /// Adds a header's members; `None` when one breaks the grammar or there are too many.
    fn add(&mut self, value: &'a [u8]) -> Option<()> {
        for member in value.split(|byte| *byte == b',').map(trim_ows).filter(|member| !member.is_empty()) {
            let key = key_of(member)?;
            if self.members().any(|(length, other)| other[..*length] == *key) {
                continue;
            }
            *self.members.get_mut(self.count)? = (key.len(), member);
            self.count += 1;
        }
        Some(())
    }

    fn members(&self) -> impl Iterator<Item = &(usize, &'a [u8])> {
        self.members.iter().take(self.count)
    }

    /// The length of the list as it is sent; `None` when it is empty.
    fn length(&self) -> Option<usize> {
        let commas = self.count.checked_sub(1)?;
        Some(self.members().map(|(_, member)| member.len()).sum::<usize>() + commas)
    }

    fn join(&self, length: usize) -> Bytes {
        let mut text = Vec::with_capacity(length);
        for (_, member) in self.members() {
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(member);
        }
        text.into()
    }
}

/// The key of a member that keeps to the grammar. Blanks at the value's end are already cut off; those at its
/// beginning belong to it.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let (key, value) = member.split_at_checked(member.iter().position(|byte| *byte == b'=')?)?;
    let (_, value) = value.split_first()?;
    let starts_well = key.first().is_some_and(|byte| is_alphanumeric(*byte));
    let key_is_good = starts_well && key.len() <= MAX_KEY && key.iter().all(|byte| is_key_char(*byte));
    let value_is_good = (1..=MAX_VALUE).contains(&value.len()) && value.iter().all(|byte| is_value_char(*byte));
    (key_is_good && value_is_good).then_some(key)
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_key_char(byte: u8) -> bool {
    is_alphanumeric(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@')
}

fn is_value_char(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b',' && byte != b'='
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let state = TraceState::parse(text.as_bytes());
        assert_eq!(state.as_ref().map(TraceState::as_str), expected, "{text:?}");
    }

    fn unchanged(text: &str) {
        check(text, Some(text));
    }

    fn dropped(text: &str) {
        check(text, None);
    }

    #[test]
    fn members_are_kept_in_their_order() {
        let state = TraceState::parse(b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE").expect("two members");
        let members: Vec<_> = state.members().collect();
        assert_eq!(members, [("rojo", "00f067aa0ba902b7"), ("congo", "t61rcWkgMzE")]);
        assert_eq!(state.get("congo"), Some("t61rcWkgMzE"));
        assert_eq!(state.get("con"), None);
    }

    #[test]
    fn every_allowed_character_is_kept() {
        let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
        let value: String = (' '..='~').filter(|c| !matches!(c, ',' | '=')).collect();
        unchanged(&format!("{key}={value}"));
        unchanged(&format!("{key}@a-z0-9_-*/={value}"));
    }

    #[test]
    fn a_key_may_begin_with_a_digit_and_hold_any_at_signs_after_its_first_character() {
        for key in ["1a", "0", "foo@", "foo@@bar", "foo@bar@baz", "a@b", "0@0"] {
            unchanged(&format!("{key}=1,bar=2"));
        }
    }

    #[test]
    fn a_wrong_key_drops_the_whole_list() {
        for key in ["@foo", "FOO", "foo.bar", "foo ", "foo\t", "_a", "-a", "*a", "/a", "", "f\u{e9}"] {
            dropped(&format!("{key}=1,bar=2"));
            dropped(&format!("bar=2,{key}=1"));
        }
    }

    #[test]
    fn a_wrong_value_drops_the_whole_list() {
        for value in ["", " ", "bar=baz", "a\tb", "\u{e9}"] {
            dropped(&format!("foo={value},bar=3"));
            dropped(&format!("bar=3,foo={value}"));
        }
        dropped("foo");
        dropped("foo,bar=3");
    }

    #[test]
    fn keys_have_at_most_256_characters() {
        unchanged(&format!("foo=1,{}=1", "z".repeat(256)));
        unchanged(&format!("{}@{}=1", "t".repeat(241), "v".repeat(14)));
        unchanged(&format!("{}@v=1", "t".repeat(242)));
        unchanged(&format!("t@{}=1", "v".repeat(15)));
        dropped(&format!("foo=1,{}=1", "z".repeat(257)));
    }

    #[test]
    fn values_have_at_most_256_characters() {
        unchanged(&format!("foo={},bar=1", "x".repeat(256)));
        dropped(&format!("foo={},bar=1", "x".repeat(257)));
    }

    #[test]
    fn blanks_before_a_value_belong_to_it_and_those_behind_do_not() {
        check("foo=  1  ,bar=2", Some("foo=  1,bar=2"));
        check("foo=a b ", Some("foo=a b"));
    }

    #[test]
    fn blanks_and_tabs_around_members_are_left_out() {
        check("foo=1 \t , \t bar=2, \t baz=3", Some("foo=1,bar=2,baz=3"));
        check("foo=1\t \t,\t \tbar=2,\t \tbaz=3", Some("foo=1,bar=2,baz=3"));
        for text in [" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t"] {
            check(text, Some("foo=1"));
        }
    }

    #[test]
    fn empty_members_are_left_out() {
        check(",foo=1,, \t ,bar=2,", Some("foo=1,bar=2"));
        for text in ["", " ", ",", " , ,"] {
            dropped(text);
        }
    }

    #[test]
    fn of_members_with_the_same_key_the_first_stays() {
        check("foo=1,foo=1", Some("foo=1"));
        check("foo=2,bar=1,foo=1,bar=3", Some("foo=2,bar=1"));
    }

    #[test]
    fn there_are_at_most_32_members() {
        let list = |count: usize| (0..count).map(|n| format!("bar{n:02}={n}")).collect::<Vec<_>>().join(",");
        unchanged(&list(32));
        dropped(&list(33));
        let sparse = list(32).replace(',', ",,");
        check(&sparse, Some(&list(32)));
    }

    #[test]
    fn the_longest_list_the_grammar_allows_is_passed_on_whole() {
        let member = |n: u32| format!("{}{n:02}={}", "k".repeat(254), "v".repeat(256));
        let list = (0..32).map(member).collect::<Vec<_>>().join(",");
        assert_eq!(list.len(), 16_447);
        unchanged(&list);
    }

    #[test]
    fn opentelemetry_gets_the_members_it_can_hold() {
        let state = TraceState::parse(b"a=1,b@c@d=2,e@f=3").expect("three members");
        assert_eq!(state.to_otel().header(), "a=1,e@f=3");
        let plain = TraceState::parse(b"rojo=1,congo= 2").expect("two members");
        assert_eq!(TraceState::from_otel(&plain.to_otel()), Some(plain));
        assert_eq!(TraceState::from_otel(&OtelState::NONE), None);
    }

    #[test]
    fn random_lists_never_panic_and_parse_back_to_themselves() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut valid = 0;
        for _ in 0..50_000 {
            let text: Vec<u8> = (0..random.usize(0..40))
                .map(
                    |_| if random.u8(..) < 4 { random.u8(..) } else { random.choice(*b"aab01==,, \t@-*").unwrap_or(0) },
                )
                .collect();
            if let Some(state) = TraceState::parse(&text) {
                valid += 1;
                assert_eq!(TraceState::parse(state.as_str().as_bytes()), Some(state.clone()));
                assert!(state.members().count() > 0);
            }
        }
        assert!(valid > 100, "only {valid} lists were valid, the test proves little");
    }
}
