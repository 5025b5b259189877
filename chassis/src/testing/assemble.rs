//! How a service is put together for a test: the function that `main` calls, whatever its form.

use crate::{Chassis, Error, Result};

/// The chassis itself.
#[doc(hidden)]
#[derive(Debug)]
pub enum Plain {}

/// A `Result` of it.
#[doc(hidden)]
#[derive(Debug)]
pub enum Fallible {}

/// A future of what `M` says.
#[doc(hidden)]
#[derive(Debug)]
pub struct Later<M>(std::marker::PhantomData<M>);

/// What a service's assembly gives: the [`Chassis`], a `Result` of it, or a future of either.
///
/// `fn service(chassis: Chassis) -> Chassis`, `-> chassis::Result<Chassis>`, and `async fn` with either: all of them go into
/// [`TestService::start`](super::TestService::start). `M` tells the forms apart and is never named.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no assembled service",
    label = "expected `Chassis`, `Result<Chassis, _>`, or a future of one of them",
    note = "write `async fn service(chassis: Chassis) -> chassis::Result<Chassis>`; the settings' type is the same in both"
)]
pub trait Assembled<S, M> {
    /// Waits for it, when there is something to wait for.
    fn assembled(self) -> impl Future<Output = Result<Chassis<S>>>;
}

impl<S> Assembled<S, Plain> for Chassis<S> {
    async fn assembled(self) -> Result<Self> {
        Ok(self)
    }
}

impl<S, E: Into<Error>> Assembled<S, Fallible> for Result<Chassis<S>, E> {
    async fn assembled(self) -> Result<Chassis<S>> {
        self.map_err(Into::into)
    }
}

impl<S, M, F> Assembled<S, Later<M>> for F
where
    F: Future,
    F::Output: Assembled<S, M>,
{
    async fn assembled(self) -> Result<Chassis<S>> {
        self.await.assembled().await
    }
}
