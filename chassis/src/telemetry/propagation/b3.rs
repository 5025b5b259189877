//! The B3 headers, as the openzipkin `b3-propagation` specification has them.
//!
//! Both forms are read, the single `b3` header first; which one is written is configured (OpenTelemetry specification,
//! "Propagators API", B3 requirements). A 64-bit trace id is padded with zeros on the left. "Debug" is read as
//! "sampled". The caller's own parent (`x-b3-parentspanid`) is neither used nor written: spans are not shared between
//! the two sides of a call.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use super::{Remote, TraceParent, traceparent::hex, trim_ows};

static SINGLE: HeaderName = HeaderName::from_static("b3");
static TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
static SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
static PARENT_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
static SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
static FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

pub(super) fn extract(headers: &HeaderMap) -> Option<Remote> {
    read_single(headers).or_else(|| read_multi(headers))
}

/// `{trace}-{span}[-{state}][-{parent}]`. A lone state (`b3: 0`) names no trace and is not read.
fn read_single(headers: &HeaderMap) -> Option<Remote> {
    let mut fields = text(headers, &SINGLE)?.split(|byte| *byte == b'-');
    let trace_id = trace_id(fields.next()?)?;
    let span_id = span_id(fields.next()?)?;
    let mut field = fields.next();
    let mut sampled = None;
    if let Some([state]) = field {
        sampled = Some(match state {
            b'1' | b'd' => true,
            b'0' => false,
            _ => return None,
        });
        field = fields.next();
    }
    if let Some(parent) = field {
        self::span_id(parent)?;
    }
    fields.next().is_none().then(|| remote(trace_id, span_id, sampled))
}

fn read_multi(headers: &HeaderMap) -> Option<Remote> {
    let trace_id = trace_id(text(headers, &TRACE_ID)?)?;
    let span_id = span_id(text(headers, &SPAN_ID)?)?;
    let debug = text(headers, &FLAGS) == Some(b"1");
    let sampled = match text(headers, &SAMPLED) {
        _ if debug => Some(true),
        None => None,
        // Tracers from before the specification wrote words; it lets a reader accept them.
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        Some(_) => return None,
    };
    Some(remote(trace_id, span_id, sampled))
}

pub(super) fn write_single(headers: &mut HeaderMap, parent: &TraceParent) {
    let [_, _, _, ids @ .., _, _, _] = parent.to_bytes();
    let mut text = [b'-'; 51];
    text[..ids.len()].copy_from_slice(&ids);
    text[50] = state(parent);
    set(headers, &SINGLE, &text);
}

pub(super) fn write_multi(headers: &mut HeaderMap, parent: &TraceParent) {
    let text = parent.to_bytes();
    set(headers, &TRACE_ID, &text[3..35]);
    set(headers, &SPAN_ID, &text[36..52]);
    set(headers, &SAMPLED, &[state(parent)]);
    // Left over from a request that is being forwarded, these would contradict what was just written.
    headers.remove(&PARENT_SPAN_ID);
    headers.remove(&FLAGS);
}

fn state(parent: &TraceParent) -> u8 {
    if parent.flags.is_sampled() { b'1' } else { b'0' }
}

fn set(headers: &mut HeaderMap, name: &'static HeaderName, text: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(text) {
        headers.insert(name, value);
    }
}

/// "When extracting state headers, the first value wins."
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(|value| trim_ows(value.as_bytes()))
}

fn trace_id(text: &[u8]) -> Option<TraceId> {
    let (high, low) = text.split_last_chunk::<16>()?;
    let high = if high.is_empty() { 0 } else { hex(high.try_into().ok()?)? };
    let id = (u128::from(high) << 64) | u128::from(hex(low)?);
    (id != 0).then(|| id.into())
}

fn span_id(text: &[u8]) -> Option<SpanId> {
    let id = hex(text.try_into().ok()?)?;
    (id != 0).then(|| id.into())
}

fn remote(trace_id: TraceId, parent_id: SpanId, sampled: Option<bool>) -> Remote {
    let flags = TraceFlags::default().with_sampled(sampled.unwrap_or_default());
    Remote { parent: TraceParent { trace_id, parent_id, flags }, state: None, deferred: sampled.is_none() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    fn read(pairs: &[(&'static str, &str)]) -> Option<Remote> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        extract(&headers)
    }

    fn single(value: &str) -> Option<Remote> {
        read(&[("b3", value)])
    }

    #[test]
    fn the_single_header_gives_ids_and_decision() {
        let remote = single(&format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90")).expect("a full header");
        assert_eq!(remote.parent.trace_id.to_string(), TRACE);
        assert_eq!(remote.parent.parent_id.to_string(), SPAN);
        assert!(remote.parent.flags.is_sampled());
        for (state, sampled) in [("1", true), ("d", true), ("0", false)] {
            let remote = single(&format!("{TRACE}-{SPAN}-{state}")).expect(state);
            assert_eq!(remote.decision().map(|flags| flags.is_sampled()), Some(sampled), "{state}");
        }
    }

    #[test]
    fn a_missing_decision_is_left_to_the_receiver() {
        for value in [format!("{TRACE}-{SPAN}"), format!("{TRACE}-{SPAN}-05e3ac9a4f6e3b90")] {
            let remote = single(&value).expect("ids alone");
            assert!(remote.deferred);
            assert_eq!(remote.decision(), None);
        }
        let remote = read(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)]).expect("ids alone");
        assert_eq!(remote.decision(), None);
    }

    #[test]
    fn a_short_trace_id_is_padded_on_the_left_and_not_called_random() {
        let remote = single(&format!("64fe8b2a57d3eff7-{SPAN}-1")).expect("a 64-bit trace id");
        assert_eq!(remote.parent.trace_id.to_string(), "000000000000000064fe8b2a57d3eff7");
        assert_eq!(remote.parent.flags, TraceFlags::SAMPLED);
    }

    #[test]
    fn a_broken_single_header_is_ignored() {
        let zeros = "0".repeat(32);
        for value in [
            "0".to_owned(),
            String::new(),
            TRACE.to_owned(),
            format!("{TRACE}-"),
            format!("{TRACE}-{SPAN}-"),
            format!("{TRACE}-{SPAN}-2"),
            format!("{TRACE}-{SPAN}-1-"),
            format!("{TRACE}-{SPAN}-1-{SPAN}-1"),
            format!("{}-{SPAN}-1", TRACE.to_uppercase()),
            format!("{}-{SPAN}-1", &TRACE[1..]),
            format!("{zeros}-{SPAN}-1"),
            format!("{TRACE}-{}-1", &zeros[..16]),
        ] {
            assert_eq!(single(&value), None, "{value:?}");
        }
    }

    #[test]
    fn several_headers_give_ids_and_decision() {
        for (state, sampled) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            let remote = read(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", state)]);
            assert_eq!(remote.expect(state).parent.flags.is_sampled(), sampled, "{state}");
        }
        assert_eq!(read(&[("x-b3-traceid", TRACE)]), None);
        assert_eq!(read(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "2")]), None);
    }

    #[test]
    fn debug_means_sampled_whatever_else_is_said() {
        let remote =
            read(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "0"), ("x-b3-flags", "1")]);
        assert!(remote.expect("a debug trace").parent.flags.is_sampled());
    }

    #[test]
    fn the_single_header_goes_before_the_several_and_a_broken_one_does_not() {
        let multi = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")];
        let other = format!("{}-{SPAN}-0", "1".repeat(32));
        let both = |value: &str| {
            let mut pairs = vec![("b3", value)];
            pairs.extend(multi);
            read(&pairs).expect("one of them").parent.trace_id.to_string()
        };
        assert_eq!(both(&other), "1".repeat(32));
        assert_eq!(both("broken"), TRACE);
    }

    #[test]
    fn writing_several_headers_removes_what_would_contradict_them() {
        let mut headers = HeaderMap::new();
        headers.insert(&FLAGS, HeaderValue::from_static("1"));
        headers.insert(&PARENT_SPAN_ID, HeaderValue::from_static("05e3ac9a4f6e3b90"));
        let parent = single(&format!("{TRACE}-{SPAN}-0")).expect("a header").parent;
        write_multi(&mut headers, &parent);
        assert_eq!(headers.len(), 3);
        assert_eq!(extract(&headers).map(|remote| remote.parent), Some(parent));
    }

    #[test]
    fn the_single_header_is_written_in_51_bytes() {
        let mut headers = HeaderMap::new();
        let value = format!("{TRACE}-{SPAN}-1");
        let remote = single(&value).expect("a header");
        write_single(&mut headers, &remote.parent);
        assert_eq!(headers[&SINGLE], value);
    }
}
