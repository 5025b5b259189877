//! The `traceparent` header: W3C Trace Context level 2, section "Traceparent Header".

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};

use super::{tracestate::TraceState, trim_ows};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The flag that says: the rightmost 7 bytes of the trace id are random (level 2, "Random Trace ID Flag").
///
/// It belongs to the trace id: whoever makes the id sets it, everyone after him passes it on as it came.
pub const RANDOM_TRACE_ID: TraceFlags = TraceFlags::new(0x02);

/// The flags that level 2 defines; all others are set to zero on the way in and on the way out ("Other Flags").
const KNOWN_FLAGS: TraceFlags = TraceFlags::new(0x03);

/// The length of version 00, and of the part that every later version must begin with.
const LENGTH: usize = 55;

/// A trace, a span of it, and the flags that travel with them: the content of a `traceparent` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The whole trace.
    pub trace_id: TraceId,
    /// The span that makes the call: the caller's when read, our own when written.
    pub parent_id: SpanId,
    /// Sampled and random trace id; no other bit is passed on.
    pub flags: TraceFlags,
}

impl TraceParent {
    /// Reads a header's value; `None` when it is not valid, in which case a new trace is to be started.
    ///
    /// Version 00 has exactly 55 bytes, version ff does not exist. Of a later version the first 55 bytes are read; a
    /// dash must follow if anything does. Hex digits are lower case, ids are not zero.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, tail) = trim_ows(value).split_first_chunk::<LENGTH>()?;
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        match (hex_byte(*part(head, 0)?)?, tail.first()) {
            (0xff, _) | (0, Some(_)) => return None,
            (_, None | Some(b'-')) => {}
            (_, Some(_)) => return None,
        }
        let trace_id = (u128::from(hex(part(head, 3)?)?) << 64) | u128::from(hex(part(head, 19)?)?);
        let parent_id = hex(part(head, 36)?)?;
        let flags = hex_byte(*part(head, 53)?)?;
        let parent = Self {
            trace_id: trace_id.into(),
            parent_id: parent_id.into(),
            flags: TraceFlags::new(flags) & KNOWN_FLAGS,
        };
        parent.is_valid().then_some(parent)
    }

    /// The header's value, always as version 00.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (trace, span) = (self.trace_id.to_bytes(), self.parent_id.to_bytes());
        let ids = trace.as_chunks::<4>().0.iter().chain(span.as_chunks::<4>().0);
        for (place, word) in [3, 11, 19, 27, 36, 44].into_iter().zip(ids) {
            text[place..place + 8].copy_from_slice(&digits(u32::from_be_bytes(*word)));
        }
        text[53..].copy_from_slice(&digits((self.flags & KNOWN_FLAGS).to_u8().into())[6..]);
        text
    }

    /// Whether neither id is zero.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.trace_id != TraceId::INVALID && self.parent_id != SpanId::INVALID
    }

    /// The same as OpenTelemetry has it: a remote span context.
    #[must_use]
    pub fn span_context(&self, state: Option<&TraceState>) -> SpanContext {
        let state = state.map(TraceState::to_otel).unwrap_or_default();
        SpanContext::new(self.trace_id, self.parent_id, self.flags, true, state)
    }

    /// What OpenTelemetry's span context says; `None` when one of its ids is zero.
    #[must_use]
    pub fn from_span_context(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace_id: context.trace_id(),
            parent_id: context.span_id(),
            flags: context.trace_flags() & KNOWN_FLAGS,
        })
    }

    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.to_bytes()) {
            headers.insert(&TRACEPARENT, value);
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_bytes()).unwrap_or_default())
    }
}

/// The `N` bytes at a place. Place and length are constants, so the compiler takes the check away.
#[inline]
fn part<const N: usize>(head: &[u8; LENGTH], place: usize) -> Option<&[u8; N]> {
    head.get(place..)?.first_chunk()
}

/// The value of 16 lower-case hex digits.
///
/// Eight digits at a time in one word: parsing a header took 26 ns so, and 44 ns digit by digit (release, one thread).
#[inline]
pub(super) fn hex(digits: &[u8; 16]) -> Option<u64> {
    let (words, _) = digits.as_chunks::<8>();
    let mut value = 0;
    for word in words {
        value = (value << 32) | decode(u64::from_be_bytes(*word))?;
    }
    Some(value)
}

/// One in every byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The value of eight lower-case hex digits, one in each byte of the word.
#[inline]
fn decode(digits: u64) -> Option<u64> {
    // Letters have bit 6 set; `a` is 0x61 and stands for 1 + 9.
    let letters = (digits >> 6) & ONES;
    let nibbles = ((digits & (0x0f * ONES)) + 9 * letters) & (0x0f * ONES);
    let value = (nibbles | (nibbles >> 4)) & 0x00ff_00ff_00ff_00ff;
    let value = (value | (value >> 8)) & 0x0000_ffff_0000_ffff;
    let value = (value | (value >> 16)) & 0x0000_0000_ffff_ffff;
    // Whatever was no digit, or upper case, does not come out again as it went in.
    (encode(nibbles) == digits).then_some(value)
}

/// The lower-case hex digits of eight nibbles, one in each byte of the word.
#[inline]
fn encode(nibbles: u64) -> u64 {
    let letters = ((nibbles + 6 * ONES) >> 4) & ONES;
    nibbles + 0x30 * ONES + 0x27 * letters
}

/// Two digits are eight with six zeros before them.
fn hex_byte(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits;
    let [.., byte] = decode(u64::from_be_bytes([b'0', b'0', b'0', b'0', b'0', b'0', high, low]))?.to_be_bytes();
    Some(byte)
}

/// Eight lower-case hex digits, made in one word.
#[inline]
fn digits(value: u32) -> [u8; 8] {
    // One nibble in each byte.
    let spread = u64::from(value);
    let spread = ((spread << 16) | spread) & 0x0000_ffff_0000_ffff;
    let spread = ((spread << 8) | spread) & 0x00ff_00ff_00ff_00ff;
    let spread = ((spread << 4) | spread) & (0x0f * ONES);
    encode(spread).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn valid(text: &str) -> TraceParent {
        TraceParent::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text:?} should be valid"))
    }

    fn refused(text: &str) {
        assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text:?} should be refused");
    }

    #[test]
    fn version_zero_gives_ids_and_flags() {
        let parent = valid(&format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(parent.trace_id.to_string(), TRACE);
        assert_eq!(parent.parent_id.to_string(), SPAN);
        assert_eq!(parent.flags, TraceFlags::SAMPLED);
    }

    #[test]
    fn version_zero_has_exactly_55_bytes() {
        for tail in [".", "-", "0", "-what-the-future-will-be-like"] {
            refused(&format!("00-{TRACE}-{SPAN}-01{tail}"));
        }
        refused(&format!("00-{TRACE}-{SPAN}-0"));
        refused("");
    }

    #[test]
    fn a_later_version_may_go_on_after_a_dash_only() {
        let expected = valid(&format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(valid(&format!("cc-{TRACE}-{SPAN}-01")), expected);
        assert_eq!(valid(&format!("01-{TRACE}-{SPAN}-01-")), expected);
        assert_eq!(valid(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like")), expected);
        refused(&format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like"));
        refused(&format!("cc-{TRACE}-{SPAN}-1"));
    }

    #[test]
    fn a_later_version_is_held_to_the_same_ids() {
        refused(&format!("cc-{}-{SPAN}-01", "0".repeat(32)));
        refused(&format!("cc-{TRACE}-{}-01-more", "0".repeat(16)));
        refused(&format!("cc-{}-{SPAN}-01", TRACE.to_uppercase()));
    }

    #[test]
    fn version_ff_does_not_exist() {
        refused(&format!("ff-{TRACE}-{SPAN}-01"));
        refused(&format!("ff-{TRACE}-{SPAN}-01-more"));
    }

    #[test]
    fn the_version_is_two_hex_digits_and_a_dash() {
        for version in [".0", "0.", "0", "000", "0000", "", "FE", "0x"] {
            refused(&format!("{version}-{TRACE}-{SPAN}-01"));
        }
        refused(&format!("00_{TRACE}-{SPAN}-01"));
    }

    #[test]
    fn zero_ids_are_refused() {
        refused(&format!("00-{}-{SPAN}-01", "0".repeat(32)));
        refused(&format!("00-{TRACE}-{}-01", "0".repeat(16)));
    }

    #[test]
    fn upper_case_digits_are_refused() {
        refused(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()));
        refused(&format!("00-{TRACE}-{}-01", SPAN.to_uppercase()));
        refused(&format!("00-{TRACE}-{SPAN}-0A"));
    }

    #[test]
    fn every_other_byte_at_every_place_is_refused() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        for place in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut text = good.clone().into_bytes();
                let allowed = match text[place] {
                    b'-' => byte == b'-',
                    _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                };
                text[place] = byte;
                assert_eq!(TraceParent::parse(&text).is_some(), allowed, "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn ids_too_long_or_too_short_are_refused() {
        refused(&format!("00-{TRACE}3-{SPAN}-01"));
        refused(&format!("00-{}-{SPAN}-01", &TRACE[1..]));
        refused(&format!("00-{TRACE}-{SPAN}7-01"));
        refused(&format!("00-{TRACE}-{}-01", &SPAN[1..]));
        refused(&format!("00-{TRACE}-{SPAN}-001"));
    }

    #[test]
    fn blanks_and_tabs_around_the_value_are_cut_off() {
        let expected = valid(&format!("00-{TRACE}-{SPAN}-01"));
        for (before, after) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
            assert_eq!(valid(&format!("{before}00-{TRACE}-{SPAN}-01{after}")), expected);
        }
        refused(&format!("00 -{TRACE}-{SPAN}-01"));
    }

    #[test]
    fn only_the_sampled_and_random_flags_are_passed_on() {
        for bits in 0..=u8::MAX {
            let parent = valid(&format!("00-{TRACE}-{SPAN}-{bits:02x}"));
            assert_eq!(parent.flags.to_u8(), bits & 0x03);
            let loud = TraceParent { flags: TraceFlags::new(bits), ..parent };
            assert_eq!(loud.to_string(), format!("00-{TRACE}-{SPAN}-{:02x}", bits & 0x03));
        }
    }

    #[test]
    fn a_later_version_is_passed_on_as_version_zero() {
        assert_eq!(valid(&format!("cc-{TRACE}-{SPAN}-ff-x")).to_string(), format!("00-{TRACE}-{SPAN}-03"));
    }

    #[test]
    fn what_is_printed_parses_back_to_itself() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let parent = TraceParent {
                trace_id: random.u128(1..).into(),
                parent_id: random.u64(1..).into(),
                flags: TraceFlags::new(random.u8(0..4)),
            };
            assert_eq!(TraceParent::parse(&parent.to_bytes()), Some(parent));
        }
    }

    #[test]
    fn a_span_context_carries_it_there_and_back() {
        let parent = valid(&format!("00-{TRACE}-{SPAN}-03"));
        let context = parent.span_context(None);
        assert!(context.is_remote() && context.is_sampled() && context.is_valid());
        assert_eq!(TraceParent::from_span_context(&context), Some(parent));
        assert_eq!(TraceParent::from_span_context(&SpanContext::NONE), None);
    }
}
