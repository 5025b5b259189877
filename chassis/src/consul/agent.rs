//! What the agent is told of this instance: `/v1/agent/…` of Consul's HTTP API.

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::client::{Consul, ConsulError, held_limit};
use crate::discovery::{Endpoint, EndpointHealth};

/// What stands for itself in one segment of a path (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Consul refuses more pairs, longer keys and longer values than these (`structs.ValidateMetadata`).
const META_PAIRS: usize = 64;
const META_KEY: usize = 128;
const META_VALUE: usize = 512;

/// A service as the agent is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentService {
    /// Unique on the agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service's name.
    pub name: String,
    /// Where others reach it; the address of the agent's node when empty.
    pub address: String,
    /// The port.
    pub port: u16,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Its share of the traffic.
    pub weights: Weights,
    /// Its check.
    pub check: AgentCheck,
}

/// How much of the traffic a service takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While its checks pass.
    pub passing: u32,
    /// While one of them warns.
    pub warning: u32,
}

/// How the agent learns whether the service works. Durations are texts of Go: `20s`, `500ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentCheck {
    /// Unique on the agent.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// For people.
    pub name: String,
    /// What it is until the first result.
    pub status: &'static str,
    /// After how long in critical state the agent forgets the service.
    pub deregister_critical_service_after: String,
    /// What is asked, or how long the service's own word holds.
    #[serde(flatten)]
    pub kind: AgentCheckKind,
}

/// Who asks whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AgentCheckKind {
    /// The service tells the agent.
    #[serde(rename_all = "UPPERCASE")]
    Ttl {
        /// How long its word holds.
        ttl: String,
    },
    /// The agent asks a URL.
    #[serde(rename_all = "PascalCase")]
    Http {
        /// The URL; any 2xx passes, 429 warns.
        #[serde(rename = "HTTP")]
        url: String,
        /// How often.
        interval: String,
        /// How long an answer may take.
        timeout: String,
    },
    /// The agent asks `grpc.health.v1`.
    #[serde(rename_all = "PascalCase")]
    Grpc {
        /// `host:port`, and `/service` to ask for one.
        #[serde(rename = "GRPC")]
        target: String,
        /// How often.
        interval: String,
        /// How long an answer may take.
        timeout: String,
    },
}

/// Finds what Consul would refuse, or would take and make unreachable, before it is asked: the key, and what is wrong. `meta`
/// is all of it, with what the chassis says itself.
pub(crate) fn check_names(service: &str, meta: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let of = |text: &str, marks: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c));
    let mut mistakes = Vec::new();
    let mut tell = |key: &str, message: String| mistakes.push((key.to_owned(), message));
    if service.is_empty() || !of(service, "-_.") {
        let expected = "letters, digits, -, _ and . only: it is registered with Consul";
        tell("service.name", format!("found {service:?}, expected {expected}"));
    }
    if meta.len() > META_PAIRS {
        let found = meta.len();
        tell("discovery.metadata", format!("found {found} pairs with the chassis's own, Consul takes {META_PAIRS}"));
    }
    for (key, value) in meta {
        if key.is_empty() || key.len() > META_KEY || !of(key, "-_") {
            let taken = format!("Consul takes up to {META_KEY} letters, digits, - and _");
            tell("discovery.metadata", format!("found the key {key:?}, {taken}"));
        }
        if key.starts_with("consul-") {
            let message = "keys that start with consul- are Consul's own".to_owned();
            tell(&format!("discovery.metadata.{key}"), message);
        }
        if value.len() > META_VALUE {
            let place = match key.as_str() {
                "instance" => "service.instance_id".to_owned(),
                "zone" => "discovery.zone".to_owned(),
                "version" => "service.version".to_owned(),
                key => format!("discovery.metadata.{key}"),
            };
            tell(&place, format!("found {} bytes, Consul takes {META_VALUE}", value.len()));
        }
    }
    mistakes
}

impl Consul {
    /// Registers the service with the agent, in the place of any other with its id.
    ///
    /// # Errors
    ///
    /// No answer within `limit`, or a refusal.
    pub async fn register(&self, service: &AgentService, limit: Duration) -> Result<(), ConsulError> {
        self.put("/v1/agent/service/register?replace-existing-checks=true", service, limit).await
    }

    /// Takes the service out. That the agent knows no such service is a success.
    ///
    /// # Errors
    ///
    /// No answer within `limit`, or a refusal.
    pub async fn deregister(&self, id: &str, limit: Duration) -> Result<(), ConsulError> {
        match self.put(&format!("/v1/agent/service/deregister/{}", Segment(id)), &(), limit).await {
            Err(error) if error.is_unknown() => Ok(()),
            other => other,
        }
    }

    /// Tells the agent how a TTL check is, with a note for people.
    ///
    /// # Errors
    ///
    /// No answer within `limit`, or a refusal; see [`ConsulError::is_unknown`].
    pub async fn update_check(
        &self,
        check: &str,
        health: EndpointHealth,
        note: &str,
        limit: Duration,
    ) -> Result<(), ConsulError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Update<'a> {
            status: &'static str,
            output: &'a str,
        }
        let update = Update { status: health.as_str(), output: note };
        self.put(&format!("/v1/agent/check/update/{}", Segment(check)), &update, limit).await
    }

    /// Whether the agent itself holds this service.
    ///
    /// # Errors
    ///
    /// No answer within `limit`, or a refusal.
    pub async fn holds_service(&self, id: &str, limit: Duration) -> Result<bool, ConsulError> {
        let path = format!("/v1/agent/service/{}", Segment(id));
        let answer = self.call(Method::GET, &path, None, limit).await?;
        match answer.success(&format!("GET {path}")) {
            Ok(_) => Ok(true),
            Err(error) if error.is_unknown() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The ids of the services of this name that the agent holds at this address and port. An empty address is the node's.
    ///
    /// # Errors
    ///
    /// No answer within `limit`, or a refusal.
    pub async fn services_at(
        &self,
        name: &str,
        address: &str,
        port: u16,
        limit: Duration,
    ) -> Result<Vec<String>, ConsulError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Held {
            #[serde(rename = "ID")]
            id: String,
            service: String,
            #[serde(default)]
            address: String,
            #[serde(default)]
            port: i64,
        }
        const CALL: &str = "GET /v1/agent/services";
        // A name that may be registered needs no escapes inside the quotes.
        let filter = format!("Service == \"{name}\"");
        let path = format!("/v1/agent/services?filter={}", Segment(&filter));
        let answer = self.call(Method::GET, &path, None, limit).await?.success(CALL)?;
        // Versions that know no filter answer with all.
        let held: BTreeMap<String, Held> = answer.json(CALL)?;
        let place = |address: &str| (!address.is_empty()).then(|| Endpoint::at(address, port));
        let ours = place(address);
        let is_there = |held: &Held| {
            let theirs = place(&held.address);
            held.service == name
                && held.port == i64::from(port)
                && ours.as_ref().map(Endpoint::address) == theirs.as_ref().map(Endpoint::address)
        };
        Ok(held.into_values().filter(is_there).map(|held| held.id).collect())
    }

    /// Waits until the agent holds another service under this id than at `hash`, or none, for at most `wait`; with an empty
    /// hash it is answered at once. Gives the hash of what it holds, `None` when it holds none.
    ///
    /// # Errors
    ///
    /// No answer within `wait` + 1/16 and 2 s, or a refusal, or an answer without a hash.
    pub(super) async fn watch_service(
        &self,
        id: &str,
        hash: &str,
        wait: Duration,
    ) -> Result<Option<String>, ConsulError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Watched {
            content_hash: String,
        }
        let path = format!("/v1/agent/service/{}?hash={}&wait={}ms", Segment(id), Segment(hash), wait.as_millis());
        let call = format!("GET {path}");
        match self.call(Method::GET, &path, None, held_limit(wait)).await?.success(&call) {
            Ok(answer) => Ok(Some(answer.json::<Watched>(&call)?.content_hash)),
            Err(error) if error.is_unknown() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, path: &str, body: &impl Serialize, limit: Duration) -> Result<(), ConsulError> {
        let call = format!("PUT {}{path}", self.address());
        let body = serde_json::to_vec(body)
            .map_err(|error| ConsulError::Undecodable { call: call.clone(), message: error.to_string() })?;
        let body = if body == b"null" { Bytes::new() } else { body.into() };
        let answer = self.call(Method::PUT, path, Some(body), limit).await?;
        answer.success(&call).map(drop)
    }
}

impl ConsulError {
    /// Whether the agent knows nothing of the check or service it was asked about: 404, or 500 with these words in versions
    /// before 1.13.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Refused { status, message, .. } => {
                let says = |words: &str| message.contains(words);
                *status == http::StatusCode::NOT_FOUND
                    || (status.is_server_error()
                        && (says("does not have associated TTL") || says("Unknown check") || says("Unknown service")))
            }
            Self::Unreachable { .. } | Self::Undecodable { .. } => false,
        }
    }

    /// Whether the same call fails again: the agent understood it and says no.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_client_error() && status.as_u16() != 429)
    }

    /// Returns whether Consul does not answer, or fails itself: it may work again at any moment.
    pub(super) fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Undecodable { .. } => false,
        }
    }

    /// The kind of failure, without what differs from try to try.
    pub(super) fn kind(&self) -> (u8, u16) {
        match self {
            Self::Unreachable { .. } => (0, 0),
            Self::Refused { status, .. } => (1, status.as_u16()),
            Self::Undecodable { .. } => (2, 0),
        }
    }
}

/// One segment of a path, escaped.
pub(super) struct Segment<'a>(pub(super) &'a str);

impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        utf8_percent_encode(self.0, SEGMENT).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_consul_would_refuse_is_told_by_its_key_before_consul_is_asked() {
        let meta = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert!(check_names("orders-2.eu_west", &meta("build_id", "any text: ü /")).is_empty());
        let long = "x".repeat(513);
        let many: BTreeMap<_, _> = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
        for (service, meta, told) in [
            ("orders/eu", BTreeMap::new(), "service.name"),
            ("", BTreeMap::new(), "service.name"),
            ("orders", meta("a b", "c"), "\"a b\""),
            ("orders", meta("consul-x", "c"), "discovery.metadata.consul-x"),
            ("orders", meta("a", &long), "513 bytes"),
            ("orders", meta("instance", &long), "service.instance_id"),
            ("orders", many, "65 pairs"),
        ] {
            let [(key, message)] = &check_names(service, &meta)[..] else { panic!("one mistake: {told}") };
            assert!(format!("{key}: {message}").contains(told), "{key}: {message}");
        }
    }

    #[test]
    fn an_unknown_check_is_known_by_the_words_of_every_version() {
        let refused = |status: u16, message: &str| ConsulError::Refused {
            call: String::new(),
            status: http::StatusCode::from_u16(status).unwrap(),
            message: message.to_owned(),
        };
        assert!(refused(500, "CheckID \"service:a\" does not have associated TTL").is_unknown());
        assert!(refused(404, "Unknown check ID \"service:a\"").is_unknown());
        assert!(!refused(500, "No cluster leader").is_unknown());
        assert!(!refused(403, "Permission denied").is_unknown());
    }

    #[test]
    fn an_id_is_one_segment_of_a_path() {
        assert_eq!(Segment("orders-1/2 ü").to_string(), "orders-1%2F2%20%C3%BC");
    }
}
