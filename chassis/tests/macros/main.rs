//! The macros as a user's crate sees them. They are apart from the unit tests because their code names `::chassis`.

mod problem;
mod service;
mod shapes;
