//! The service itself, in front of any store.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, TryStreamExt, stream};
use jiff::Timestamp;

use super::{ListQuery, NewOrder, Order, OrderError, OrderEvent, OrderId, Page, Placed, Store};

/// How often the store is asked for what has happened to an order that is followed: other instances change orders too.
const LOOK: Duration = Duration::from_millis(500);

/// How many orders an export holds in memory.
const EXPORTED_AT_ONCE: u32 = 100;

/// Says what time it is.
pub(crate) type Clock = fn() -> Timestamp;

/// The orders of all customers.
#[derive(Debug)]
pub(crate) struct Orders<S> {
    store: Arc<S>,
    clock: Clock,
}

impl<S: Store> Orders<S> {
    pub(crate) fn new(store: S, clock: Clock) -> Self {
        Self { store: Arc::new(store), clock }
    }

    /// Keeps a new order, or finds the one that was placed with the same key before.
    pub(crate) async fn keep(&self, new: NewOrder) -> Result<Order, OrderError> {
        let key = new.key.clone();
        let order = new.place((self.clock)())?;
        match self.store.insert(&order, &key).await? {
            Placed::New => Ok(order),
            Placed::Before(before) if before.is_placed_like(&order) => Ok(before),
            Placed::Before(before) => Err(OrderError::KeyInUse { key, order: before.id }),
        }
    }

    /// The order with this id.
    pub(crate) async fn find(&self, id: OrderId) -> Result<Order, OrderError> {
        self.store.find(id).await?.ok_or(OrderError::Unknown { id })
    }

    /// Orders, newest first.
    pub(crate) async fn page(&self, query: &ListQuery) -> Result<Page, OrderError> {
        Ok(self.store.list(query).await?)
    }

    /// Applies a rule to an order. Of two that try at once, one is told so.
    pub(crate) async fn change(
        &self,
        id: OrderId,
        rule: impl FnOnce(Order) -> Result<Order, OrderError> + Send,
    ) -> Result<Order, OrderError> {
        let before = self.find(id).await?;
        let version = before.version;
        let order = rule(before)?;
        if order.version == version {
            return Ok(order);
        }
        let event = OrderEvent { order: id, version: order.version, status: order.status, at: (self.clock)() };
        if self.store.update(&order, &event).await? { Ok(order) } else { Err(OrderError::Changed { id }) }
    }

    /// What happens to an order after this version, as it happens, until nothing will any more.
    pub(crate) async fn events(
        &self,
        id: OrderId,
        after: u32,
    ) -> Result<impl Stream<Item = Result<OrderEvent, OrderError>> + Send + use<S>, OrderError> {
        self.find(id).await?;
        let store = self.store.clone();
        Ok(steps(after, move |after| look(store.clone(), id, after)))
    }

    /// Every order, newest first. Orders placed meanwhile are not among them.
    pub(crate) fn all(&self) -> impl Stream<Item = Result<Order, OrderError>> + Send + use<S> {
        let store = self.store.clone();
        let first = ListQuery { limit: Some(EXPORTED_AT_ONCE), ..ListQuery::default() };
        steps(first, move |query| {
            let store = store.clone();
            async move {
                let page = store.list(&query).await?;
                Ok((page.orders, page.next.map(|after| ListQuery { after: Some(after), ..query })))
            }
        })
    }
}

/// What has happened after this version, and after which to look next. Waits until something has.
async fn look<S: Store>(store: Arc<S>, id: OrderId, after: u32) -> Result<(Vec<OrderEvent>, Option<u32>), OrderError> {
    loop {
        // Asked first: an order that is settled by now has all its events.
        let settled = store.find(id).await?.is_none_or(|order| order.status.is_final());
        let events = store.events(id, after).await?;
        let last = events.last().map(|event| event.version);
        if last.is_some() || settled {
            return Ok((events, last.filter(|_| !settled)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The items of one step after the other, until one has no next.
fn steps<Q, T, F>(first: Q, mut step: impl FnMut(Q) -> F + Send) -> impl Stream<Item = Result<T, OrderError>> + Send
where
    Q: Send,
    T: Send,
    F: Future<Output = Result<(Vec<T>, Option<Q>), OrderError>> + Send,
{
    let steps = stream::try_unfold(Some(first), move |query| {
        let step = query.map(&mut step);
        async move {
            let Some(step) = step else { return Ok(None) };
            let (items, next) = step.await?;
            Ok::<_, OrderError>(Some((stream::iter(items.into_iter().map(Ok)), next)))
        }
    });
    steps.try_flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Item, Payment, Status, memory::Memory};

    fn orders() -> Orders<Memory> {
        Orders::new(Memory::default(), || Timestamp::constant(1_800_000_000, 0))
    }

    fn new(key: &str, cents: u64) -> NewOrder {
        let items = vec![Item { sku: "a-1".into(), count: 1, cents }];
        NewOrder { key: key.into(), customer: "ada".into(), items }
    }

    #[tokio::test]
    async fn placing_twice_with_one_key_gives_one_order() {
        let orders = orders();
        let first = orders.keep(new("k", 5)).await.unwrap();
        assert_eq!(orders.keep(new("k", 5)).await.unwrap(), first);
        assert_ne!(orders.keep(new("other", 5)).await.unwrap().id, first.id);
        let refused = orders.keep(new("k", 6)).await;
        assert!(matches!(refused, Err(OrderError::KeyInUse { order, .. }) if order == first.id));
    }

    #[tokio::test]
    async fn a_change_that_came_too_late_is_told() {
        let orders = orders();
        let id = orders.keep(new("k", 5)).await.unwrap().id;
        let overtaken = orders
            .change(id, |order| {
                orders.store.touch(id);
                order.cancel()
            })
            .await;
        assert!(matches!(overtaken, Err(OrderError::Changed { .. })), "{overtaken:?}");
    }

    #[tokio::test]
    async fn an_order_is_followed_from_where_the_caller_was_until_nothing_will_happen() {
        let orders = orders();
        let id = orders.keep(new("k", 5)).await.unwrap().id;
        orders.change(id, |order| order.pay(Payment { cents: 5 })).await.unwrap();
        orders.change(id, Order::cancel).await.unwrap();
        orders.change(id, Order::cancel).await.unwrap();
        for (after, seen) in [
            (0, &[(1, Status::Placed), (2, Status::Paid), (3, Status::Cancelled)][..]),
            (2, &[(3, Status::Cancelled)]),
            (3, &[]),
        ] {
            let events: Vec<OrderEvent> = orders.events(id, after).await.unwrap().try_collect().await.unwrap();
            let events: Vec<_> = events.into_iter().map(|event| (event.version, event.status)).collect();
            assert_eq!(events, seen, "after {after}");
        }
        let unknown = OrderId::new(Timestamp::constant(1, 0));
        assert!(matches!(orders.events(unknown, 0).await.err(), Some(OrderError::Unknown { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_while_an_order_is_followed_is_seen() {
        let orders = orders();
        let id = orders.keep(new("k", 5)).await.unwrap().id;
        let mut events = std::pin::pin!(orders.events(id, 1).await.unwrap());
        let ((), seen) = tokio::join!(
            async {
                tokio::time::sleep(LOOK * 3).await;
                orders.change(id, Order::cancel).await.unwrap();
            },
            async { events.try_next().await.unwrap().unwrap() }
        );
        assert_eq!(seen.status, Status::Cancelled);
        assert_eq!(events.try_next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_export_has_every_order_once() {
        let orders = orders();
        for number in 0..=2 * EXPORTED_AT_ONCE {
            orders.keep(new(&number.to_string(), 5)).await.unwrap();
        }
        let all: Vec<Order> = orders.all().try_collect().await.unwrap();
        let mut ids: Vec<OrderId> = all.iter().map(|order| order.id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 201);
    }
}
