//! What `/v1/health/service/<name>` answers, and what it means for a caller.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::agent::Weights;
use crate::discovery::{Endpoint, EndpointHealth};

/// The key of the zone in the metadata of a service or of its node.
const ZONE: &str = "zone";

/// One instance with its node and all its checks. Fields that nothing here needs are left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceEntry<'a> {
    #[serde(borrow)]
    node: Node<'a>,
    #[serde(borrow)]
    service: Service<'a>,
    #[serde(borrow, default)]
    checks: Vec<CheckState<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node<'a> {
    #[serde(borrow, default)]
    node: Cow<'a, str>,
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service<'a> {
    #[serde(borrow, rename = "ID")]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    port: u16,
    #[serde(default)]
    meta: Option<Meta>,
    #[serde(default)]
    weights: Option<Weights>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckState<'a> {
    #[serde(borrow, default)]
    status: Cow<'a, str>,
}

type Meta = BTreeMap<String, String>;

/// The instances of an answer, in the order of their ids: the same set is the same list.
pub(super) fn endpoints(body: &[u8]) -> Result<Vec<Endpoint>, serde_json::Error> {
    let entries: Vec<ServiceEntry<'_>> = serde_json::from_slice(body)?;
    // With its node: an id is unique on one agent only.
    let mut found: Vec<_> = entries.into_iter().map(|entry| (entry.node.node.clone(), entry.endpoint())).collect();
    found.sort_by(|(a_node, a), (b_node, b)| (&a.id, a_node).cmp(&(&b.id, b_node)));
    let same = |a: usize, b: usize| found.get(b).is_some_and(|(_, other)| other.id == found[a].1.id);
    let twice: Vec<bool> = (0..found.len()).map(|n| same(n, n + 1) || (n > 0 && same(n, n - 1))).collect();
    let named = found.into_iter().zip(twice).map(|((node, mut endpoint), twice)| {
        if twice {
            endpoint.id = format!("{}@{node}", endpoint.id).into();
        }
        endpoint
    });
    Ok(named.collect())
}

impl ServiceEntry<'_> {
    fn endpoint(self) -> Endpoint {
        let health = self.checks.iter().map(|check| health(&check.status)).max().unwrap_or_default();
        let weights = self.service.weights.unwrap_or(Weights { passing: 1, warning: 1 });
        let (health, weight) = match health {
            // A weight of 0 is Consul's word for: no traffic while it warns.
            EndpointHealth::Warning if weights.warning == 0 => (EndpointHealth::Critical, 1),
            EndpointHealth::Warning => (health, weights.warning),
            _ => (health, weights.passing),
        };
        let host = if self.service.address.is_empty() { &self.node.address } else { &self.service.address };
        let metadata = self.service.meta.unwrap_or_default();
        let of_node = || self.node.meta.as_ref().and_then(|meta| meta.get(ZONE));
        let zone = metadata.get(ZONE).or_else(of_node).filter(|zone| !zone.is_empty());
        Endpoint {
            id: self.service.id.as_ref().into(),
            host: host.as_ref().into(),
            port: self.service.port,
            weight: weight.max(1),
            zone: zone.map(|zone| zone.as_str().into()),
            health,
            metadata: Arc::new(metadata),
        }
    }
}

/// What a check says. Maintenance is a critical check of Consul's own; a word that is not known is no good sign.
fn health(status: &str) -> EndpointHealth {
    match status {
        "passing" => EndpointHealth::Passing,
        "warning" => EndpointHealth::Warning,
        _ => EndpointHealth::Critical,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(entries: &Value) -> Vec<Endpoint> {
        endpoints(entries.to_string().as_bytes()).unwrap()
    }

    fn entry(id: &str, statuses: &[&str]) -> Value {
        json!({
            "Node": { "Node": "n1", "Address": "10.0.0.1", "Meta": { "zone": "z1" } },
            "Service": {
                "ID": id, "Service": "a", "Address": "10.0.0.9", "Port": 80, "Meta": { "version": "2" },
                "Weights": { "Passing": 8, "Warning": 2 },
            },
            "Checks": statuses.iter().map(|status| json!({ "Status": status })).collect::<Vec<_>>(),
        })
    }

    #[test]
    fn the_worst_check_of_node_and_service_decides_and_brings_its_weight() {
        for (statuses, health, weight) in [
            (&[][..], EndpointHealth::Passing, 8),
            (&["passing", "passing"], EndpointHealth::Passing, 8),
            (&["warning", "passing"], EndpointHealth::Warning, 2),
            (&["passing", "critical", "warning"], EndpointHealth::Critical, 8),
            (&["passing", "maintenance"], EndpointHealth::Critical, 8),
        ] {
            let endpoint = &of(&json!([entry("a", statuses)]))[0];
            assert_eq!((endpoint.health, endpoint.weight), (health, weight), "{statuses:?}");
        }
        let mut none = entry("a", &["warning"]);
        none["Service"]["Weights"]["Warning"] = 0.into();
        assert_eq!(of(&json!([none]))[0].health, EndpointHealth::Critical);
    }

    #[test]
    fn what_the_service_does_not_say_its_node_does() {
        let mut own = entry("a", &[]);
        assert_eq!(of(&json!([own]))[0].zone.as_deref(), Some("z1"));
        own["Service"]["Meta"]["zone"] = "z2".into();
        assert_eq!(of(&json!([own]))[0].zone.as_deref(), Some("z2"));
        own["Service"]["Address"] = "".into();
        own["Service"]["Meta"] = Value::Null;
        own["Node"]["Meta"] = Value::Null;
        let endpoint = &of(&json!([own]))[0];
        assert_eq!((&*endpoint.host, endpoint.zone.as_deref()), ("10.0.0.1", None));
    }

    #[test]
    fn the_same_set_is_the_same_list_and_an_id_on_two_nodes_is_two_instances() {
        let mut other = entry("a", &[]);
        other["Node"]["Node"] = "n2".into();
        let (first, second) = (of(&json!([entry("a", &[]), other, entry("b", &[])])), {
            of(&json!([entry("b", &[]), other, entry("a", &[])]))
        });
        assert_eq!(first, second);
        let ids: Vec<_> = first.iter().map(|endpoint| &*endpoint.id).collect();
        assert_eq!(ids, ["a@n1", "a@n2", "b"]);
    }
}
