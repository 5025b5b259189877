//! How long a task waits before it is started again. Pure: time and chance are arguments.

use std::time::Duration;

/// Exponential back-off with full jitter: `wait = random × min(longest, first × 2^(failures − 1))`.
///
/// Worked: with 1 s and 60 s, the third failure in a row waits up to 4 s, the seventh and later ones up to 60 s.
/// Full jitter keeps many instances from restarting in step (AWS Architecture Blog, "Exponential Backoff And Jitter").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure. Default 1 s (the gRPC connection back-off's base).
    pub first: Duration,
    /// The longest wait of all. Default 60 s (chosen: a dependency that is back is used again within a minute).
    pub longest: Duration,
    /// A run of this length is stable: the next failure counts as the first. Default 60 s (chosen: as the longest wait, so
    /// that a task that dies soon after each start never looks stable).
    pub stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), stable_after: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after this many failures in a row; `random` is from 0 to 1.
    pub(crate) fn wait(&self, failures: u32, random: f64) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_is_jittered_fully() {
        let backoff = Backoff::default();
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (33, 60), (u32::MAX, 60)] {
            let longest = Duration::from_secs(longest);
            assert_eq!(backoff.wait(failures, 1.0), longest, "{failures} failures");
            assert_eq!(backoff.wait(failures, 0.5), longest / 2, "{failures} failures");
            assert_eq!(backoff.wait(failures, 0.0), Duration::ZERO, "{failures} failures");
        }
    }
}
