//! Where to look for a service, as one text.

use std::{fmt, str::FromStr};

/// Where to look for the instances of a service.
///
/// | target | where |
/// | --- | --- |
/// | `consul://inventory?tag=v2&dc=dc1` | the Consul agent of `[consul]` |
/// | `dns://inventory.internal:8080` | all addresses of the name (A, AAAA) |
/// | `dns://_http._tcp.inventory.internal` | its SRV records |
/// | `static://10.0.0.1:8080,10.0.0.2:8080` | this list |
/// | `memory://inventory` | the services of this process |
/// | `http://inventory:8080`, `https://inventory` | one address, resolved by the system at each connection |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
}

/// A text that is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Ok(Self { text: text.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
