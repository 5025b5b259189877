//! The store in a database: SQLite or PostgreSQL, whichever the URL names, by the same statements.
//!
//! Both understand `$1`, `ON CONFLICT` and what else is said here; `tests.rs` runs one body of tests against both.

mod pool;
mod schema;
#[cfg(test)]
mod tests;

use opentelemetry::metrics::Meter;
use sqlx::{Connection, Row, any::AnyRow};

use self::pool::Pool;
use crate::{
    domain::{Item, ListQuery, Name, Order, OrderEvent, OrderId, Page, Placed, Status, Store, StoreError},
    settings::StoreSettings,
};

/// Orders in a database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SqlStore {
    pool: Pool,
}

impl SqlStore {
    /// A store that connects when it is first asked, so that commands such as `openapi` touch no database.
    pub(crate) fn new(settings: &StoreSettings, meter: &Meter) -> Result<Self, sqlx::Error> {
        Ok(Self { pool: Pool::new(settings, meter)? })
    }

    /// Brings the tables up to date; nobody gets to them before. It may be tried again.
    pub(crate) async fn migrate(&self) -> Result<(), sqlx::Error> {
        schema::migrate(self.pool.inner()).await?;
        self.pool.open();
        Ok(())
    }

    /// Whether the orders would be gone with the process.
    pub(crate) fn is_in_memory(settings: &StoreSettings) -> bool {
        pool::is_in_memory(settings.url.expose())
    }

    /// Asks the database for a sign of life, and whether its tables are up to date.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.pool.acquire().await?.ping().await?)
    }

    /// Ends every connection in order.
    pub(crate) async fn close(self) {
        self.pool.close().await;
    }
}

/// An order with its items: one row a line.
macro_rules! orders {
    ($from:literal) => {
        concat!(
            "SELECT o.id, o.customer, o.status, o.total, o.placed_at, o.version, i.sku, i.count, i.cents FROM ",
            $from,
            " AS o JOIN order_items AS i ON i.order_id = o.id ORDER BY o.id DESC, i.line"
        )
    };
}

const FIND: &str = orders!("(SELECT * FROM orders WHERE id = $1)");
const FIND_BY_KEY: &str = orders!("(SELECT * FROM orders WHERE customer = $1 AND order_key = $2)");
const LIST: &str = orders!(
    "(SELECT * FROM orders WHERE (CAST($1 AS TEXT) IS NULL OR status = $1) AND (CAST($2 AS TEXT) IS NULL OR customer = $2) \
      AND (CAST($3 AS TEXT) IS NULL OR id < $3) ORDER BY id DESC LIMIT $4)"
);
const INSERT_ORDER: &str = "INSERT INTO orders (id, customer, order_key, status, total, placed_at, version) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (customer, order_key) DO NOTHING";
const INSERT_ITEM: &str = "INSERT INTO order_items (order_id, line, sku, count, cents) VALUES ($1, $2, $3, $4, $5)";
const INSERT_EVENT: &str = "INSERT INTO order_events (order_id, version, status, at) VALUES ($1, $2, $3, $4)";
const UPDATE_ORDER: &str = "UPDATE orders SET status = $1, version = $2 WHERE id = $3 AND version = $2 - 1";
const EVENTS: &str =
    "SELECT order_id, version, status, at FROM order_events WHERE order_id = $1 AND version > $2 ORDER BY version";

/// Transactions begin with a write, so SQLite's one writer waits its turn and never fails halfway.
impl Store for SqlStore {
    #[tracing::instrument(name = "INSERT orders", skip_all, fields(otel.kind = "client", db.system.name = self.pool.system()))]
    async fn insert(&self, order: &Order, key: &Name) -> Result<Placed, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let id = order.id.to_string();
        let inserted = sqlx::query(INSERT_ORDER)
            .bind(&id)
            .bind(&*order.customer)
            .bind(&**key)
            .bind(order.status.as_str())
            .bind(to_bigint(order.total)?)
            .bind(order.placed_at.to_string())
            .bind(i64::from(order.version))
            .execute(&mut *transaction)
            .await?;
        if inserted.rows_affected() == 0 {
            let rows =
                sqlx::query(FIND_BY_KEY).bind(&*order.customer).bind(&**key).fetch_all(&mut *transaction).await?;
            transaction.rollback().await?;
            let before = to_orders(&rows)?.pop();
            return before.map(Placed::Before).ok_or_else(|| nonsense("a key in use, and no order with it"));
        }
        for (line, item) in (1_i64..).zip(&order.items) {
            sqlx::query(INSERT_ITEM)
                .bind(&id)
                .bind(line)
                .bind(&*item.sku)
                .bind(i64::from(item.count))
                .bind(to_bigint(item.cents)?)
                .execute(&mut *transaction)
                .await?;
        }
        let placed = OrderEvent { order: order.id, version: order.version, status: order.status, at: order.placed_at };
        record(&placed).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Placed::New)
    }

    #[tracing::instrument(name = "SELECT orders", skip_all, fields(otel.kind = "client", db.system.name = self.pool.system()))]
    async fn find(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let rows = sqlx::query(FIND).bind(id.to_string()).fetch_all(&mut *connection).await?;
        Ok(to_orders(&rows)?.pop())
    }

    #[tracing::instrument(name = "SELECT orders", skip_all, fields(otel.kind = "client", db.system.name = self.pool.system()))]
    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let rows = sqlx::query(LIST)
            .bind(query.status.map(Status::as_str))
            .bind(query.customer.as_deref())
            .bind(query.after.map(|after| after.to_string()))
            .bind(i64::from(query.limit()) + 1)
            .fetch_all(&mut *connection)
            .await?;
        Ok(Page::of(to_orders(&rows)?, query.limit()))
    }

    #[tracing::instrument(name = "UPDATE orders", skip_all, fields(otel.kind = "client", db.system.name = self.pool.system()))]
    async fn update(&self, order: &Order, event: &OrderEvent) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let updated = sqlx::query(UPDATE_ORDER)
            .bind(order.status.as_str())
            .bind(i64::from(order.version))
            .bind(order.id.to_string())
            .execute(&mut *transaction)
            .await?;
        if updated.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        record(event).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    #[tracing::instrument(name = "SELECT order_events", skip_all, fields(otel.kind = "client", db.system.name = self.pool.system()))]
    async fn events(&self, id: OrderId, after: u32) -> Result<Vec<OrderEvent>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let rows = sqlx::query(EVENTS).bind(id.to_string()).bind(i64::from(after)).fetch_all(&mut *connection).await?;
        rows.iter().map(to_event).collect()
    }
}

type Query = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

fn record(event: &OrderEvent) -> Query {
    sqlx::query(INSERT_EVENT)
        .bind(event.order.to_string())
        .bind(i64::from(event.version))
        .bind(event.status.as_str())
        .bind(event.at.to_string())
}

/// Rows of the same order follow each other.
fn to_orders(rows: &[AnyRow]) -> Result<Vec<Order>, StoreError> {
    let mut orders: Vec<Order> = Vec::new();
    for row in rows {
        let id: OrderId = parsed(row, "id")?;
        let item = Item {
            sku: row.try_get::<String, _>("sku")?.into(),
            count: number(row, "count")?,
            cents: number(row, "cents")?,
        };
        match orders.last_mut().filter(|order| order.id == id) {
            Some(order) => order.items.push(item),
            None => orders.push(Order {
                id,
                customer: row.try_get::<String, _>("customer")?.into(),
                items: vec![item],
                total: number(row, "total")?,
                status: status(row)?,
                placed_at: parsed(row, "placed_at")?,
                version: number(row, "version")?,
            }),
        }
    }
    Ok(orders)
}

fn to_event(row: &AnyRow) -> Result<OrderEvent, StoreError> {
    Ok(OrderEvent {
        order: parsed(row, "order_id")?,
        version: number(row, "version")?,
        status: status(row)?,
        at: parsed(row, "at")?,
    })
}

fn status(row: &AnyRow) -> Result<Status, StoreError> {
    let word: String = row.try_get("status")?;
    Status::named(&word).ok_or_else(|| nonsense(format!("found the status {word:?}")))
}

fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &str) -> Result<T, StoreError>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.try_get::<String, _>(column)?.parse().map_err(|error| StoreError::Refused(Box::new(error)))
}

fn number<T: TryFrom<i64>>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| nonsense(format!("found {number} in column {column}")))
}

fn to_bigint(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| StoreError::Refused(error.into()))
}

fn nonsense(what: impl Into<String>) -> StoreError {
    StoreError::Refused(what.into().into())
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if pool::is_passing(&error) { Self::Unreachable(error.into()) } else { Self::Refused(error.into()) }
    }
}
