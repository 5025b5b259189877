//! Which traces are recorded: decided once, at the head of the trace, and then kept by everyone.
//!
//! The rule is OpenTelemetry's `TraceIdRatioBased`: the low 63 bits of the trace id (its last 8 bytes, shifted right by
//! one) are compared with `ratio × 2^63`. Every service with the same ratio picks the same traces, and a higher ratio
//! picks all that a lower one does. With ratio 0.25 a trace whose last 8 bytes are `3fffffffffffffff` is recorded, one
//! with `4000000000000000` is not.
//!
//! In the parent-based kinds the caller's decision wins over the ratio, both ways: a trace that the caller sampled is
//! never dropped here, and one that it did not sample is not taken up in the middle.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use crate::telemetry::propagation::{RANDOM_TRACE_ID, Remote, TraceParent};

/// The sampling rules, in the words of `OTEL_TRACES_SAMPLER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum SamplerKind {
    /// Every trace, whatever the caller says.
    #[serde(rename = "always_on")]
    AlwaysOn,
    /// No trace, whatever the caller says.
    #[serde(rename = "always_off")]
    AlwaysOff,
    /// The ratio, whatever the caller says; traces break where ratios differ.
    #[serde(rename = "traceidratio")]
    TraceIdRatio,
    /// As the caller says; every trace that starts here.
    #[serde(rename = "parentbased_always_on")]
    ParentBasedAlwaysOn,
    /// As the caller says; no trace that starts here.
    #[serde(rename = "parentbased_always_off")]
    ParentBasedAlwaysOff,
    /// As the caller says; the ratio of the traces that start here.
    #[serde(rename = "parentbased_traceidratio")]
    ParentBasedTraceIdRatio,
}

impl SamplerKind {
    const ALL: [(&'static str, Self); 6] = [
        ("always_on", Self::AlwaysOn),
        ("always_off", Self::AlwaysOff),
        ("traceidratio", Self::TraceIdRatio),
        ("parentbased_always_on", Self::ParentBasedAlwaysOn),
        ("parentbased_always_off", Self::ParentBasedAlwaysOff),
        ("parentbased_traceidratio", Self::ParentBasedTraceIdRatio),
    ];

    const fn is_parent_based(self) -> bool {
        matches!(self, Self::ParentBasedAlwaysOn | Self::ParentBasedAlwaysOff | Self::ParentBasedTraceIdRatio)
    }

    const fn has_ratio(self) -> bool {
        matches!(self, Self::TraceIdRatio | Self::ParentBasedTraceIdRatio)
    }
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// The sampling rule; the `parentbased_` rules do as the caller decided and so keep traces whole.
    /// `OTEL_TRACES_SAMPLER` sets it too.
    pub sampler: SamplerKind,
    /// The part of the traces starting here that is recorded, by the two `traceidratio` rules; the others ignore it.
    /// Default as OpenTelemetry has it: all. `OTEL_TRACES_SAMPLER_ARG` sets it too.
    #[schemars(range(min = 0.0, max = 1.0), extend("x-reloadable" = true))]
    pub ratio: f64,
    /// Whether probes of the main port have spans: `/livez`, `/readyz`, `/startupz`, and gRPC health. Nobody looks for them, and
    /// a quiet service has more of them than of anything else. Those of the operators' port have none.
    /// Chosen: not, whatever the caller's trace says.
    pub probes: bool,
}

impl Default for SamplingConfig {
    /// OpenTelemetry's default, `parentbased_always_on`, in the form whose ratio may be changed while running.
    fn default() -> Self {
        Self { sampler: SamplerKind::ParentBasedTraceIdRatio, ratio: 1.0, probes: false }
    }
}

impl SamplingConfig {
    /// Reads the values of `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`; empty is as good as unset.
    ///
    /// The second counts only with the first, and only for the two ratio rules (OpenTelemetry environment variable
    /// specification); without it the ratio is 1.
    ///
    /// # Errors
    ///
    /// An unknown rule, with the known ones named, or a ratio that is not a number from 0 to 1.
    pub fn from_env(sampler: Option<&str>, argument: Option<&str>) -> Result<Self, String> {
        let given = |value: Option<&str>| value.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let Some(word) = given(sampler) else { return Ok(Self::default()) };
        let Some((_, kind)) = SamplerKind::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word)) else {
            let known = SamplerKind::ALL.map(|(name, _)| name).join(", ");
            return Err(format!("found {word:?}, expected one of {known}"));
        };
        let ratio = match given(argument) {
            Some(text) if kind.has_ratio() => match text.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
                _ => return Err(format!("found {text:?}, expected a ratio from 0 to 1 such as 0.25")),
            },
            _ => 1.0,
        };
        Ok(Self { sampler: *kind, ratio, ..Self::default() })
    }
}

/// Decides whether a trace is recorded. A clone is the same sampler; its ratio may be changed while it is in use.
///
/// The same value serves the request path and, as a [`ShouldSample`], the OpenTelemetry SDK for spans that start
/// without a request.
#[derive(Debug, Clone)]
pub struct Sampler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: SamplerKind,
    /// Trace ids whose low 63 bits are below this are recorded; from 0 to 2^63, which is all.
    threshold: AtomicU64,
}

impl Sampler {
    /// A sampler with this rule and ratio.
    #[must_use]
    pub fn new(config: &SamplingConfig) -> Self {
        let ratio = match config.sampler {
            SamplerKind::AlwaysOn | SamplerKind::ParentBasedAlwaysOn => 1.0,
            SamplerKind::AlwaysOff | SamplerKind::ParentBasedAlwaysOff => 0.0,
            SamplerKind::TraceIdRatio | SamplerKind::ParentBasedTraceIdRatio => config.ratio,
        };
        Self(Arc::new(Inner { kind: config.sampler, threshold: AtomicU64::new(threshold(ratio)) }))
    }

    /// Changes the ratio for decisions from now on; the rules without a ratio ignore it.
    ///
    /// Below 0 counts as 0, above 1 as 1, "not a number" as 0.
    pub fn set_ratio(&self, ratio: f64) {
        if self.0.kind.has_ratio() {
            self.0.threshold.store(threshold(ratio), Ordering::Relaxed);
        }
    }

    /// Whether the trace is recorded. `parent` is the caller's decision, if there is a caller and it decided.
    #[must_use]
    pub fn decide(&self, parent: Option<TraceFlags>, trace_id: TraceId) -> bool {
        match parent {
            Some(flags) if self.0.kind.is_parent_based() => flags.is_sampled(),
            _ => low_bits(trace_id) < self.0.threshold.load(Ordering::Relaxed),
        }
    }

    /// This service's own span of a request: goes on with the caller's trace or starts one, and decides.
    ///
    /// The flag for a random trace id is the caller's when the trace id is, and set when the trace id is new: it must
    /// neither be added to nor taken from a trace that goes on (W3C Trace Context level 2, "Random Trace ID Flag").
    #[must_use]
    pub fn start(&self, remote: Option<&Remote>) -> TraceParent {
        let (trace_id, flags, parent) = match remote {
            Some(remote) => (remote.parent.trace_id, remote.parent.flags, remote.decision()),
            None => (new_trace_id(), RANDOM_TRACE_ID, None),
        };
        TraceParent { trace_id, parent_id: new_span_id(), flags: flags.with_sampled(self.decide(parent, trace_id)) }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(&SamplingConfig::default())
    }
}

impl ShouldSample for Sampler {
    fn should_sample(
        &self,
        parent_context: Option<&Context>,
        trace_id: TraceId,
        _name: &str,
        _span_kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let span = parent_context.map(Context::span);
        let parent = span.as_ref().map_or(&SpanContext::NONE, |span| span.span_context());
        let decided = parent.is_valid().then(|| parent.trace_flags());
        let decision =
            if self.decide(decided, trace_id) { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: parent.trace_state().clone() }
    }
}

/// A new trace id: random in all its bits, never zero. Its flags should carry [`RANDOM_TRACE_ID`].
#[must_use]
pub fn new_trace_id() -> TraceId {
    fastrand::u128(1..).into()
}

/// A new span id: random, never zero.
#[must_use]
pub fn new_span_id() -> SpanId {
    fastrand::u64(1..).into()
}

/// The same arithmetic as the SDK's, so that both pick the same traces.
fn threshold(ratio: f64) -> u64 {
    // "Not a number" passes the clamp and becomes 0.
    (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64
}

fn low_bits(trace_id: TraceId) -> u64 {
    let [_, _, _, _, _, _, _, _, low @ ..] = trace_id.to_bytes();
    u64::from_be_bytes(low) >> 1
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::Sampler as SdkSampler;

    use super::*;

    fn sampler(kind: SamplerKind, ratio: f64) -> Sampler {
        Sampler::new(&SamplingConfig { sampler: kind, ratio, ..Default::default() })
    }

    fn remote(flags: u8, deferred: bool) -> Remote {
        let parent = TraceParent { trace_id: new_trace_id(), parent_id: new_span_id(), flags: TraceFlags::new(flags) };
        Remote { parent, state: None, deferred }
    }

    fn sdk_decision(sampler: &dyn ShouldSample, parent: Option<&Context>, trace_id: TraceId) -> bool {
        let result = sampler.should_sample(parent, trace_id, "work", &SpanKind::Internal, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    const PARENT_BASED: [SamplerKind; 3] =
        [SamplerKind::ParentBasedAlwaysOn, SamplerKind::ParentBasedAlwaysOff, SamplerKind::ParentBasedTraceIdRatio];

    #[test]
    fn a_trace_sampled_by_the_caller_is_never_dropped_by_this_services_ratio() {
        for kind in PARENT_BASED {
            for ratio in [0.0, 0.000_001, 1.0] {
                for flags in [0x01, 0x03] {
                    let remote = remote(flags, false);
                    let started = sampler(kind, ratio).start(Some(&remote));
                    assert!(started.flags.is_sampled(), "{kind:?} {ratio}");
                }
            }
        }
    }

    #[test]
    fn a_trace_not_sampled_by_the_caller_is_not_taken_up_in_the_middle() {
        for kind in PARENT_BASED {
            assert!(!sampler(kind, 1.0).start(Some(&remote(0x02, false))).flags.is_sampled(), "{kind:?}");
        }
    }

    #[test]
    fn the_rules_without_parent_do_not_ask_the_caller() {
        let id = new_trace_id();
        assert!(sampler(SamplerKind::AlwaysOn, 0.0).decide(Some(TraceFlags::NOT_SAMPLED), id));
        assert!(!sampler(SamplerKind::AlwaysOff, 1.0).decide(Some(TraceFlags::SAMPLED), id));
        assert!(!sampler(SamplerKind::TraceIdRatio, 0.0).decide(Some(TraceFlags::SAMPLED), id));
    }

    #[test]
    fn a_caller_that_leaves_the_decision_to_us_gets_our_ratio() {
        let kind = SamplerKind::ParentBasedTraceIdRatio;
        assert!(sampler(kind, 1.0).start(Some(&remote(0, true))).flags.is_sampled());
        assert!(!sampler(kind, 0.0).start(Some(&remote(0, true))).flags.is_sampled());
    }

    #[test]
    fn the_worked_number_of_the_module_holds() {
        let quarter = sampler(SamplerKind::TraceIdRatio, 0.25);
        let id = |low: u64| TraceId::from(7_u128 << 64 | u128::from(low));
        assert!(quarter.decide(None, id(0x3fff_ffff_ffff_ffff)));
        assert!(!quarter.decide(None, id(0x4000_0000_0000_0000)));
    }

    #[test]
    fn the_extreme_trace_ids_are_recorded_by_ratio_one_and_not_by_ratio_zero() {
        for id in [TraceId::from(1), TraceId::from(u128::MAX)] {
            assert!(sampler(SamplerKind::TraceIdRatio, 1.0).decide(None, id));
            assert!(!sampler(SamplerKind::TraceIdRatio, 0.0).decide(None, id));
        }
    }

    #[test]
    fn the_same_traces_are_picked_as_by_the_sdk() {
        let mut random = fastrand::Rng::with_seed(23);
        for ratio in [0.0, 0.001, 0.1, 1.0 / 3.0, 0.5, 0.999, 1.0] {
            let ours = sampler(SamplerKind::TraceIdRatio, ratio);
            let theirs = SdkSampler::TraceIdRatioBased(ratio);
            for _ in 0..2_000 {
                let id = TraceId::from(random.u128(1..));
                assert_eq!(ours.decide(None, id), sdk_decision(&theirs, None, id), "{ratio} {id}");
            }
        }
    }

    #[test]
    fn the_ratio_changes_for_every_clone_while_running() {
        let sampler = Sampler::default();
        let clone = sampler.clone();
        let id = new_trace_id();
        assert!(clone.decide(None, id));
        sampler.set_ratio(0.0);
        assert!(!clone.decide(None, id));
        for (ratio, expected) in [(2.0, true), (-1.0, false), (f64::NAN, false), (1.0, true)] {
            sampler.set_ratio(ratio);
            assert_eq!(clone.decide(None, id), expected, "{ratio}");
        }
    }

    #[test]
    fn a_rule_without_ratio_keeps_its_decision() {
        let off = sampler(SamplerKind::ParentBasedAlwaysOff, 1.0);
        off.set_ratio(1.0);
        assert!(!off.decide(None, new_trace_id()));
    }

    #[test]
    fn a_new_trace_is_called_random_and_a_callers_trace_is_called_what_it_was() {
        let sampler = Sampler::default();
        let new = sampler.start(None);
        assert!(new.is_valid());
        assert_eq!(new.flags & RANDOM_TRACE_ID, RANDOM_TRACE_ID);
        for flags in 0..4 {
            let remote = remote(flags, false);
            let started = sampler.start(Some(&remote));
            assert_eq!(started.trace_id, remote.parent.trace_id);
            assert_ne!(started.parent_id, remote.parent.parent_id);
            assert_eq!(started.flags, remote.parent.flags);
        }
    }

    #[test]
    fn the_sdk_gets_the_same_decision_and_keeps_the_callers_state() {
        let sampler = sampler(SamplerKind::ParentBasedTraceIdRatio, 0.0);
        let id = new_trace_id();
        let context = |flags| {
            let state = opentelemetry::trace::TraceState::from_key_value([("rojo", "1")]).expect("a valid state");
            Context::new().with_remote_span_context(SpanContext::new(id, new_span_id(), flags, true, state))
        };
        assert!(sdk_decision(&sampler, Some(&context(TraceFlags::SAMPLED)), id));
        assert!(!sdk_decision(&sampler, Some(&context(TraceFlags::NOT_SAMPLED)), id));
        assert!(!sdk_decision(&sampler, None, id));
        sampler.set_ratio(1.0);
        assert!(sdk_decision(&sampler, None, id));
        assert!(sdk_decision(&sampler, Some(&Context::new()), id), "a context without span is no parent");
        let context = context(TraceFlags::SAMPLED);
        let result = sampler.should_sample(Some(&context), id, "work", &SpanKind::Internal, &[], &[]);
        assert_eq!(result.trace_state.get("rojo"), Some("1"));
    }

    #[test]
    fn the_environments_words_are_the_configurations_words() {
        for (word, kind) in SamplerKind::ALL {
            let config = SamplingConfig::from_env(Some(word), Some("0.5")).expect(word);
            assert_eq!(config.sampler, kind);
            assert_eq!(config.ratio, if kind.has_ratio() { 0.5 } else { 1.0 }, "{word}");
            assert_eq!(serde_json::to_value(kind).expect(word), word);
        }
        assert_eq!(SamplingConfig::from_env(None, Some("0.5")), Ok(SamplingConfig::default()));
        assert_eq!(SamplingConfig::from_env(Some(" "), None), Ok(SamplingConfig::default()));
    }

    #[test]
    fn a_wrong_sampler_or_ratio_is_named_with_what_was_expected() {
        let message = SamplingConfig::from_env(Some("sometimes"), None).expect_err("no such rule");
        assert!(message.contains("sometimes") && message.contains("parentbased_traceidratio"), "{message}");
        for ratio in ["1.1", "-0.1", "half", "NaN"] {
            let message = SamplingConfig::from_env(Some("traceidratio"), Some(ratio)).expect_err(ratio);
            assert!(message.contains(ratio) && message.contains("from 0 to 1"), "{message}");
        }
    }
}
