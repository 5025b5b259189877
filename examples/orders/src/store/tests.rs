//! One body of tests for every store: SQLite in memory and in a file, PostgreSQL, and the domain's own for its tests.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use chassis::config::Secret;
use jiff::Timestamp;
use opentelemetry::metrics::MeterProvider as _;

use super::*;
use crate::domain::{NewOrder, Payment, memory::Memory};

#[allow(unreachable_pub, reason = "made for the integration tests")]
#[path = "../../../../tests/it/support/postgres.rs"]
mod postgres;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 123_000_000);

async fn open(url: &str) -> SqlStore {
    let meter = opentelemetry::metrics::noop::NoopMeterProvider::new().meter("orders");
    let settings = StoreSettings { url: Secret::new(url.to_owned()), ..StoreSettings::default() };
    let store = SqlStore::new(&settings, &meter).expect("the URL is right");
    store.migrate().await.expect("the tables are made");
    store
}

/// A file of the test's own, gone with the value.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orders-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn url(&self) -> String {
        format!("sqlite:{}?mode=rwc", self.0.join("orders.db").display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn new(key: &str, customer: &str) -> (Name, Order) {
    let items = [("a-1", 2, 250), ("b", 1, 1)];
    let items = items.map(|(sku, count, cents)| Item { sku: sku.into(), count, cents }).into();
    let order = NewOrder { key: key.into(), customer: customer.into(), items };
    (key.into(), order.place(NOW).unwrap())
}

fn event(order: &Order) -> OrderEvent {
    OrderEvent { order: order.id, version: order.version, status: order.status, at: NOW }
}

fn paid(order: &Order) -> Order {
    order.clone().pay(Payment { cents: order.total }).unwrap()
}

/// What every store keeps to.
async fn check(store: &impl Store) {
    keeps_what_it_is_given(store).await;
    pages_through_what_fits(store).await;
    changes_only_what_nobody_changed_before(store).await;
}

async fn keeps_what_it_is_given(store: &impl Store) {
    let (key, order) = new("k", "Zoë 'x' %");
    assert_eq!(store.find(order.id).await.unwrap(), None);
    assert_eq!(store.insert(&order, &key).await.unwrap(), Placed::New);
    assert_eq!(store.find(order.id).await.unwrap().as_ref(), Some(&order), "with every item, in order");

    let again = new("k", "Zoë 'x' %").1;
    assert_eq!(store.insert(&again, &key).await.unwrap(), Placed::Before(order), "a key is used once");
    assert_eq!(store.find(again.id).await.unwrap(), None);
    let (key, other) = new("k", "somebody else");
    assert_eq!(store.insert(&other, &key).await.unwrap(), Placed::New, "but by each customer");
}

async fn pages_through_what_fits(store: &impl Store) {
    let mut placed = Vec::new();
    for number in 0..5 {
        let (key, order) = new(&number.to_string(), "bob");
        store.insert(&order, &key).await.unwrap();
        placed.push(order);
    }
    placed.sort_by_key(|order| std::cmp::Reverse(order.id));
    let page = |after, limit| ListQuery {
        customer: Some("bob".into()),
        after,
        limit: Some(limit),
        status: Some(Status::Placed),
    };
    let first = store.list(&page(None, 2)).await.unwrap();
    assert_eq!(first, Page { orders: placed[..2].into(), next: Some(placed[1].id) });
    let second = store.list(&page(first.next, 3)).await.unwrap();
    assert_eq!(second, Page { orders: placed[2..].into(), next: None }, "exactly full, and nothing behind it");

    let changed = paid(&placed[0]);
    assert!(store.update(&changed, &event(&changed)).await.unwrap());
    let status = |status| ListQuery { status: Some(status), customer: Some("bob".into()), ..ListQuery::default() };
    assert_eq!(store.list(&status(Status::Paid)).await.unwrap().orders, [changed]);
    assert_eq!(store.list(&status(Status::Placed)).await.unwrap().orders, placed[1..]);
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().orders.len(), 7, "everybody's");
}

async fn changes_only_what_nobody_changed_before(store: &impl Store) {
    let (key, order) = new("k", "carol");
    store.insert(&order, &key).await.unwrap();
    let (paid, cancelled) = (paid(&order), order.clone().cancel().unwrap());
    let (paid_event, cancelled_event) = (event(&paid), event(&cancelled));
    let (one, other) = tokio::join!(store.update(&paid, &paid_event), store.update(&cancelled, &cancelled_event));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one ^ other, "one of two writers at once wins: {one} {other}");
    let kept = store.find(order.id).await.unwrap().unwrap();
    assert_eq!(kept, if one { paid } else { cancelled });
    let seen = store.events(order.id, 0).await.unwrap();
    assert_eq!(seen, [event(&order), event(&kept)], "the loser left nothing");
    assert_eq!(store.events(order.id, 1).await.unwrap(), [event(&kept)]);
}

/// Many at once with one key: one order.
async fn check_races(store: &SqlStore) {
    let attempts = (0..8).map(|_| {
        let store = store.clone();
        let (key, order) = new("race", "dave");
        tokio::spawn(async move { (order.id, store.insert(&order, &key).await.unwrap()) })
    });
    let attempts: Vec<_> = attempts.collect();
    let (mut new, mut before) = (Vec::new(), Vec::new());
    for attempt in attempts {
        match attempt.await.unwrap() {
            (id, Placed::New) => new.push(id),
            (_, Placed::Before(order)) => before.push(order.id),
        }
    }
    assert_eq!((new.len(), before.len()), (1, 7));
    assert!(before.iter().all(|id| *id == new[0]));
}

#[tokio::test]
async fn the_store_of_the_domains_tests_keeps_what_every_store_keeps() {
    check(&Memory::default()).await;
}

#[tokio::test]
async fn sqlite_in_memory_keeps_orders_while_the_process_lives() {
    let store = open("sqlite::memory:").await;
    check(&store).await;
    check_races(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_in_a_file_keeps_orders() {
    let file = File::new();
    let store = open(&file.url()).await;
    check(&store).await;
    check_races(&store).await;
    store.close().await;
    let left: Vec<_> = std::fs::read_dir(&file.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["orders.db"], "closed in order, the log of writes is folded in");
    let again = open(&file.url()).await;
    assert_eq!(again.list(&ListQuery::default()).await.unwrap().orders.len(), 9);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_keeps_orders() {
    let server = postgres::Postgres::start();
    let store = open(&server.url()).await;
    check(&store).await;
    check_races(&store).await;
    server.stop();
    for _ in 0..2 {
        let error = store.find(OrderId::new(NOW)).await.unwrap_err();
        assert!(error.is_passing(), "{error:?}");
    }
    server.begin();
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().orders.len(), 9, "what was committed is kept");
    store.close().await;
}

#[tokio::test]
async fn instances_that_start_together_make_the_tables_once() {
    let server = postgres::Postgres::start();
    let url = server.url();
    let (one, other, third) = tokio::join!(open(&url), open(&url), open(&url));
    for store in [one, other, third] {
        store.ping().await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn nobody_gets_to_tables_that_are_not_up_to_date() {
    let meter = opentelemetry::metrics::noop::NoopMeterProvider::new().meter("orders");
    let store = SqlStore::new(&StoreSettings::default(), &meter).unwrap();
    let error = store.find(OrderId::new(NOW)).await.unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    store.migrate().await.unwrap();
    assert_eq!(store.find(OrderId::new(NOW)).await.unwrap(), None);
}
