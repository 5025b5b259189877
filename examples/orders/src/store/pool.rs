//! The pool of connections: bounded, measured, and ended in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};
use sqlx::{
    Any, AnyPool, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
    pool::PoolConnection,
};
use tokio::{sync::SetOnce, time::timeout};

use crate::{domain::StoreError, settings::StoreSettings};

/// Connections to the database. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    inner: AnyPool,
    measured: Arc<Measured>,
    /// Set once the tables are up to date.
    opened: Arc<SetOnce<()>>,
    wait: Duration,
    system: &'static str,
}

impl Pool {
    pub(super) fn new(settings: &StoreSettings, meter: &Meter) -> Result<Self, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let url = settings.url.expose();
        let is_sqlite = url.starts_with("sqlite:");
        if !is_sqlite && !["postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(sqlx::Error::Configuration("expected sqlite:… or postgres://…".into()));
        }
        let wait = settings.wait.get();
        let mut options = AnyPoolOptions::new().max_connections(settings.connections).acquire_timeout(wait);
        if is_in_memory(url) {
            // The orders live and die with the one connection.
            options = options.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        }
        if is_sqlite {
            options = options.after_connect(move |connection, _| {
                Box::pin(async move {
                    // Readers do not wait for the writer; a writer waits as long as a request waits for a connection.
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                    let busy = format!("PRAGMA busy_timeout = {}", wait.as_millis());
                    connection.execute(sqlx::AssertSqlSafe(busy)).await?;
                    Ok(())
                })
            });
        }
        let connect: AnyConnectOptions = url.parse()?;
        let inner = options.connect_lazy_with(connect);
        let system = if is_sqlite { "sqlite" } else { "postgresql" };
        let measured = Measured::new(&inner, system, meter);
        Ok(Self { inner, measured, opened: Arc::default(), wait, system })
    }

    /// From now on connections are given away.
    pub(super) fn open(&self) {
        // Whoever was first has done it.
        let _ = self.opened.set(());
    }

    /// A connection, within the time of the settings.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Any>, StoreError> {
        let opened = timeout(self.wait, self.opened.wait()).await;
        opened.map_err(|_| StoreError::Unreachable("the tables are not up to date yet".into()))?;
        let waiting = Waiting::new(&self.measured);
        let connection = self.inner.acquire().await;
        waiting.ended(&connection);
        Ok(connection?)
    }

    pub(super) fn inner(&self) -> &AnyPool {
        &self.inner
    }

    /// The database's name in the semantic conventions.
    pub(super) fn system(&self) -> &'static str {
        self.system
    }

    pub(super) async fn close(&self) {
        self.inner.close().await;
    }
}

/// Whether what is stored is gone with its connection.
pub(super) fn is_in_memory(url: &str) -> bool {
    url.starts_with("sqlite:") && (url.contains(":memory:") || url.contains("mode=memory"))
}

/// Whether the database cannot be reached or is too busy, as opposed to having understood and refused.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // PostgreSQL's classes: connection exceptions, insufficient resources, operator intervention, serialization failures.
        // SQLite's primary codes in the low byte: 5 busy, 6 locked.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| match code.parse::<u32>() {
            Ok(number) if code.len() < 5 => matches!(number & 0xff, 5 | 6),
            _ => ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class)),
        }),
        _ => false,
    }
}

/// The pool in the metrics, with the names of OpenTelemetry's semantic conventions.
#[derive(Debug)]
struct Measured {
    /// Requests that wait for a connection now.
    pending: AtomicI64,
    wait_time: Histogram<f64>,
    timeouts: Counter<u64>,
    name: [KeyValue; 1],
}

impl Measured {
    fn new(pool: &AnyPool, system: &'static str, meter: &Meter) -> Arc<Self> {
        let name = KeyValue::new("db.client.connection.pool.name", system);
        let measured = Arc::new(Self {
            pending: AtomicI64::new(0),
            wait_time: meter
                .f64_histogram("db.client.connection.wait_time")
                .with_unit("s")
                .with_description("How long a request waited for a connection to the store.")
                .build(),
            timeouts: meter
                .u64_counter("db.client.connection.timeouts")
                .with_unit("{timeout}")
                .with_description("Requests that got no connection to the store in time.")
                .build(),
            name: [name.clone()],
        });
        let max = i64::from(pool.options().get_max_connections());
        let of_pool = name.clone();
        meter
            .i64_observable_up_down_counter("db.client.connection.max")
            .with_unit("{connection}")
            .with_description("How many connections to the store may be open.")
            .with_callback(move |observer| observer.observe(max, std::slice::from_ref(&of_pool)))
            .build();
        let (counted, of_pool) = (pool.clone(), name.clone());
        meter
            .i64_observable_up_down_counter("db.client.connection.count")
            .with_unit("{connection}")
            .with_description("Connections to the store, by what they do.")
            .with_callback(move |observer| {
                let idle = i64::try_from(counted.num_idle()).unwrap_or(i64::MAX);
                let used = (i64::from(counted.size()) - idle).max(0);
                for (state, count) in [("idle", idle), ("used", used)] {
                    observer.observe(count, &[of_pool.clone(), KeyValue::new("db.client.connection.state", state)]);
                }
            })
            .build();
        let waiting = Arc::downgrade(&measured);
        meter
            .i64_observable_up_down_counter("db.client.connection.pending_requests")
            .with_unit("{request}")
            .with_description("Requests that wait for a connection to the store.")
            .with_callback(move |observer| {
                if let Some(measured) = waiting.upgrade() {
                    observer.observe(measured.pending.load(Ordering::Relaxed), &measured.name);
                }
            })
            .build();
        measured
    }
}

/// A request that waits; counted until it is dropped, however that ends.
struct Waiting<'a> {
    measured: &'a Measured,
    since: Instant,
}

impl<'a> Waiting<'a> {
    fn new(measured: &'a Measured) -> Self {
        measured.pending.fetch_add(1, Ordering::Relaxed);
        Self { measured, since: Instant::now() }
    }

    fn ended<T>(self, outcome: &Result<T, sqlx::Error>) {
        self.measured.wait_time.record(self.since.elapsed().as_secs_f64(), &self.measured.name);
        if matches!(outcome, Err(sqlx::Error::PoolTimedOut)) {
            self.measured.timeouts.add(1, &self.measured.name);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.measured.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_in_memory_is_told_apart() {
        for (url, in_memory) in [
            ("sqlite::memory:", true),
            ("sqlite:orders?mode=memory", true),
            ("sqlite:orders.db?mode=rwc", false),
            ("postgres://localhost/orders", false),
        ] {
            assert_eq!(is_in_memory(url), in_memory, "{url}");
        }
    }
}
