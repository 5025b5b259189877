//! The tables, and how they came to be.

use std::borrow::Cow;

use sqlx::{
    AnyPool, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// Each migration once, for ever: a change of the tables is a new one.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "orders", include_str!("../../migrations/0001_orders.sql"))];

/// Runs what has not run yet. On PostgreSQL instances that start together do it one after the other; a file of SQLite belongs
/// to one instance.
pub(super) async fn migrate(pool: &AnyPool) -> Result<(), sqlx::Error> {
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.into()).run(pool).await.map_err(Into::into)
}
