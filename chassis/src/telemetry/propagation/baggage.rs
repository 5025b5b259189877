//! The `baggage` header: W3C Baggage.
//!
//! Baggage is taken from the request as it is and parsed only when someone reads it or passes it on. The specification
//! leaves open what to do with a broken list: here the broken member is skipped and the rest is kept.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::trim_ows;

static BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The grammar's own maximum (`list-member 0*179( … )`); everyone must pass on at least 64.
const MAX_MEMBERS: usize = 180;
/// What everyone must pass on ("Limits", condition 2), and all that is passed on here.
const MAX_BYTES: usize = 8192;

/// What callers want known to everyone behind them: key-value pairs that travel with the request.
///
/// Never put a secret or a personal datum into it: it leaves the house with every call out.
///
/// At most 180 members and 8,192 bytes count; members beyond either are left out, from the end and never in part.
/// Two entries may have the same key; [`Baggage::get`] then finds the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baggage(HeaderValue);

impl Default for Baggage {
    fn default() -> Self {
        Self(HeaderValue::from_static(""))
    }
}

/// Why an entry could not be put into baggage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaggageError {
    /// The key is not a token (RFC 9110 section 5.6.2).
    #[error("found baggage key {0:?}, expected letters, digits and any of !#$%&'*+-.^_`|~")]
    Key(String),
    /// With this entry the list would be longer than is passed on.
    #[error("baggage is full: expected at most 180 entries and 8192 bytes")]
    Full,
}

/// One entry of baggage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    text: &'a str,
    key: &'a str,
    value: &'a str,
    properties: Option<&'a str>,
}

/// Something said of an entry, with or without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property<'a> {
    key: &'a str,
    value: Option<&'a str>,
}

impl Baggage {
    /// The entries in their order, without those that break the grammar.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut size = 0;
        self.0
            .as_bytes()
            .split(|byte| *byte == b',')
            .filter_map(|member| Entry::parse(std::str::from_utf8(trim_ows(member)).ok()?))
            .take(MAX_MEMBERS)
            .take_while(move |entry| {
                // The comma before the first member is one too many, hence the "+ 1".
                size += entry.text.len() + 1;
                size <= MAX_BYTES + 1
            })
    }

    /// The decoded value of a key; of several entries with this key, the last one's.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        self.entries().filter(|entry| entry.key == key).last().map(|entry| entry.value())
    }

    /// The same baggage with an entry more, in place of any with the same key. The value may be any text.
    ///
    /// # Errors
    ///
    /// The key is not a token, or the baggage would be longer than is passed on.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, BaggageError> {
        if !is_token(key) {
            return Err(BaggageError::Key(key.to_owned()));
        }
        let member = format!("{key}={}", encode(value));
        let mut members: Vec<_> = self.entries().filter(|entry| entry.key != key).map(|entry| entry.text).collect();
        members.push(&member);
        let count = members.len();
        let text = members.join(",");
        if count > MAX_MEMBERS || text.len() > MAX_BYTES {
            return Err(BaggageError::Full);
        }
        HeaderValue::try_from(text).map(Self).map_err(|_| BaggageError::Key(key.to_owned()))
    }

    /// The same baggage without the entries of a key.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        Self(self.print(|entry| entry.key != key).unwrap_or_else(|| HeaderValue::from_static("")))
    }

    /// The header's value for a call out: the good entries, as they came; `None` when there is none.
    #[must_use]
    pub fn header_value(&self) -> Option<HeaderValue> {
        let (count, size) = self.entries().fold((0, 0), |(count, size), entry| (count + 1, size + entry.text.len()));
        // Nothing was left out, so the header can be passed on as it came.
        if count > 0 && size + count - 1 == self.0.len() { Some(self.0.clone()) } else { self.print(|_| true) }
    }

    /// Several headers are one list in the order of the headers (RFC 9110 section 5.3).
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&BAGGAGE).iter();
        let first = values.next()?;
        let mut joined: Option<Vec<u8>> = None;
        for value in values {
            let text = joined.get_or_insert_with(|| first.as_bytes().to_vec());
            text.push(b',');
            text.extend_from_slice(value.as_bytes());
        }
        match joined {
            None => Some(Self(first.clone())),
            Some(text) => HeaderValue::try_from(text).ok().map(Self),
        }
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        match self.header_value() {
            Some(value) => headers.insert(&BAGGAGE, value),
            None => headers.remove(&BAGGAGE),
        };
    }

    fn print(&self, keep: impl Fn(&Entry<'_>) -> bool) -> Option<HeaderValue> {
        let members: Vec<_> = self.entries().filter(keep).map(|entry| entry.text).collect();
        if members.is_empty() { None } else { HeaderValue::try_from(members.join(",")).ok() }
    }
}

/// Takes a header's value as it is; it is parsed when it is read.
impl From<HeaderValue> for Baggage {
    fn from(value: HeaderValue) -> Self {
        Self(value)
    }
}

/// The value as it came, unchecked; [`Baggage::header_value`] is what a call out may carry.
impl From<Baggage> for HeaderValue {
    fn from(baggage: Baggage) -> Self {
        baggage.0
    }
}

impl<'a> Entry<'a> {
    /// `key OWS "=" OWS value *( OWS ";" OWS property )`; only the first `=` of the pair separates.
    fn parse(text: &'a str) -> Option<Self> {
        let (pair, properties) = match text.split_once(';') {
            Some((pair, properties)) => (pair, Some(properties)),
            None => (text, None),
        };
        let Property { key, value: Some(value) } = Property::parse(pair)? else { return None };
        let entry = Self { text, key, value, properties };
        entry.raw_properties().all(|property| Property::parse(property).is_some()).then_some(entry)
    }

    /// The key; letters of different case are different keys.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The value with its percent-encoding undone; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn value(&self) -> Cow<'a, str> {
        decode(self.value)
    }

    /// What is said of the entry, in its order.
    pub fn properties(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        self.raw_properties().filter_map(Property::parse)
    }

    fn raw_properties(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.properties.into_iter().flat_map(|properties| properties.split(';'))
    }
}

impl<'a> Property<'a> {
    /// `key OWS "=" OWS value` or `key OWS`.
    fn parse(text: &'a str) -> Option<Self> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (trim(key), Some(trim(value))),
            None => (trim(text), None),
        };
        let value_is_good = value.unwrap_or_default().bytes().all(is_baggage_octet);
        (is_token(key) && value_is_good).then_some(Self { key, value })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The value with its percent-encoding undone, when there is one.
    #[must_use]
    pub fn value(&self) -> Option<Cow<'a, str>> {
        self.value.map(decode)
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A token of RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// `%x21 / %x23-2B / %x2D-3A / %x3C-5B / %x5D-7E`: all but controls, whitespace, `"`, `,`, `;` and `\`.
fn is_baggage_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

fn encode(value: &str) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if is_baggage_octet(byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let digit = |place: usize| char::from(*tail.get(place)?).to_digit(16);
        rest = tail;
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from((high << 4) | low));
                rest = &tail[2..];
            }
            // A percent sign that begins no code stands for itself.
            _ => bytes.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baggage(text: &str) -> Baggage {
        Baggage(HeaderValue::from_bytes(text.as_bytes()).expect("a header value"))
    }

    fn pairs(baggage: &Baggage) -> Vec<(String, String)> {
        baggage.entries().map(|entry| (entry.key().to_owned(), entry.value().into_owned())).collect()
    }

    fn sent(text: &str) -> Option<String> {
        baggage(text).header_value().map(|value| value.to_str().expect("ASCII").to_owned())
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = pairs(&baggage(text));
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn entries_are_read_in_their_order() {
        check("SomeKey=SomeValue", &[("SomeKey", "SomeValue")]);
        check(
            "userId=alice,serverNode=DF%2028,isProduction=false",
            &[("userId", "alice"), ("serverNode", "DF 28"), ("isProduction", "false")],
        );
    }

    #[test]
    fn blanks_and_tabs_around_keys_and_values_are_not_part_of_them() {
        check("a \t = \t 1 \t ; \t p \t , \t b \t = \t 2 \t ; \t q \t = \t 3", &[("a", "1"), ("b", "2")]);
        check(" userId =   alice ", &[("userId", "alice")]);
    }

    #[test]
    fn a_value_may_hold_equal_signs_or_be_empty() {
        check("a=1=2==,b=", &[("a", "1=2=="), ("b", "")]);
    }

    #[test]
    fn percent_encoding_is_undone_and_bytes_that_are_no_text_are_replaced() {
        check("a=Am%C3%A9lie,b=%09%20%22%27%3B%3dasdf", &[("a", "Am\u{e9}lie"), ("b", "\t \"';=asdf")]);
        check("a=x%ffy,b=%C3", &[("a", "x\u{fffd}y"), ("b", "\u{fffd}")]);
        check("a=100%,b=%zz,c=%4", &[("a", "100%"), ("b", "%zz"), ("c", "%4")]);
    }

    #[test]
    fn properties_are_kept_with_their_entry() {
        let baggage = baggage("k=v ; p ;p = 1;p=%3B%20;ValueProp%20%3D,l=w");
        let first = baggage.entries().next().expect("an entry");
        let found: Vec<_> = first.properties().map(|p| (p.key(), p.value())).collect();
        let expected = [("p", None), ("p", Some("1".into())), ("p", Some("; ".into())), ("ValueProp%20%3D", None)];
        assert_eq!(found, expected);
        assert_eq!(baggage.header_value().as_ref(), Some(&baggage.0), "passed on as it came");
        assert_eq!(baggage.entries().nth(1).map(|entry| entry.properties().count()), Some(0));
    }

    #[test]
    fn a_broken_member_is_left_behind_and_the_rest_passed_on() {
        for broken in
            ["", " ", "b", "=1", "b c=1", "b=1 2", "b=\"1\"", "b=\\", "b=1;", "b=1;;p", "b=1;=2", "b=\u{e9}", "(b)=1"]
        {
            check(&format!("a=1,{broken},c=3"), &[("a", "1"), ("c", "3")]);
            assert_eq!(sent(&format!("a=1,{broken},c=3")).as_deref(), Some("a=1,c=3"), "{broken:?}");
        }
        assert_eq!(sent("broken"), None);
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        for value in ["userId=alice", "", "a=1,b=2"] {
            headers.append(&BAGGAGE, HeaderValue::from_static(value));
        }
        let baggage = Baggage::from_headers(&headers).expect("headers are there");
        baggage.write(&mut headers);
        assert_eq!(headers.get_all(&BAGGAGE).iter().collect::<Vec<_>>(), ["userId=alice,a=1,b=2"]);
    }

    #[test]
    fn duplicates_keep_their_order_and_the_last_is_found() {
        check("a=1,b=2,a=3", &[("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(baggage("a=1,b=2,a=3").get("a").as_deref(), Some("3"));
        assert_eq!(baggage("a=1").get("A"), None);
        assert_eq!(sent("a=1,b=2,a=3").as_deref(), Some("a=1,b=2,a=3"));
    }

    #[test]
    fn sixty_four_members_and_8192_bytes_are_passed_on() {
        let list = (0..64).map(|n| format!("key{n}=value")).collect::<Vec<_>>().join(",");
        assert_eq!(sent(&list), Some(list));
        let long = format!("a={}", "0123456789".repeat(819));
        assert_eq!(long.len(), 8192);
        assert_eq!(sent(&long), Some(long));
    }

    #[test]
    fn members_beyond_the_limits_are_dropped_whole_from_the_end() {
        let many = (0..200).map(|n| format!("key{n}=v")).collect::<Vec<_>>();
        assert_eq!(sent(&many.join(",")), Some(many[..180].join(",")));
        let large = format!("a={},b=1,c=2", "x".repeat(8186));
        assert_eq!(sent(&large), Some(format!("a={},b=1", "x".repeat(8186))));
        assert_eq!(sent(&format!("a={},b=1", "x".repeat(8191))), None);
    }

    #[test]
    fn any_text_can_be_put_in_and_comes_out_again() {
        let text = "\t \"';=asdf!@#$%^&*(),\\ Am\u{e9}lie 100%41\u{0}\n";
        let baggage = baggage("a=1;p,b=2").with("b", text).expect("room for it");
        assert_eq!(baggage.get("b").as_deref(), Some(text));
        assert_eq!(baggage.entries().count(), 2);
        assert_eq!(baggage.entries().next().map(|entry| entry.properties().count()), Some(1));
        assert_eq!(baggage.without("b"), self::baggage("a=1;p"));
        assert_eq!(Baggage::default().with("k", "v").expect("room for it"), self::baggage("k=v"));
    }

    #[test]
    fn what_would_not_be_passed_on_is_refused_when_put_in() {
        assert_eq!(Baggage::default().with("a b", "1"), Err(BaggageError::Key("a b".to_owned())));
        assert_eq!(Baggage::default().with("", "1"), Err(BaggageError::Key(String::new())));
        assert_eq!(Baggage::default().with("a", &"x".repeat(8191)), Err(BaggageError::Full));
        let full = (0..180).map(|n| format!("key{n}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(baggage(&full).with("more", "1"), Err(BaggageError::Full));
        assert!(baggage(&full).with("key0", "1").is_ok());
    }

    #[test]
    fn random_lists_never_panic_and_parse_back_to_themselves() {
        let mut random = fastrand::Rng::with_seed(13);
        let mut valid = 0;
        for _ in 0..50_000 {
            let text: Vec<u8> = (0..random.usize(0..40))
                .map(|_| {
                    if random.u8(..) < 4 {
                        random.u8(..)
                    } else {
                        random.choice(*b"aab01==,,;;% \t\"C3A9").unwrap_or(0)
                    }
                })
                .collect();
            let Ok(value) = HeaderValue::from_bytes(&text) else { continue };
            let baggage = Baggage(value);
            let Some(printed) = baggage.header_value() else {
                assert_eq!(baggage.entries().count(), 0);
                continue;
            };
            valid += 1;
            let again = Baggage(printed.clone());
            assert_eq!(pairs(&again), pairs(&baggage));
            assert_eq!(again.header_value(), Some(printed));
        }
        assert!(valid > 100, "only {valid} lists were valid, the test proves little");
    }

    #[test]
    fn random_text_survives_the_round_trip() {
        let mut random = fastrand::Rng::with_seed(17);
        for _ in 0..5_000 {
            let text: String = (0..random.usize(0..20)).map(|_| random.char(..)).collect();
            let baggage = Baggage::default().with("k", &text).expect("short enough");
            assert_eq!(baggage.get("k").as_deref(), Some(text.as_str()));
        }
    }
}
