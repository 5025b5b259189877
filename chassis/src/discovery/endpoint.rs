//! What is known of the instances of a service.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Instant};

use tokio::sync::{Notify, watch};

/// One instance of a service, as its registry tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id in the registry; the address where there is none. What is known of an instance is kept as long as id and
    /// address stay.
    pub id: Arc<str>,
    /// A host name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// How much of the traffic it takes in proportion to others; at least 1.
    pub weight: u32,
    /// Where it runs, when the registry knows.
    pub zone: Option<Arc<str>>,
    /// What the registry's own checks say.
    pub health: EndpointHealth,
    /// What else the registry knows.
    pub metadata: Arc<BTreeMap<String, String>>,
}

impl Endpoint {
    /// An instance of which nothing is known but where it is.
    #[must_use]
    pub fn at(host: &str, port: u16) -> Self {
        Self {
            id: Authority(host, port).to_string().into(),
            host: host.into(),
            port,
            weight: 1,
            zone: None,
            health: EndpointHealth::Passing,
            metadata: Arc::default(),
        }
    }

    /// `host:port`, as a URI has it.
    #[must_use]
    pub fn authority(&self) -> String {
        Authority(&self.host, self.port).to_string()
    }

    /// Where it is, the same for each way to write it.
    pub(crate) fn address(&self) -> Address<'_> {
        Address(Host::of(&self.host), self.port)
    }
}

/// Where an endpoint is. Two that are equal are one place, however they are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address<'a>(Host<'a>, u16);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host<'a> {
    /// An IPv4 address inside an IPv6 one is that IPv4 address (RFC 4291, section 2.5.5.2).
    Ip(IpAddr),
    /// In lower case, without the dot at the end.
    Name(Cow<'a, str>),
}

impl<'a> Host<'a> {
    fn of(text: &'a str) -> Self {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Self::Ip(ip.to_canonical());
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        Self::Name(if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
    }
}

struct Authority<'a>(&'a str, u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        // An IPv6 address is bracketed in a URI (RFC 3986, section 3.2.2).
        if host.contains(':') && !host.starts_with('[') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// What a registry's checks say of an instance, in Consul's words. Worse is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointHealth {
    /// It works.
    #[default]
    Passing,
    /// It works, but somebody should look.
    Warning,
    /// It does not.
    Critical,
}

impl EndpointHealth {
    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The endpoints of a target as they were last told, and how far that is to be trusted.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The last list that was told.
    pub endpoints: Arc<[Endpoint]>,
    /// Whether it still holds.
    pub freshness: Freshness,
}

/// Whether the last list still holds.
#[derive(Debug, Clone)]
pub enum Freshness {
    /// Nothing was told yet.
    Pending,
    /// As the source has it.
    Fresh,
    /// The source is not to be had since then; the list is the last that was known.
    Lost {
        /// Since when.
        since: Instant,
        /// Why.
        reason: Arc<str>,
    },
}

/// Where a [`Resolver`](super::Resolver) tells what it finds.
#[derive(Debug)]
pub struct Updates {
    told: watch::Sender<Resolution>,
    refresh: Refresh,
}

/// Asks the source of a list of endpoints for the list as it is now. Clones ask the same source.
///
/// Connections that fail are the sign that a list is old before its time. How soon the source answers is its own decision.
#[derive(Debug, Clone, Default)]
pub struct Refresh(Arc<Notify>);

impl Refresh {
    /// Asks. Several requests that the source has not taken up yet are one.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

impl Updates {
    /// The two ends.
    #[must_use]
    pub fn channel() -> (Self, watch::Receiver<Resolution>) {
        let pending = Resolution { endpoints: Arc::default(), freshness: Freshness::Pending };
        let (told, receiver) = watch::channel(pending);
        (Self { told, refresh: Refresh::default() }, receiver)
    }

    /// What asks this source for its list.
    #[must_use]
    pub fn refresh(&self) -> Refresh {
        self.refresh.clone()
    }

    /// Waits until the list is asked for, since a connection to one of its endpoints failed. A source that always tells
    /// changes at once need not heed it; one that does must limit how often it asks.
    ///
    /// Cancel safe.
    pub async fn asked(&self) {
        self.refresh.0.notified().await;
    }

    /// This is the list now. Nobody is woken when it is the same as before.
    pub fn set(&self, endpoints: Vec<Endpoint>) {
        self.told.send_if_modified(|resolution| {
            let same = matches!(resolution.freshness, Freshness::Fresh) && *resolution.endpoints == *endpoints;
            if !same {
                *resolution = Resolution { endpoints: endpoints.into(), freshness: Freshness::Fresh };
            }
            !same
        });
    }

    /// The source is not to be had; the last list stays. Nobody is woken when the reason is the same as before.
    pub fn lost(&self, now: Instant, reason: impl fmt::Display) {
        let reason: Arc<str> = reason.to_string().into();
        self.told.send_if_modified(|resolution| {
            let (since, changed) = match &resolution.freshness {
                Freshness::Lost { since, reason: before } => (*since, *before != reason),
                Freshness::Pending | Freshness::Fresh => (now, true),
            };
            resolution.freshness = Freshness::Lost { since, reason };
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_equal_however_it_is_written() {
        let at = |host: &str| Endpoint::at(host, 80);
        for (one, other) in [
            ("::1", "0:0:0:0:0:0:0:1"),
            ("[::1]", "::1"),
            ("FD00::A", "fd00::a"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("Inventory.Internal", "inventory.internal."),
        ] {
            assert_eq!(at(one).address(), at(other).address(), "{one} and {other}");
        }
        assert_ne!(at("10.0.0.1").address(), at("10.0.0.2").address());
        assert_ne!(at("a").address(), Endpoint::at("a", 81).address());
    }
}
