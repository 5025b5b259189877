//! The rules that show only on whole headers, after the official trace-context test-suite.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, TraceFlags};

use super::*;

const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-00";
const B3: Formats = Formats { b3: true, ..Formats::NONE };
const B3_MULTI: Formats = Formats { b3_multi: true, ..Formats::NONE };

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().expect("a header name");
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
    }
    headers
}

fn w3c(pairs: &[(&str, &str)]) -> Option<Remote> {
    extract(&headers(pairs), Formats::default())
}

fn state_of(states: &[&str]) -> Option<String> {
    let mut pairs = vec![("traceparent", PARENT)];
    pairs.extend(states.iter().map(|state| ("tracestate", *state)));
    let remote = w3c(&pairs).expect("a broken tracestate does no harm to the traceparent");
    assert_eq!(remote.parent.to_string(), PARENT);
    remote.state.map(|state| state.to_string())
}

#[test]
fn no_header_is_no_trace() {
    assert_eq!(w3c(&[]), None);
    assert_eq!(w3c(&[("host", "example"), ("tracestate", "foo=1")]), None);
}

#[test]
fn two_traceparents_are_as_good_as_none() {
    let other = "00-12345678901234567890123456789011-1234567890123456-01";
    assert_eq!(w3c(&[("traceparent", PARENT), ("traceparent", other)]), None);
    assert_eq!(w3c(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
    assert_eq!(w3c(&[("traceparent", PARENT), ("traceparent", "")]), None);
}

#[test]
fn header_names_are_read_in_any_case_and_in_no_other_spelling() {
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert!(w3c(&[(name, PARENT)]).is_some(), "{name}");
    }
    for name in ["trace-parent", "trace.parent"] {
        assert_eq!(w3c(&[(name, PARENT)]), None, "{name}");
    }
    for (name, found) in [("TRACESTATE", true), ("TrAcEsTaTe", true), ("trace-state", false), ("trace.state", false)] {
        let remote = w3c(&[("traceparent", PARENT), (name, "foo=1")]).expect("a traceparent");
        assert_eq!(remote.state.is_some(), found, "{name}");
    }
}

#[test]
fn tracestate_counts_only_beside_a_valid_traceparent() {
    assert_eq!(w3c(&[("traceparent", "00-broken"), ("tracestate", "foo=1")]), None);
}

#[test]
fn a_broken_tracestate_is_dropped_whole_and_the_trace_goes_on() {
    assert_eq!(state_of(&["foo=1", "FOO=2"]), None);
    assert_eq!(state_of(&["foo=1,bar"]), None);
    assert_eq!(state_of(&["foo=1,\u{e9}=2"]), None);
}

#[test]
fn several_tracestates_are_one_list_in_their_order() {
    let expected = "foo=1,bar=2,rojo=1,congo=2,baz=3";
    assert_eq!(state_of(&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"]).as_deref(), Some(expected));
    assert_eq!(state_of(&["foo=1", "foo=2"]).as_deref(), Some("foo=1"));
}

#[test]
fn an_empty_tracestate_beside_another_does_no_harm() {
    assert_eq!(state_of(&[""]), None);
    assert_eq!(state_of(&["", "foo=1"]).as_deref(), Some("foo=1"));
    assert_eq!(state_of(&["foo=1", ""]).as_deref(), Some("foo=1"));
}

#[test]
fn the_limit_of_32_members_holds_for_all_tracestates_together() {
    let list = |from: usize, to: usize| (from..to).map(|n| format!("bar{n:02}={n}")).collect::<Vec<_>>().join(",");
    let whole = list(0, 32);
    assert_eq!(state_of(&[&list(0, 10), &list(10, 32)]), Some(whole));
    assert_eq!(state_of(&[&list(0, 10), &list(10, 33)]), None);
}

#[test]
fn what_is_injected_replaces_what_was_there() {
    let mut headers = headers(&[("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "old=1")]);
    let parent = TraceParent::parse(b"00-12345678901234567890123456789012-00000000000000ab-03").expect("valid");
    inject(&mut headers, &parent, None, Formats::default());
    let remote = Remote { parent, state: None, deferred: false };
    assert_eq!(extract(&headers, Formats::default()), Some(remote));
    assert_eq!(headers.len(), 1);
}

#[test]
fn the_random_flag_is_passed_on_with_the_trace_id() {
    for bits in ["02", "03"] {
        let text = PARENT.replace("-00", &format!("-{bits}"));
        let remote = w3c(&[("traceparent", &text)]).expect("valid");
        assert_eq!(remote.parent.flags & RANDOM_TRACE_ID, RANDOM_TRACE_ID);
        let mut out = HeaderMap::new();
        inject(&mut out, &remote.parent, None, Formats::default());
        assert_eq!(out["traceparent"], text.as_str());
    }
}

#[test]
fn a_zero_id_is_never_sent() {
    let mut out = HeaderMap::new();
    let all = Formats { w3c: true, baggage: true, b3: true, b3_multi: true };
    let parent = TraceParent {
        trace_id: opentelemetry::trace::TraceId::INVALID,
        parent_id: 1.into(),
        flags: TraceFlags::SAMPLED,
    };
    inject(&mut out, &parent, None, all);
    assert!(out.is_empty());
}

#[test]
fn formats_that_are_off_are_neither_read_nor_written() {
    let b3 = "12345678901234567890123456789012-1234567890123456-1";
    let all = headers(&[("traceparent", PARENT), ("b3", b3), ("baggage", "a=1")]);
    assert_eq!(extract(&all, Formats::NONE), None);
    assert_eq!(extract_baggage(&all, Formats::NONE), None);
    assert!(extract(&all, B3).is_some_and(|remote| remote.parent.flags.is_sampled()));
    assert_eq!(extract(&headers(&[("b3", b3)]), Formats::default()), None);
    let mut out = HeaderMap::new();
    let parent = TraceParent::parse(PARENT.as_bytes()).expect("valid");
    inject(&mut out, &parent, None, Formats::NONE);
    inject_baggage(&mut out, &Baggage::from(HeaderValue::from_static("a=1")), B3);
    assert!(out.is_empty());
}

#[test]
fn w3c_goes_before_b3_when_both_are_on() {
    let both = Formats { b3: true, ..Formats::default() };
    let b3 = ("b3", "11111111111111111111111111111111-1234567890123456-1");
    let found =
        |pairs: &[(&str, &str)]| extract(&headers(pairs), both).expect("one of them").parent.trace_id.to_string();
    assert_eq!(found(&[("traceparent", PARENT), b3]), "12345678901234567890123456789012");
    assert_eq!(found(&[("traceparent", "broken"), b3]), "1".repeat(32));
}

#[test]
fn the_propagator_list_is_the_standard_one() {
    let check = |list: &str, expected: Formats| assert_eq!(list.parse(), Ok(expected), "{list:?}");
    check("", Formats::default());
    check("tracecontext,baggage", Formats::default());
    check(" b3 , b3 ", B3);
    check("B3Multi", B3_MULTI);
    check("none", Formats::NONE);
    check("tracecontext,b3", Formats { w3c: true, b3: true, ..Formats::NONE });
}

#[test]
fn an_unknown_propagator_names_the_known_ones() {
    let message = "tracecontext,jaeger".parse::<Formats>().expect_err("jaeger is not known");
    for word in ["jaeger", "tracecontext", "baggage", "b3", "b3multi", "none"] {
        assert!(message.contains(word), "{message}");
    }
    assert!("none,b3".parse::<Formats>().expect_err("none stands alone").contains("none,b3"));
}

#[test]
fn a_span_context_carries_the_remote_there_and_back() {
    let remote = w3c(&[("traceparent", PARENT), ("tracestate", "rojo=1,congo=2")]).expect("valid");
    let context = remote.span_context();
    assert!(context.is_remote());
    assert_eq!(context.trace_state().get("congo"), Some("2"));
    assert_eq!(Remote::from_span_context(&context), Some(remote));
    assert_eq!(Remote::from_span_context(&SpanContext::NONE), None);
}

#[test]
fn random_headers_never_panic_and_what_is_injected_is_extracted_again() {
    let samples = [
        ("traceparent", "cc-12345678901234567890123456789012-1234567890123456-03-x"),
        ("traceparent", PARENT),
        ("tracestate", "rojo=00f067aa0ba902b7, congo=t61 ,,a@b=1"),
        ("b3", "1234567890123456-1234567890123456-d-1234567890123456"),
        ("x-b3-traceid", "12345678901234567890123456789012"),
        ("x-b3-spanid", "1234567890123456"),
        ("x-b3-sampled", "1"),
        ("baggage", "a=1;p=2, b = %C3%A9 ;q,c=3"),
    ];
    let mut random = fastrand::Rng::with_seed(19);
    let mut found = 0;
    for _ in 0..50_000 {
        let mut incoming = HeaderMap::new();
        for (name, text) in samples {
            if random.bool() {
                continue;
            }
            let mut text = text.as_bytes().to_vec();
            for _ in 0..random.usize(0..3) {
                let place = random.usize(..text.len());
                match random.u8(0..3) {
                    0 => text[place] = random.u8(..),
                    1 => text.truncate(place + 1),
                    _ => text.insert(place, random.u8(..)),
                }
            }
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                incoming.append(name, value);
            }
        }
        for formats in [Formats::default(), B3, B3_MULTI] {
            if let Some(baggage) = extract_baggage(&incoming, formats) {
                inject_baggage(&mut HeaderMap::new(), &baggage, formats);
            }
            let Some(remote) = extract(&incoming, formats) else { continue };
            found += 1;
            let mut out = HeaderMap::new();
            inject(&mut out, &remote.parent, remote.state.as_ref(), formats);
            assert_eq!(extract(&out, formats), Some(Remote { deferred: false, ..remote }));
        }
    }
    assert!(found > 10_000, "only {found} were valid, the test proves little");
}
