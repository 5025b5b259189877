//! A microservice chassis: a team writes domain logic, the chassis makes a production service of it.
//!
//! ```no_run
//! use chassis::prelude::*;
//!
//! #[derive(serde::Serialize)]
//! struct Greeting {
//!     text: String,
//! }
//!
//! struct Hello;
//!
//! #[service]
//! impl Hello {
//!     /// Greet somebody.
//!     #[get("/hello/{name}")]
//!     async fn hello(&self, name: String) -> Greeting {
//!         Greeting { text: format!("hello, {name}") }
//!     }
//! }
//!
//! #[chassis::main]
//! async fn main(chassis: Chassis) -> chassis::Result<()> {
//!     chassis.mount(Hello).serve().await
//! }
//! ```
//!
//! That is a whole service: configuration with the origin of each value, `/livez` `/readyz` `/startupz`, metrics, traces,
//! logs, deadlines, limits, and a stop that loses no request. `cargo run -- --help` shows its command line.
//!
//! It attaches rather than covers. Everything is a tower layer or a small trait on plain axum, tonic and tracing:
//! [`Chassis::mount`] takes any axum `Router`, [`Chassis::grpc`] any tonic server, and [`Chassis::new`] leaves `main` to you.
//!
//! # Where to look
//!
//! - [`Chassis`]: what a service is made of, and its life
//! - [`mod@service`], [`problem`]: handlers and errors as domain types
//! - [`openapi`]: the document of what is served
//! - [`mod@client`]: typed calls of other services; their balancer, breakers, retries, deadlines
//! - [`discovery`], [`consul`], [`tls`]: where others are and where this instance is told to be
//! - [`leader`]: one of the instances does the work
//! - `cache` (feature `cache`): answers that are kept
//! - [`config`], [`settings`], [`server`]: values, their origins, secrets, reload; every key of the chassis itself
//! - [`health`], [`tasks`], [`shutdown`]: readiness, background work, the stop
//! - [`telemetry`], [`context`]: traces, metrics, logs; the request being served
//! - [`cause`]: the one vocabulary of refusal
//! - [`observe`], [`catch_panic`], [`drain`], [`deadline`], [`host`], [`body_limit`], [`fallback`], [`route`]: the layers,
//!   outermost first
//! - `testing` (feature `testing`): the whole service in a test's process
//!
//! `ARCHITECTURE.md` in the repository says where things are.

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

// Floor 0: the vocabulary.
pub mod cause;
mod clock;
pub mod context;
pub mod error;
pub mod identity;
mod media;
pub mod shutdown;

// Floors 1 and 2: decisions, and what touches tower, files or the network.
pub mod body_limit;
#[cfg(feature = "cache")]
pub mod cache;
pub mod catch_panic;
pub mod client;
pub mod config;
pub mod consul;
pub mod deadline;
pub mod discovery;
pub mod drain;
pub mod fallback;
mod grpc_only;
pub mod health;
pub mod host;
pub mod leader;
mod lever;
pub mod observe;
pub mod problem;
pub mod reject;
pub mod route;
pub mod service;
pub mod tasks;
pub mod telemetry;
pub mod tls;

// Floor 3: the order, and whether all parts agree.
mod coherence;
mod stack;

// Floor 4: what gathers and runs.
mod chassis;
mod cli;
pub mod openapi;
pub mod server;
pub mod settings;
#[cfg(feature = "testing")]
pub mod testing;

#[doc(hidden)]
pub mod __private;

/// The crates whose types this one's signatures name, in the versions that it is built on: a service need not list them to use
/// `#[extract] headers: chassis::http::HeaderMap`, a `chassis::axum::Router` or a `chassis::tonic::Status`.
///
/// The code that tonic generates names `tonic`, so this one is a dependency of its own wherever it is compiled; `prost` and
/// `tonic_prost` can be had from here, as `examples/hello-grpc` shows.
pub use {axum, http, prost, tonic, tonic_prost};

pub use self::{
    chassis::{Bound, Chassis, Handle, HostClients},
    context::RequestContext,
    error::{BoxError, Error, Result},
};
/// The [`BuildInfo`](identity::BuildInfo) of the crate that is being compiled, for [`Chassis::new`]: what `#[chassis::main]`
/// says of the build by itself.
///
/// Name and version are the package's. The commit is that of the git repository around it, or the variable
/// `CHASSIS_GIT_COMMIT` at build time, or `None`. The time is that of the build, or the moment that `SOURCE_DATE_EPOCH` claims.
/// A constant may hold it.
///
/// ```
/// use chassis::identity::BuildInfo;
///
/// const BUILD: BuildInfo = chassis::build_info!();
/// assert_eq!(BUILD.name, env!("CARGO_PKG_NAME"));
/// ```
pub use chassis_rs_macros::build_info;
/// Makes `async fn main(chassis: Chassis) -> chassis::Result<()>` the whole process: command line, configuration, runtime,
/// signals, telemetry, exit code.
///
/// The argument is [`Chassis`], or `Chassis<Settings>` with the type of the service's own section `[app]`.
pub use chassis_rs_macros::main;
pub use client::client;
pub use problem::Problem;
pub use service::service;

/// What a service file imports.
pub mod prelude {
    pub use crate::{
        Chassis,
        problem::{IntoProblem, Problem},
        service::{Accepted, Created, IntoRoutes, NoContent, delete, get, head, patch, post, put, rpc, service},
    };
}

/// What a run of the tests without a feature leaves out, said in its own list.
#[cfg(test)]
mod left_out {
    macro_rules! left_out {
        ($($feature:literal $why:literal $name:ident)*) => {$(
            #[cfg(not(feature = $feature))]
            #[test]
            #[ignore = $why]
            fn $name() {}
        )*};
    }

    left_out! {
        "testing" "they need the feature testing; --all-features has it" the_tests_of_what_is_exported
        "tls" "they need the feature tls; --all-features has it" the_tests_of_certificates
        "dns" "they need the feature dns; --all-features has it" the_tests_of_dns
        "cache" "they need the feature cache; --all-features has it" the_tests_of_the_cache
    }
}
