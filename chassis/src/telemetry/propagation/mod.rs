//! Trace context and baggage across process borders: read from request headers, written to the headers of calls out.
//!
//! The parsers are our own because the specification is followed to the letter, which the OpenTelemetry SDK's propagator
//! does not do: W3C Trace Context level 2 (`traceparent`, `tracestate`), W3C Baggage, and B3 when asked for. All of it
//! is pure and works on a [`HeaderMap`]. A valid `traceparent` costs one look-up, one pass over 55 bytes and no
//! allocation; an absent one costs one look-up.
//!
//! # What is decided where
//!
//! - A broken header is as good as none: a request is never refused for it, it starts a trace of its own.
//! - `tracestate` counts only beside a valid `traceparent`; a broken one is dropped whole and does no harm to the trace.
//! - When W3C and B3 are both on and both present, W3C wins: it says more.
//! - Whether a trace is sampled is not decided here but by the [`Sampler`](crate::telemetry::sampling::Sampler).

mod b3;
mod baggage;
mod traceparent;
mod tracestate;

use std::str::FromStr;

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, TraceFlags};

pub use baggage::{Baggage, BaggageError, Entry, Property};
pub use traceparent::{RANDOM_TRACE_ID, TraceParent};
pub use tracestate::TraceState;

/// The header formats that are read and written, chosen by `OTEL_PROPAGATORS`.
///
/// By default W3C trace context and W3C baggage; B3 is for meshes and services that speak nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// W3C Trace Context: `traceparent` and `tracestate`.
    pub w3c: bool,
    /// W3C Baggage: `baggage`.
    pub baggage: bool,
    /// B3, written as the single `b3` header. Either form is read.
    pub b3: bool,
    /// B3, written as `x-b3-*` headers. Either form is read.
    pub b3_multi: bool,
}

impl Formats {
    /// Nothing is read, nothing is written.
    pub const NONE: Self = Self { w3c: false, baggage: false, b3: false, b3_multi: false };
}

impl Default for Formats {
    /// `tracecontext,baggage`, the default of the OpenTelemetry environment variable specification.
    fn default() -> Self {
        Self { w3c: true, baggage: true, ..Self::NONE }
    }
}

impl FromStr for Formats {
    type Err = String;

    /// Reads the list that `OTEL_PROPAGATORS` holds; an empty one is the default.
    ///
    /// # Errors
    ///
    /// A word that is not known, or `none` beside another word; the message names the known ones.
    fn from_str(list: &str) -> Result<Self, String> {
        let mut formats = Self::NONE;
        let mut words = 0;
        let mut none = false;
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            words += 1;
            match word.to_ascii_lowercase().as_str() {
                "tracecontext" => formats.w3c = true,
                "baggage" => formats.baggage = true,
                "b3" => formats.b3 = true,
                "b3multi" => formats.b3_multi = true,
                "none" => none = true,
                _ => {
                    return Err(format!(
                        "found {word:?}, expected a comma-separated list of tracecontext, baggage, b3, b3multi, or none"
                    ));
                }
            }
        }
        match (words, none) {
            (0, _) => Ok(Self::default()),
            (1, _) | (_, false) => Ok(formats),
            (_, true) => Err(format!("found {list:?}, expected none to stand alone")),
        }
    }
}

/// What the caller said of the trace that this request belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The trace, the caller's span and the caller's flags.
    pub parent: TraceParent,
    /// The caller's `tracestate`; `None` when absent, empty or broken.
    pub state: Option<TraceState>,
    /// The caller gave ids and left the sampling decision to us; only B3 can say so.
    pub deferred: bool,
}

impl Remote {
    /// The caller's sampling decision, as the sampler takes it; `None` when it left the decision to us.
    #[must_use]
    pub fn decision(&self) -> Option<TraceFlags> {
        (!self.deferred).then_some(self.parent.flags)
    }

    /// The same as OpenTelemetry has it: a remote span context, to be the parent of spans made here.
    #[must_use]
    pub fn span_context(&self) -> SpanContext {
        self.parent.span_context(self.state.as_ref())
    }

    /// What OpenTelemetry's span context says, ready to be injected; `None` when the context is not valid.
    #[must_use]
    pub fn from_span_context(context: &SpanContext) -> Option<Self> {
        let parent = TraceParent::from_span_context(context)?;
        Some(Self { parent, state: TraceState::from_otel(context.trace_state()), deferred: false })
    }
}

/// Reads the caller's trace context from the request's headers.
///
/// `None` when there is none, when it is broken, or when there are several `traceparent`s (none of them can be trusted).
#[must_use]
pub fn extract(headers: &HeaderMap, formats: Formats) -> Option<Remote> {
    if formats.w3c
        && let Some(parent) = TraceParent::from_headers(headers)
    {
        return Some(Remote { parent, state: TraceState::from_headers(headers), deferred: false });
    }
    if formats.b3 || formats.b3_multi { b3::extract(headers) } else { None }
}

/// Writes the trace context to the headers of a call out, replacing what they held.
///
/// `parent` is this service's span of the call. A parent with a zero id is not written: the formats forbid it.
pub fn inject(headers: &mut HeaderMap, parent: &TraceParent, state: Option<&TraceState>, formats: Formats) {
    if !parent.is_valid() {
        return;
    }
    if formats.w3c {
        parent.write(headers);
        match state {
            Some(state) => state.write(headers),
            None => TraceState::remove(headers),
        }
    }
    if formats.b3 {
        b3::write_single(headers, parent);
    }
    if formats.b3_multi {
        b3::write_multi(headers, parent);
    }
}

/// Takes the caller's baggage from the request's headers, without looking into it: it is parsed when it is read.
#[must_use]
pub fn extract_baggage(headers: &HeaderMap, formats: Formats) -> Option<Baggage> {
    if formats.baggage { Baggage::from_headers(headers) } else { None }
}

/// Writes baggage to the headers of a call out, replacing what they held; broken members stay behind.
pub fn inject_baggage(headers: &mut HeaderMap, baggage: &Baggage, formats: Formats) {
    if formats.baggage {
        baggage.write(headers);
    }
}

/// Cuts optional whitespace (RFC 9110 section 5.6.3) off both ends; HTTP/2 peers may send it, and list members have it.
fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests;
