//! One truth about this instance's health, and its outlets: HTTP probes, gRPC health, discovery, the admin page.
//!
//! **Three questions.** *Live*: does the process run? *Started*: has every scheduled check run once, and has start-up
//! ended? *Ready*: started, not draining, and every critical check up or degraded. Liveness never looks at a check: a
//! restart cannot mend somebody else's database. A stuck event loop cannot answer its probe, and this silence is the signal
//! that the prober's own timeout turns into a restart; no code inside the loop could tell it more honestly.
//!
//! **Two kinds of check.** *Scheduled* checks ([`Registry::check`]) are run in the background, all in parallel, each at its
//! own interval and with its own timeout; thresholds keep one lost packet from moving traffic. *Reported* checks
//! ([`Registry::reporter`]) are set by whoever knows. A probe only reads results, so it costs the same however slow a check is.
//!
//! **Words.** A check's status is `up`, `degraded` (works, somebody should look), `down` or `unknown` (no result yet, or none
//! for too long). A check that is not critical never takes the instance out of traffic; when it is not up, the instance as a
//! whole is `degraded`.
//!
//! ```
//! use chassis::health::{CheckError, CheckOptions, Registry};
//!
//! # async fn ping() -> std::io::Result<()> { Ok(()) }
//! let registry = Registry::default();
//! registry.check("db", || async { ping().await });
//! registry.check_with("disk", CheckOptions::default().not_critical(), || async {
//!     Err::<(), _>(CheckError::degraded("91 % full"))
//! });
//! assert!(!registry.is_ready(), "nothing has run yet");
//! ```
//!
//! Sources: Dropwizard's health module (thresholds, criticality), Kubernetes probes (timeout), the gRPC health checking
//! protocol with gRFC A90 (`List`).

mod aggregate;
mod caught;
mod check;
mod config;
mod event_loop;
pub mod grpc;
pub mod http;
mod registry;
mod report;
mod responses;
mod scheduler;
mod state;
mod status;

#[allow(
    missing_docs,
    missing_debug_implementations,
    rust_2018_idioms,
    unreachable_pub,
    clippy::all,
    clippy::semicolon_if_nothing_returned,
    clippy::unwrap_used,
    reason = "made by `cargo xtask generate` from proto/grpc/health/v1/health.proto"
)]
#[rustfmt::skip]
mod generated;

pub use check::{Check, CheckError, CheckOptions};
pub use config::HealthConfig;
pub use registry::{Registry, Reporter};
pub use report::{CheckReport, Report, Schedule, Summary};
pub use status::{Criticality, Status};

pub(crate) use caught::caught;
pub(crate) use responses::Answers;

/// Where probers ask: routes over HTTP, and the method over gRPC.
pub(crate) const PROBES: [&str; 4] = ["/livez", "/readyz", "/startupz", "/grpc.health.v1.Health/Check"];
