//! A store for tests of the domain.

use std::sync::{Mutex, MutexGuard};

use super::{ListQuery, Name, Order, OrderEvent, OrderId, Page, Placed, Status, Store, StoreError};

#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Vec<(Name, Order, Vec<OrderEvent>)>>);

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Vec<(Name, Order, Vec<OrderEvent>)>> {
        self.0.lock().unwrap()
    }

    /// Somebody else changes the order.
    pub(crate) fn touch(&self, id: OrderId) {
        self.kept().iter_mut().filter(|(_, order, _)| order.id == id).for_each(|(_, order, _)| order.version += 1);
    }
}

impl Store for Memory {
    async fn insert(&self, order: &Order, key: &Name) -> Result<Placed, StoreError> {
        let mut kept = self.kept();
        let before = kept.iter().find(|(used, before, _)| used == key && before.customer == order.customer);
        if let Some((_, before, _)) = before {
            return Ok(Placed::Before(before.clone()));
        }
        let event = OrderEvent { order: order.id, version: 1, status: Status::Placed, at: order.placed_at };
        kept.push((key.clone(), order.clone(), vec![event]));
        Ok(Placed::New)
    }

    async fn find(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        Ok(self.kept().iter().find(|(_, order, _)| order.id == id).map(|(_, order, _)| order.clone()))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let mut orders: Vec<Order> = self.kept().iter().map(|(_, order, _)| order.clone()).collect();
        orders.retain(|order| {
            query.status.is_none_or(|status| status == order.status)
                && query.customer.as_ref().is_none_or(|customer| *customer == order.customer)
                && query.after.is_none_or(|after| order.id < after)
        });
        orders.sort_by_key(|order| std::cmp::Reverse(order.id));
        Ok(Page::of(orders, query.limit()))
    }

    async fn update(&self, order: &Order, event: &OrderEvent) -> Result<bool, StoreError> {
        let mut kept = self.kept();
        let stored =
            kept.iter_mut().find(|(_, stored, _)| stored.id == order.id && stored.version + 1 == order.version);
        Ok(stored.is_some_and(|(_, stored, events)| {
            *stored = order.clone();
            events.push(event.clone());
            true
        }))
    }

    async fn events(&self, id: OrderId, after: u32) -> Result<Vec<OrderEvent>, StoreError> {
        let kept = self.kept();
        let events = kept.iter().filter(|(_, order, _)| order.id == id).flat_map(|(_, _, events)| events);
        Ok(events.filter(|event| event.version > after).cloned().collect())
    }
}
