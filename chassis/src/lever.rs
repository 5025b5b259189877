//! The time of an operator's override: each one ends by itself, so that no override outlives the reason for it.

use std::time::Duration;

/// How long an override lasts when the operator does not say. Chosen: long enough to reproduce a fault.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(10 * 60);

/// How long an override may last. Chosen: a longer need is one for another configuration.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(2 * 60 * 60);

/// The time that an override has.
///
/// # Errors
///
/// It is zero or longer than [`MAX_TTL`].
pub(crate) fn ttl(wanted: Option<Duration>) -> Result<Duration, String> {
    let ttl = wanted.unwrap_or(DEFAULT_TTL);
    if ttl.is_zero() || ttl > MAX_TTL {
        let found = crate::config::Duration(ttl);
        return Err(format!("found a time of {found}, expected more than 0 and at most 2h"));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_ten_minutes_and_at_most_two_hours() {
        assert_eq!(ttl(None), Ok(Duration::from_secs(600)));
        assert_eq!(ttl(Some(MAX_TTL)), Ok(Duration::from_secs(7200)));
        for wrong in [Duration::ZERO, MAX_TTL + Duration::from_millis(1)] {
            assert!(ttl(Some(wrong)).is_err_and(|text| text.contains("at most 2h")), "{wrong:?}");
        }
    }
}
