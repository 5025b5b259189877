//! The choice of what travels with a call to the service called.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// One thing that may travel with a call to the service called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Propagated {
    /// The trace: `traceparent` and `tracestate`, or B3, as `OTEL_PROPAGATORS` says.
    TraceContext,
    /// The baggage of the request being served.
    Baggage,
    /// The time that is left: `x-request-timeout-ms`, or `grpc-timeout`.
    Deadline,
    /// The name of this service: `x-caller-service` and `user-agent`.
    Caller,
    /// The priority of the request being served: `x-request-priority`.
    Priority,
}

impl Propagated {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::TraceContext, Self::Baggage, Self::Deadline, Self::Caller, Self::Priority];
}

/// A set of [`Propagated`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation(u8);

impl Propagation {
    /// Everything: between services of one fleet.
    pub(crate) const ALL: Self = Self(0b1_1111);
    /// The time that is left and nothing else: for an address of which nothing else is known. Trace ids and baggage may
    /// identify a person, and W3C Baggage ("Privacy") wants them kept from third parties.
    pub(crate) const STRANGER: Self = Self(1 << Propagated::Deadline as u8);

    pub(crate) fn of(list: &[Propagated]) -> Self {
        Self(list.iter().fold(0, |set, one| set | 1 << *one as u8))
    }

    pub(crate) const fn has(self, one: Propagated) -> bool {
        self.0 & (1 << one as u8) != 0
    }
}

/// The set of a destination, which changes while the service runs.
#[derive(Debug)]
pub(super) struct LivePropagation(AtomicU8);

impl LivePropagation {
    pub(super) fn new(set: Propagation) -> Self {
        Self(AtomicU8::new(set.0))
    }

    pub(super) fn set(&self, set: Propagation) {
        self.0.store(set.0, Relaxed);
    }

    pub(super) fn get(&self) -> Propagation {
        Propagation(self.0.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_its_list_names() {
        assert_eq!(Propagation::of(&Propagated::ALL), Propagation::ALL);
        assert_eq!(Propagation::of(&[Propagated::Deadline]), Propagation::STRANGER);
        for one in Propagated::ALL {
            let alone = Propagation::of(&[one, one]);
            assert!(Propagated::ALL.iter().all(|other| alone.has(*other) == (*other == one)), "{one:?}");
            assert!(Propagation::ALL.has(one) && !Propagation::of(&[]).has(one));
        }
    }
}
