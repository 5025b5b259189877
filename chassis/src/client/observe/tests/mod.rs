#![allow(clippy::unwrap_used)]

mod agreement;
mod support;

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use opentelemetry::{
    Context as OtelContext,
    trace::{SpanContext, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId},
};
use tokio::{
    net::TcpListener,
    time::{Instant, advance},
};
use tower_layer::Layer;
use tower_service::Service;

use self::support::*;
use super::*;
use crate::{
    client::{NotSent, TimedOut},
    context::Entered,
    error::BoxError,
    testing::ReceivedSpan,
};

#[tokio::test]
async fn a_call_that_is_tried_twice_is_one_span_with_a_child_for_each_time_on_the_wire() {
    let (address, seen, _serving) = flaky_server().await;
    let fixture = Fixture::sampled().await;
    let endpoint = Arc::new(EndpointStats::new(&Endpoint::at("localhost", address.port())));
    let mut service = fixture.around(Boxed(pool()), &endpoint);
    let request = get(&format!("http://localhost:{}/items/7?secret=x", address.port()));
    let answer = service.call(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap();
    let spans = fixture.spans().await;
    let [first, second, call] = &spans[..] else { panic!("{spans:#?}") };

    assert_eq!((call.name.as_str(), &call.kind), ("inventory GET /items/{id}", &SpanKind::Internal));
    assert_eq!((call.parent_span_id, &call.status), (None, &Status::Unset), "it starts the trace");
    assert_eq!(call.attributes["chassis.client.destination"], "inventory");
    assert_eq!(call.attributes["chassis.client.outcome"], "success");
    assert_eq!(call.attributes["chassis.client.attempts"], 2);

    for attempt in [first, second] {
        assert_eq!((attempt.name.as_str(), &attempt.kind), ("GET /items/{id}", &SpanKind::Client));
        assert_eq!((attempt.trace_id, attempt.parent_span_id), (call.trace_id, Some(call.span_id)));
        assert_eq!(attempt.attributes["server.address"], "inventory");
        assert_eq!(attempt.attributes["url.template"], "/items/{id}");
        let url = format!("http://localhost:{}/items/7", address.port());
        assert_eq!(attempt.attributes["url.full"], url, "without the query");
        assert_eq!(attempt.attributes["network.peer.address"], "127.0.0.1", "the address that was reached");
        assert_eq!(attempt.attributes["network.peer.port"], i64::from(address.port()));
        assert!(call.start_time <= attempt.start_time && attempt.end_time <= call.end_time);
    }
    assert_eq!((first.status.clone(), &first.attributes["error.type"]), (Status::error(""), &"503".into()));
    assert_eq!(first.attributes.get("http.request.resend_count"), None);
    assert_eq!((&second.status, second.attributes.get("error.type")), (&Status::Unset, None));
    assert_eq!(second.attributes["http.request.resend_count"], 1);
    assert_eq!(second.attributes["network.protocol.version"], "2");

    // Each server span becomes the child of the attempt that reached it.
    let seen = seen.lock().unwrap().clone();
    let parents: Vec<_> = seen.iter().map(parent_sent).collect();
    assert_eq!(parents, [first.span_id.to_string(), second.span_id.to_string()]);
    assert!(seen.iter().flatten().all(|parent| parent.contains(&call.trace_id.to_string())));

    let names = |span: &ReceivedSpan| span.events.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let made = ["http.connect.start", "http.dns.start", "http.dns.done", "http.connect.done", "http.receive.start"];
    assert_eq!(names(first), made);
    assert_eq!(names(second), ["http.receive.start"], "it found a connection");
    let times: Vec<SystemTime> = first.events.iter().map(|(_, at)| *at).collect();
    assert!(times.is_sorted() && first.start_time <= times[0] && times[4] <= first.end_time);
}

#[tokio::test]
async fn one_call_of_two_attempts_is_counted_as_one_call_and_two_attempts() {
    let fixture = Fixture::unsampled().await;
    let endpoint = nowhere();
    let mut service = fixture.around(Script::of([status(503), status(200)]), &endpoint);
    service.call(get("http://inventory/items/7")).await.unwrap();
    let calls = |labels: &[&str]| fixture.count("chassis_client_call_duration_seconds_count", labels);
    let method = "method=\"GET /items/{id}\"";
    assert_eq!(calls(&[]), 1.0);
    assert_eq!(calls(&["destination=\"inventory\"", method, "outcome=\"success\""]), 1.0);
    let attempts = |labels: &[&str]| fixture.count("http_client_request_duration_seconds_count", labels);
    let port = format!("server_port=\"{}\"", endpoint.endpoint().port);
    assert_eq!(attempts(&["server_address=\"inventory\"", &port]), 2.0);
    assert_eq!(attempts(&["status_code=\"503\"", "error_type=\"503\""]), 1.0);
    let counts = endpoint.counts();
    assert_eq!((counts.attempts, counts.active, counts.failed, counts.success), (2, 0, 1, 1));
    assert!(endpoint.latency().is_some());
}

#[tokio::test]
async fn the_last_error_of_an_endpoint_leads_to_its_trace() {
    let fixture = Fixture::unsampled().await;
    let endpoint = nowhere();
    let script = Script::of([status(503), Err("the peer hung up".into())]);
    let _entered = Entered::enter(served(TraceFlags::default()));
    fixture.around(script, &endpoint).call(get("http://inventory/items/7")).await.unwrap_err();
    let error = endpoint.last_error().unwrap();
    assert_eq!((error.message.as_str(), error.trace_id), ("the peer hung up", TraceId::from(7)));
    endpoint.failed("é".repeat(1000), TraceId::from(7));
    let message = endpoint.last_error().unwrap().message;
    assert!(message.len() <= 243 && message.ends_with("é…"), "{message}");
}

#[tokio::test]
async fn attempts_that_are_not_sampled_make_no_span_and_have_ids_of_their_own() {
    let fixture = Fixture::sampled().await;
    let script = Script::of([status(503), status(200), status(200)]);
    {
        let _entered = Entered::enter(served(TraceFlags::default()));
        let mut service = fixture.around(script.clone(), &nowhere());
        service.call(get("http://inventory/items/7")).await.unwrap();
        service.call(get("http://inventory/items/8")).await.unwrap();
    }
    let sent = script.asked("traceparent");
    let trace = format!("00-{:032x}-", 7);
    assert!(sent.iter().flatten().all(|sent| sent.starts_with(&trace) && sent.ends_with("-00")), "{sent:?}");
    let ids: std::collections::HashSet<_> = sent.iter().map(parent_sent).chain([format!("{:016x}", 9)]).collect();
    assert_eq!(ids.len(), 4, "a retry and a second call, and the request being served: {sent:?}");
    assert_eq!(fixture.spans().await, []);
}

#[tokio::test]
async fn what_came_with_the_request_being_served_travels_on() {
    let fixture = Fixture::unsampled().await;
    let script = Script::of([status(200), status(200)]);
    let came = HeaderMap::from_iter([
        (http::HeaderName::from_static("x-request-priority"), HeaderValue::from_static("critical")),
        (http::HeaderName::from_static("x-caller-service"), HeaderValue::from_static("shop")),
        (http::HeaderName::from_static("baggage"), HeaderValue::from_static("tenant=blue")),
    ]);
    let mut context = served(TraceFlags::default());
    let inner = Arc::get_mut(&mut context.0).unwrap();
    inner.caller = crate::context::Caller::read(&came, Protocol::Http);
    inner.baggage = propagation::extract_baggage(&came, Formats::default());
    inner.trace.state = Some(crate::telemetry::propagation::TraceState::parse(b"rojo=1").unwrap());
    let mut service = fixture.around(script.clone(), &nowhere());
    let mut with_agent = get("http://inventory/items/7");
    with_agent.headers_mut().insert("user-agent", HeaderValue::from_static("mine/1"));
    // In the request's extensions it is found in any task.
    with_agent.extensions_mut().insert(context.clone());
    service.call(with_agent).await.unwrap();
    let _entered = Entered::enter(context);
    service.call(get("http://inventory/items/7")).await.unwrap();
    for (header, value) in [
        ("x-request-priority", "critical"),
        ("baggage", "tenant=blue"),
        ("tracestate", "rojo=1"),
        ("x-caller-service", "orders"),
    ] {
        assert_eq!(script.asked(header), [Some(value.to_owned()), Some(value.to_owned())], "{header}");
    }
    assert_eq!(script.asked("user-agent"), [Some("mine/1".to_owned()), Some("orders/1.2.3".to_owned())]);
}

#[tokio::test]
async fn a_call_of_background_work_starts_a_trace_as_the_sampler_says_or_goes_on_with_the_span_around_it() {
    let fixture = Fixture::unsampled().await;
    let script = Script::of([status(200), status(200)]);
    let mut service = fixture.around(script.clone(), &nowhere());
    service.call(get("http://inventory/items/7")).await.unwrap();
    let sent = script.asked("traceparent")[0].clone().unwrap();
    assert!(sent.len() == 55 && sent.ends_with("-02"), "a random trace that nobody records: {sent}");

    let around = SpanContext::new(TraceId::from(5), SpanId::from(6), TraceFlags::SAMPLED, false, Default::default());
    {
        let _attached = OtelContext::new().with_remote_span_context(around).attach();
        service.call(get("http://inventory/items/7")).await.unwrap();
    }
    let spans = fixture.spans().await;
    let [attempt, call] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((call.trace_id, call.parent_span_id), (TraceId::from(5), Some(SpanId::from(6))));
    assert_eq!(parent_sent(&script.asked("traceparent")[1]), attempt.span_id.to_string());
}

#[tokio::test(start_paused = true)]
async fn over_grpc_an_attempt_and_its_call_last_until_the_trailers_and_are_what_these_say() {
    let fixture = Fixture::sampled().await;
    let endpoint = nowhere();
    for (trailers, code, outcome) in
        [(Some("0"), "OK", "success"), (Some("5"), "NOT_FOUND", "success"), (Some("14"), "UNAVAILABLE", "failed")]
    {
        let answer = fixture.around(Script::of([message(trailers)]), &endpoint).call(rpc()).await.unwrap();
        advance(Duration::from_secs(3)).await;
        assert_eq!(endpoint.counts().active, 1, "the head is not the end");
        answer.into_body().collect().await.unwrap();
        assert_eq!(endpoint.counts().active, 0);
        let label = format!("rpc_response_status_code=\"{code}\"");
        let took = fixture.count("rpc_client_call_duration_seconds_sum", &["Inventory/Reserve", &label]);
        assert!((3.0..3.1).contains(&took), "{code}: {took}");
        let label = format!("outcome=\"{outcome}\"");
        let method = "method=\"inventory.v1.Inventory/Reserve\"";
        assert!(fixture.count("chassis_client_call_duration_seconds_sum", &[method, &label]) >= 3.0, "{code}");
    }
    let spans = fixture.spans().await;
    let attempt = spans.iter().find(|span| span.attributes["rpc.response.status_code"] == "NOT_FOUND").unwrap();
    assert_eq!((attempt.name.as_str(), &attempt.kind), ("inventory.v1.Inventory/Reserve", &SpanKind::Client));
    assert_eq!(attempt.attributes["rpc.system.name"], "grpc");
    assert_eq!(attempt.attributes["error.type"], "NOT_FOUND", "to the one who asked, it is an error");
}

#[tokio::test]
async fn a_stream_over_grpc_that_ends_without_trailers_has_failed() {
    let fixture = Fixture::unsampled().await;
    let endpoint = nowhere();
    let answer = fixture.around(Script::of([message(None)]), &endpoint).call(rpc()).await.unwrap();
    answer.into_body().collect().await.unwrap();
    let labels = ["rpc_response_status_code=\"UNKNOWN\"", "error_type=\"broken_off\""];
    assert_eq!(fixture.count("rpc_client_call_duration_seconds_count", &labels), 1.0);
    assert_eq!(fixture.count("chassis_client_call_duration_seconds_count", &["outcome=\"failed\""]), 1.0);
    assert_eq!(endpoint.counts().failed, 1);
}

#[tokio::test]
async fn an_attempt_that_finds_no_connection_says_how_far_it_came() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let fixture = Fixture::sampled().await;
    let endpoint = endpoint(closed);
    let attempt = AttemptLayer::new(Arc::clone(&fixture.observer), Arc::clone(&endpoint)).layer(Boxed(pool()));
    let mut service = CallLayer::new(Arc::clone(&fixture.observer)).layer(attempt);
    service.call(get(&format!("http://{closed}/items/7"))).await.unwrap_err();
    assert_eq!(endpoint.counts().unreachable, 1);
    assert!(endpoint.last_error().unwrap().message.contains("refused"), "{:?}", endpoint.last_error());
    let spans = fixture.spans().await;
    let [attempt, call] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((&attempt.attributes["error.type"], &attempt.status), (&"unreachable".into(), &Status::error("")));
    assert_eq!(attempt.attributes.get("http.response.status_code"), None);
    assert_eq!(attempt.events.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["http.connect.start"]);
    assert_eq!(call.attributes["chassis.client.outcome"], "unreachable");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_was_cancelled_unless_its_time_was_up() {
    let fixture = Fixture::unsampled().await;
    let endpoint = nowhere();
    let count = |outcome: &str| {
        fixture.count("chassis_client_call_duration_seconds_count", &[&format!("outcome=\"{outcome}\"")])
    };
    drop(fixture.around(Script::silent(), &endpoint).call(get("http://inventory/items/7")));
    // The attempt was never begun: its layer was not reached.
    assert_eq!((count("cancelled"), endpoint.counts().attempts), (1.0, 0));

    let mut late = get("http://inventory/items/7");
    late.extensions_mut().get_mut::<CallInfo>().unwrap().deadline = Some(Instant::now() + Duration::from_secs(1));
    let call = fixture.around(Script::silent(), &endpoint).call(late);
    tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_err();
    assert_eq!((count("cancelled"), count("timed_out")), (1.0, 1.0));
    let counts = endpoint.counts();
    assert_eq!((counts.cancelled, counts.timed_out, counts.active), (1, 0, 0), "no timer of the stack has ended it");
    assert_eq!(fixture.count("http_client_request_duration_seconds_count", &["error_type=\"timed_out\""]), 1.0);

    let call = fixture.around(Script::silent(), &endpoint).call(get("http://inventory/items/7"));
    tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_err();
    assert_eq!(endpoint.counts().cancelled, 2, "a caller that gives up before says nothing of the endpoint");
}

#[tokio::test]
async fn an_answer_dropped_half_read_is_what_its_head_said_and_one_that_broke_off_has_failed() {
    let fixture = Fixture::unsampled().await;
    let body = |items| Ok(Response::new(Body::new(StreamBody::new(tokio_stream_of(items)))));
    let data = || Some(Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))));
    let count = |outcome: &str| {
        fixture.count("chassis_client_call_duration_seconds_count", &[&format!("outcome=\"{outcome}\"")])
    };
    let script = Script::of([body([data(), data()]), body([data(), Some(Err("reset".into()))])]);
    let mut service = fixture.around(script, &nowhere());
    drop(service.call(get("http://inventory/items/7")).await.unwrap());
    assert_eq!(count("success"), 1.0);
    service.call(get("http://inventory/items/7")).await.unwrap().into_body().collect().await.unwrap_err();
    assert_eq!((count("success"), count("failed")), (1.0, 1.0));
    // The conventions' metric ends with the head.
    assert_eq!(fixture.count("http_client_request_duration_seconds_count", &["status_code=\"200\""]), 2.0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_rest_does_not_come_in_time_has_timed_out_unless_it_may_take_its_time() {
    let fixture = Fixture::unsampled().await;
    let count = |outcome: &str| {
        fixture.count("chassis_client_call_duration_seconds_count", &[&format!("outcome=\"{outcome}\"")])
    };
    for (streamed, expected) in [(false, (0.0, 1.0)), (true, (1.0, 1.0))] {
        let part = Some(Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))));
        let script = Script::of([Ok(Response::new(Body::new(StreamBody::new(tokio_stream_of([part])))))]);
        let mut request = get("http://inventory/items/7");
        CallInfo::with(&mut request, |info| {
            info.deadline = Some(Instant::now() + Duration::from_secs(1));
            info.passage.streamed = streamed;
        });
        let response = fixture.around(script, &nowhere()).call(request).await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(response);
        assert_eq!((count("success"), count("timed_out")), expected);
    }
}

#[tokio::test]
async fn what_is_held_back_is_counted_by_its_cause_and_no_attempt_is() {
    let fixture = Fixture::unsampled().await;
    let refused = Script::of([Err(NotSent::new(Cause::CircuitOpen).into())]);
    let mut service = CallLayer::new(Arc::clone(&fixture.observer)).layer(refused);
    service.call(get("http://inventory/items/7")).await.unwrap_err();
    let levels = fixture.observer.levels();
    assert_eq!(&*levels.destination, "inventory");
    let shown = [("deadline_exceeded", 0), ("circuit_open", 1), ("bulkhead_full", 0), ("no_endpoints", 0)];
    assert_eq!(levels.refused, shown);
    assert_eq!(fixture.count("chassis_client_call_duration_seconds_count", &["outcome=\"circuit_open\""]), 1.0);
    assert_eq!(fixture.count("http_client_request_duration_seconds_count", &[]), 0.0);
}

#[test]
fn a_call_that_fails_is_one_line_with_all_that_is_known_of_it() {
    let lines = lines_of(async {
        let fixture = Fixture::unsampled().await;
        let script = Script::of([status(503), Err(TimedOut.into()), status(200), status(404)]);
        let mut service = fixture.around(script, &nowhere());
        let _entered = Entered::enter(served(TraceFlags::default()));
        service.call(get("http://inventory/items/7")).await.unwrap_err();
        service.call(get("http://inventory/items/7")).await.unwrap();
        service.call(get("http://inventory/items/7")).await.unwrap();
    });
    let [line] = &lines[..] else { panic!("{lines:#?}") };
    assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"a call out failed".into()));
    for (field, value) in [
        ("destination", "inventory"),
        ("method", "GET /items/{id}"),
        ("outcome", "timed_out"),
        ("peer", "127.0.0.1:9"),
        ("error", "no answer within the time"),
        ("trace_id", "00000000000000000000000000000007"),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert_eq!((&line["attempts"], line["duration_seconds"].is_number()), (&2.into(), true));
}

#[test]
fn a_storm_of_failures_is_ten_lines_a_second_and_the_next_says_how_many_were_left_out() {
    let lines = lines_of(async {
        let fixture = Fixture::unsampled().await;
        let refuse = || Err(NotSent::new(Cause::NoEndpoints).into());
        let script = Script::of((0..26).map(|_| refuse()));
        let mut service = CallLayer::new(Arc::clone(&fixture.observer)).layer(script);
        for _ in 0..25 {
            service.call(get("http://inventory/items/7")).await.unwrap_err();
        }
        advance(Duration::from_secs(1)).await;
        service.call(get("http://inventory/items/7")).await.unwrap_err();
    });
    assert_eq!(lines.len(), 11);
    assert_eq!((&lines[9]["held_back"], &lines[10]["held_back"]), (&serde_json::Value::Null, &15.into()));
}

#[test]
fn a_breaker_that_changes_is_one_line_and_one_count() {
    let lines = lines_of(async {
        let fixture = Fixture::unsampled().await;
        fixture.observer.breaker_changed(&Endpoint::at("10.0.0.1", 80), "open", "5 of 5 failed");
        fixture.observer.breaker_changed(&Endpoint::at("10.0.0.1", 80), "closed", "a probe succeeded");
        let transitions = fixture.observer.levels().transitions;
        assert_eq!(transitions.iter().filter(|(_, count)| *count == 1).count(), 2);
    });
    let shown: Vec<_> = lines.iter().map(|line| (line["level"].as_str(), line["peer"].as_str())).collect();
    assert_eq!(shown, [(Some("WARN"), Some("10.0.0.1:80")), (Some("INFO"), Some("10.0.0.1:80"))]);
}

#[tokio::test]
async fn methods_beyond_the_limit_share_one_series() {
    let fixture = Fixture::unsampled().await;
    let call = |path: String| {
        let uri: Uri = path.parse().unwrap();
        let request = Request::builder().method(Method::POST).uri(uri).header("content-type", "application/grpc");
        fixture.observer.called(&request.body(()).unwrap(), None)
    };
    for method in 0..MAX_METHODS {
        assert_eq!(&*call(format!("http://inventory/a.B/M{method}")).name, format!("a.B/M{method}"));
    }
    assert_eq!(&*call("http://inventory/a.B/One".to_owned()).name, "_OTHER");
    // A reader is in nobody's way: held here, a writer would wait for ever.
    let reading = fixture.observer.methods[METHODS.len()].read().unwrap();
    std::thread::scope(|scope| {
        let (told, tells) = std::sync::mpsc::sync_channel(1);
        let call = &call;
        scope.spawn(move || told.send(call("http://inventory/a.B/Two".to_owned()).name.clone()));
        let name = tells.recv_timeout(Duration::from_secs(60));
        drop(reading);
        assert_eq!(name.as_deref(), Ok("_OTHER"));
    });
    assert!(Arc::ptr_eq(&call("http://inventory/a.B/M0".to_owned()), &call("http://inventory/a.B/M0".to_owned())));
}
