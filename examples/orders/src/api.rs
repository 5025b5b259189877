//! What callers see. Each method is a plain function of the domain's types; what stands above it makes it an HTTP route, a
//! gRPC method, or both.

use chassis::{
    prelude::*,
    service::{Event, Events, JsonLines},
};

use futures_util::TryStreamExt as _;

use crate::{
    domain::{
        EventsQuery, ListQuery, Name, NewOrder, Order, OrderError, OrderEvent, OrderId, Orders, Page, Payment, Store,
    },
    grpc::proto,
};

#[service(tag = "orders", grpc = proto::orders_server::Orders)]
impl<S: Store> Orders<S> {
    /// Place an order.
    ///
    /// A second request with the same key gives the order of the first, so a caller that got no answer may ask again.
    #[post("/orders", timeout = "2s", body_limit = "64KiB", idempotent)]
    #[rpc(PlaceOrder)]
    async fn place(&self, #[message] order: NewOrder) -> Result<Created<Order>, OrderError> {
        let order = self.keep(order).await?;
        let location = format!("/orders/{}", order.id);
        Ok(Created::new(order).at(location))
    }

    /// Look one order up.
    #[get("/orders/{id}")]
    #[rpc(GetOrder)]
    async fn order(&self, id: OrderId) -> Result<Order, OrderError> {
        self.find(id).await
    }

    /// List orders, newest first.
    #[get("/orders")]
    #[rpc(ListOrders)]
    async fn list(&self, #[message] query: ListQuery) -> Result<Page, OrderError> {
        self.page(&query).await
    }

    /// Pay an order.
    #[post("/orders/{id}/payment")]
    #[rpc(PayOrder)]
    async fn pay(&self, id: OrderId, payment: Payment) -> Result<Order, OrderError> {
        self.change(id, |order| order.pay(payment)).await
    }

    /// Send an order on its way.
    #[put("/orders/{id}/shipment")]
    #[rpc(ShipOrder)]
    async fn ship(&self, id: OrderId) -> Result<Order, OrderError> {
        self.change(id, Order::ship).await
    }

    /// Cancel an order that has not been shipped.
    #[put("/orders/{id}/cancellation")]
    #[rpc(CancelOrder)]
    async fn cancel(&self, id: OrderId) -> Result<Order, OrderError> {
        self.change(id, Order::cancel).await
    }

    /// Follow an order until nothing will happen to it any more.
    ///
    /// The id of each event is the order's version, so a caller that was cut off goes on with `after`.
    #[get("/orders/{id}/events", concurrency = 1000)]
    async fn follow(&self, id: OrderId, query: EventsQuery) -> Result<Events<OrderEvent>, OrderError> {
        let events = self.events(id, query.after.unwrap_or_default()).await?;
        Ok(Events::fallible(events.map_ok(|event| {
            let version = event.version;
            Event::new(event).id(version)
        })))
    }

    /// Every order, one a line, newest first.
    #[get("/exports/orders", concurrency = 2, tags = ["exports"])]
    async fn export(&self) -> JsonLines<Order> {
        JsonLines::fallible(self.all())
    }

    /// A customer's orders, newest first. Use `/orders?customer=` in its place.
    #[get("/customers/{customer}/orders", deprecated = "2026-06-30", sunset = "2027-06-30")]
    async fn of_customer(&self, customer: Name) -> Result<Page, OrderError> {
        self.page(&ListQuery { customer: Some(customer), ..ListQuery::default() }).await
    }
}

#[cfg(test)]
mod tests {
    use chassis::{Chassis, testing::TestService};
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{Item, Status, memory::Memory};

    fn orders() -> Orders<Memory> {
        Orders::new(Memory::default(), || Timestamp::constant(1_800_000_000, 0))
    }

    #[tokio::test]
    async fn a_method_is_a_plain_function() {
        let orders = orders();
        let items = vec![Item { sku: "a-1".into(), count: 2, cents: 250 }];
        let Created { value: order, location } =
            orders.place(NewOrder { key: "k".into(), customer: "ada".into(), items }).await.unwrap();
        assert_eq!(location, Some(format!("/orders/{}", order.id)));
        assert_eq!(orders.pay(order.id, Payment { cents: 500 }).await.unwrap().status, Status::Paid);
        assert_eq!(orders.of_customer("ada".into()).await.unwrap().orders.len(), 1);
    }

    #[tokio::test]
    async fn the_whole_service_runs_in_the_tests_process() {
        let service = TestService::start(|chassis: Chassis| chassis.mount(orders())).await.unwrap();
        let placed = service
            .post("/orders", r#"{"key":"k","customer":"ada","items":[{"sku":"a-1","count":2,"cents":250}]}"#)
            .await
            .unwrap();
        assert_eq!(placed.status, 201, "{}", placed.text());
        let found = service.get(placed.header("location")).await.unwrap();
        assert_eq!(found.json(), placed.json());
        let old = service.get("/customers/ada/orders").await.unwrap();
        assert_eq!(old.header("deprecation"), "@1782777600", "2026-06-30");
        assert_eq!(old.header("sunset"), "Wed, 30 Jun 2027 00:00:00 GMT");
        service.stop().await.unwrap();
    }
}
