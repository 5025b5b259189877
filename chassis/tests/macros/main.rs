//! The macros as a user's crate sees them. They are apart from the unit tests because their code names `::chassis`.

#[cfg(feature = "testing")]
mod client;
#[cfg(feature = "testing")]
mod client_fallback;
#[cfg(feature = "testing")]
mod client_faults;
mod problem;
mod service;
mod shapes;
