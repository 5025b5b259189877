//! A list that never changes.

use super::{Endpoint, Resolver, Task, Updates};

/// Follows nothing: the endpoints of a `static://` target, or the one address of `http://` and `https://`.
///
/// A host name in it is looked up by the system at each connection. Nobody checks these instances; an instance that does not
/// answer is kept out of the way by its circuit breaker.
#[derive(Debug, Clone)]
pub struct StaticList(Vec<Endpoint>);

impl StaticList {
    /// These endpoints.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self(endpoints)
    }
}

impl Resolver for StaticList {
    fn follow(&self, updates: Updates) -> Task {
        updates.set(self.0.clone());
        // The sender stays, as with any other source: a receiver whose sender is gone would look abandoned.
        Box::pin(async move {
            let _updates = updates;
            std::future::pending::<()>().await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Freshness;

    #[test]
    fn the_list_is_there_at_once_and_stays_fresh() {
        let (updates, receiver) = Updates::channel();
        let task = StaticList::new(vec![Endpoint::at("10.0.0.1", 80)]).follow(updates);
        let resolution = receiver.borrow().clone();
        assert!(matches!(resolution.freshness, Freshness::Fresh));
        assert_eq!(&*resolution.endpoints, [Endpoint::at("10.0.0.1", 80)]);
        drop(task);
    }
}
