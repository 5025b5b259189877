//! What the service is about. Nothing here knows of HTTP, gRPC or the configuration.

mod error;
mod greeting;

pub(crate) use error::GreetError;
pub(crate) use greeting::{Greeting, greet};
