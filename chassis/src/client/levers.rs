//! The breaker modes that an operator has set, and when each ends. Pure: time is an argument.

use std::time::Instant;

use super::breaker::BreakerMode;

/// One mode that an operator has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lever {
    /// The endpoint's id; `None` for all endpoints, and those to come.
    pub(crate) endpoint: Option<Box<str>>,
    pub(crate) mode: BreakerMode,
    pub(crate) until: Instant,
}

/// All of one destination: at most one for all endpoints, and one for each endpoint that was named after it.
#[derive(Debug, Default)]
pub(crate) struct Levers(Vec<Lever>);

impl Levers {
    /// Sets the mode of an endpoint or of all. A mode of all takes the place of every other.
    pub(crate) fn set(&mut self, lever: Lever) {
        self.clear(lever.endpoint.as_deref());
        self.0.push(lever);
    }

    /// Takes the mode of an endpoint back, or every one.
    pub(crate) fn clear(&mut self, endpoint: Option<&str>) {
        self.0.retain(|lever| endpoint.is_some() && lever.endpoint.as_deref() != endpoint);
    }

    /// Takes out what has ended.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Lever> {
        self.0.extract_if(.., |lever| lever.until <= now).collect()
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.0.iter().map(|lever| lever.until).min()
    }

    /// The mode of all endpoints.
    pub(crate) fn of_all(&self) -> Option<BreakerMode> {
        self.0.iter().find(|lever| lever.endpoint.is_none()).map(|lever| lever.mode)
    }

    /// All of them, in the order in which they were set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lever> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lever(endpoint: Option<&str>, until: Instant) -> Lever {
        Lever { endpoint: endpoint.map(Into::into), mode: BreakerMode::ForcedOpen, until }
    }

    #[test]
    fn a_later_mode_takes_the_place_of_an_earlier() {
        let (mut levers, now) = (Levers::default(), Instant::now());
        levers.set(lever(Some("a"), now + SECOND));
        levers.set(lever(Some("b"), now + 2 * SECOND));
        levers.set(lever(Some("a"), now + 3 * SECOND));
        assert_eq!((levers.iter().count(), levers.next_end()), (2, Some(now + 2 * SECOND)));
        levers.set(lever(None, now + 4 * SECOND));
        assert_eq!((levers.iter().count(), levers.of_all()), (1, Some(BreakerMode::ForcedOpen)));
        levers.set(lever(Some("a"), now + 5 * SECOND));
        levers.clear(Some("a"));
        assert_eq!(levers.iter().count(), 1, "the mode of all stays");
        levers.clear(None);
        assert_eq!((levers.iter().count(), levers.next_end(), levers.of_all()), (0, None, None));
    }

    #[test]
    fn each_mode_ends_at_its_time() {
        let (mut levers, now) = (Levers::default(), Instant::now());
        levers.set(lever(None, now + 2 * SECOND));
        levers.set(lever(Some("a"), now + SECOND));
        assert_eq!(levers.expire(now), []);
        assert_eq!(levers.expire(now + SECOND), [lever(Some("a"), now + SECOND)]);
        assert_eq!(levers.expire(now + 9 * SECOND), [lever(None, now + 2 * SECOND)]);
    }
}
