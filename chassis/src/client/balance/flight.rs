//! One call under way, and what it says of its endpoint.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response, StatusCode};
use tonic::Code;

use super::{
    super::{
        Outcome, RequestBody,
        body::{Watch, WatchedBody},
        facts::Facts,
        hurry::{Dropped, Rest, excuses_error},
        outcome::code_in,
        problem::retry_after,
    },
    load::Ewma,
    set::{Gauged, Node},
};
use crate::{clock::now, context::Protocol, error::BoxError};

/// The longest penalty that an endpoint's own word is taken for: 300 s, as Linkerd's.
const MAX_PENALTY: Duration = Duration::from_secs(300);

/// One call under way, as the load of its endpoint counts it. Dropped before the answer's head, it counts as having taken at
/// least the time until then.
pub struct Flight {
    node: Arc<dyn Gauged>,
    started: Instant,
    ewma: Ewma,
    protocol: Protocol,
    /// The answer has not begun.
    waiting: bool,
    /// Trailers are to say how it went.
    owed: bool,
    /// How it went is known, or will not be.
    done: bool,
    rest: Rest,
}

impl Flight {
    pub(super) fn start<S>(node: Arc<Node<S>>, now: Instant, ewma: Ewma, request: &Request<RequestBody>) -> Self
    where
        S: Send + Sync + 'static,
    {
        node.gauge.start(now);
        let call = Facts::of(request);
        let (protocol, rest) = (call.protocol, Rest::of(&call));
        Self { node, started: now, ewma, protocol, waiting: true, owed: false, done: false, rest }
    }

    pub(super) fn answered<B>(mut self, response: Response<B>) -> Response<WatchedBody<B, Self>>
    where
        B: http_body::Body,
    {
        let outcome = Outcome::of_head(self.protocol, &response);
        if refuses(response.status(), response.headers()) {
            self.node.gauge().refuse(now());
        }
        if self.rest.head(&response) {
            (self.waiting, self.done) = (false, true);
            self.node.gauge().head(now());
            self.lasted();
        } else {
            self.owed = outcome.is_none();
            self.done = !matches!(outcome, None | Some(Outcome::Success));
            self.came_to(outcome.unwrap_or(Outcome::Success), || pushback(response.headers()));
        }
        response.map(|body| WatchedBody::new(body, self))
    }

    pub(super) fn failed(mut self, error: &BoxError) {
        self.done = true;
        // Dropped, it counts as one that was given up.
        if !excuses_error(error) {
            self.came_to(Outcome::of_error(error), || None);
        }
    }

    /// It took this long, at least.
    fn lasted(&self) {
        let now = now();
        self.node.gauge().record_at_least(now, now.saturating_duration_since(self.started), &self.ewma);
    }

    /// The head of the answer, or none: what it says of the endpoint.
    fn came_to(&mut self, outcome: Outcome, pushback: impl FnOnce() -> Option<Duration>) {
        self.waiting = false;
        let now = now();
        let elapsed = now.saturating_duration_since(self.started);
        let gauge = self.node.gauge();
        match outcome {
            // Held back on this side: nothing is known of the endpoint.
            Outcome::Refused(_) => gauge.abandon(),
            // It stops, or a proxy ends an old connection: it is neither slow nor at fault, and not the faster for it.
            Outcome::Untouched => {
                self.node.refresh().ask();
                gauge.abandon();
                gauge.record_at_least(now, elapsed, &self.ewma);
            }
            Outcome::Success => {
                gauge.head(now);
                gauge.record(now, elapsed, &self.ewma);
            }
            Outcome::Failed | Outcome::TimedOut | Outcome::Throttled | Outcome::Unreachable => {
                // No answer in time is no sign of life.
                if outcome == Outcome::TimedOut {
                    gauge.unanswered(now, elapsed);
                    gauge.abandon();
                } else {
                    if outcome == Outcome::Unreachable {
                        gauge.refuse(now);
                        self.node.refresh().ask();
                    }
                    gauge.head(now);
                }
                let pushback = pushback().map(|wait| wait.min(MAX_PENALTY));
                gauge.record_failure(now, elapsed.max(self.penalty(pushback)), pushback, &self.ewma);
            }
        }
    }

    /// What the endpoint asks for, and never less than any failure costs: "come back at once" does not undo the failure.
    fn penalty(&self, pushback: Option<Duration>) -> Duration {
        pushback.unwrap_or_default().max(self.ewma.failure_penalty)
    }

    /// The answer began well and ended badly.
    fn ended_badly(&self, pushback: Option<Duration>) {
        let pushback = pushback.map(|wait| wait.min(MAX_PENALTY));
        self.node.gauge().record_failure(now(), self.penalty(pushback), pushback, &self.ewma);
    }
}

/// Returns whether the endpoint turned the call away because it has too much to do, as far as it says so: 429 and 503,
/// RESOURCE_EXHAUSTED and UNAVAILABLE.
fn refuses(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        || matches!(code_in(headers), Some(Code::ResourceExhausted | Code::Unavailable))
}

/// How long the endpoint asks to be left alone: gRPC's word (gRFC A6), else HTTP's.
fn pushback(headers: &HeaderMap) -> Option<Duration> {
    let millis = headers.get("grpc-retry-pushback-ms").and_then(|value| value.to_str().ok()?.parse().ok());
    millis.map(Duration::from_millis).or_else(|| retry_after(headers))
}

impl Watch for Flight {
    fn data(&mut self) {
        self.rest.data();
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if self.owed {
            (self.owed, self.done) = (false, true);
            if refuses(StatusCode::OK, trailers) {
                self.node.gauge().refuse(now());
            }
            if self.rest.excuses(trailers) {
                self.lasted();
            } else if matches!(Outcome::of_trailers(trailers), Outcome::Failed | Outcome::Throttled) {
                self.ended_badly(pushback(trailers));
            }
        }
    }

    fn complete(mut self) {
        self.done = true;
        // A gRPC answer without a status was cut short.
        if self.owed {
            self.ended_badly(None);
        }
    }

    fn broke_off(mut self, _: Option<&(dyn std::error::Error + 'static)>) {
        self.done = true;
        self.ended_badly(None);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let gauge = self.node.gauge();
        if self.waiting {
            gauge.abandon();
            self.lasted();
        } else if !self.done {
            match self.rest.dropped(now()) {
                Dropped::InTime => {}
                Dropped::Late => self.ended_badly(None),
                Dropped::Hurried => self.lasted(),
            }
        }
        gauge.end();
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("started", &self.started).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}
