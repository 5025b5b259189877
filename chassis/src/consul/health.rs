//! What `/v1/health/service/<name>` answers, and what it means for a caller.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Deserialize;

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
    /// Consul keeps whatever number it was given, and leaves 0 where there was none.
    #[serde(default)]
    port: i64,
    #[serde(default)]
    meta: Option<Meta>,
    #[serde(default)]
    weights: Option<Weights>,
}

/// As wide as Consul's own numbers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default = "one")]
    passing: i64,
    #[serde(default = "one")]
    warning: i64,
}

const fn one() -> i64 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckState<'a> {
    #[serde(borrow, default)]
    status: Cow<'a, str>,
}

type Meta = BTreeMap<String, String>;

/// What an answer comes to.
#[derive(Debug, Default)]
pub(super) struct Instances {
    /// In the order of their ids: the same set is the same list.
    pub(super) endpoints: Vec<Endpoint>,
    /// Those that nobody can call.
    pub(super) skipped: Skipped,
}

/// Instances without a port that can be called: how many, and the first of them with what it has instead.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) count: usize,
    pub(super) first: Option<(String, i64)>,
}

/// The instances of an answer. One that makes no sense takes nothing away from the others.
pub(super) fn instances(body: &[u8]) -> Result<Instances, serde_json::Error> {
    let entries: Vec<ServiceEntry<'_>> = serde_json::from_slice(body)?;
    let mut skipped = Skipped::default();
    let mut endpoints = Vec::with_capacity(entries.len());
    for entry in entries {
        let (id, port) = (entry.id(), entry.service.port);
        match u16::try_from(port) {
            Ok(usable) if usable > 0 => endpoints.push(entry.endpoint(&id, usable)),
            _ => {
                skipped.count += 1;
                if skipped.first.as_ref().is_none_or(|(first, _)| id < *first) {
                    skipped.first = Some((id, port));
                }
            }
        }
    }
    endpoints.sort_by(|a: &Endpoint, b| a.id.cmp(&b.id));
    Ok(Instances { endpoints, skipped })
}

impl ServiceEntry<'_> {
    /// Always with its node, since an id is unique on one agent only: what is known of an instance does not depend on others.
    fn id(&self) -> String {
        format!("{}@{}", self.service.id, self.node.node)
    }

    fn endpoint(self, id: &str, port: u16) -> Endpoint {
        let health = self.checks.iter().map(|check| health(&check.status)).max().unwrap_or_default();
        let weights = self.service.weights.unwrap_or(Weights { passing: 1, warning: 1 });
        let (health, weight) = match health {
            // A weight of 0 is Consul's word for: no traffic while it warns.
            EndpointHealth::Warning if weights.warning <= 0 => (EndpointHealth::Critical, 1),
            EndpointHealth::Warning => (health, weights.warning),
            _ => (health, weights.passing),
        };
        let host = if self.service.address.is_empty() { &self.node.address } else { &self.service.address };
        let metadata = self.service.meta.unwrap_or_default();
        let of_node = || self.node.meta.as_ref().and_then(|meta| meta.get(ZONE));
        let zone = metadata.get(ZONE).or_else(of_node).filter(|zone| !zone.is_empty());
        Endpoint {
            id: id.into(),
            host: host.as_ref().into(),
            port,
            weight: u32::try_from(weight.max(1)).unwrap_or(u32::MAX),
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
        instances(entries.to_string().as_bytes()).unwrap().endpoints
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
        assert_eq!(ids, ["a@n1", "a@n2", "b@n1"]);
    }

    #[test]
    fn an_instance_keeps_its_name_when_its_id_comes_up_on_another_node() {
        let alone = of(&json!([entry("a", &[])]));
        let mut other = entry("a", &[]);
        other["Node"]["Node"] = "n2".into();
        let both = of(&json!([entry("a", &[]), other]));
        assert_eq!(alone[0].id, both[0].id, "or its breaker and its load would be forgotten");
    }

    #[test]
    fn an_instance_that_nobody_can_call_is_passed_over_and_the_others_stay() {
        let odd = |id: &str, port: Value| {
            let mut odd = entry(id, &[]);
            odd["Service"]["Port"] = port;
            odd
        };
        let answer = json!([
            odd("z", 0.into()),
            entry("b", &[]),
            odd("high", 70_000.into()),
            odd("low", (-1).into()),
            odd("last", 65_535.into())
        ]);
        let found = instances(answer.to_string().as_bytes()).unwrap();
        let ports: Vec<_> = found.endpoints.iter().map(|endpoint| endpoint.port).collect();
        assert_eq!(ports, [80, 65_535]);
        assert_eq!(found.skipped, Skipped { count: 3, first: Some(("high@n1".to_owned(), 70_000)) });
        let mut heavy = entry("a", &[]);
        heavy["Service"]["Weights"] = json!({ "Passing": 5_000_000_000_i64, "Warning": -1 });
        assert_eq!(of(&json!([heavy]))[0].weight, u32::MAX);
    }
}
