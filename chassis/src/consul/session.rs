//! Sessions and locks of Consul: each function is one call.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Consul, ConsulAnswer, ConsulConfig, ConsulError, kv::encoded};

/// What a session is made with.
#[derive(Debug, Clone)]
pub(super) struct SessionSpec {
    /// For people: `consul` shows it.
    pub(super) name: String,
    pub(super) ttl: Duration,
    pub(super) lock_delay: Duration,
}

/// What came of an attempt to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locked {
    /// With the index of the log at which it was locked.
    Yes(u64),
    /// Another session holds it, or its delay is not over, or this session is not known.
    No,
}

/// Where a key is. A transaction takes it from each operation, not from its query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    namespace: Option<String>,
    partition: Option<String>,
}

impl Scope {
    pub(crate) fn of(config: &ConsulConfig) -> Self {
        Self { namespace: config.namespace.clone(), partition: config.partition.clone() }
    }
}

/// The transaction that locks a key and writes its value.
fn lock_transaction(scope: &Scope, key: &str, value: &str, id: &str) -> Value {
    let mut lock = json!({ "Verb": "lock", "Key": key, "Value": encoded(value.as_bytes()), "Session": id });
    for (field, value) in [("Namespace", &scope.namespace), ("Partition", &scope.partition)] {
        if let Some(value) = value {
            lock[field] = json!(value);
        }
    }
    json!([{ "KV": lock }])
}

/// What was wrong with a transaction, if it was not that the lock cannot be had now. Consul answers 409 for either.
fn forbidden(answer: &ConsulAnswer) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refused {
        errors: Option<Vec<Wrong>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wrong {
        #[serde(default)]
        what: String,
    }
    let refused: Refused = serde_json::from_slice(&answer.body).ok()?;
    let mut said = refused.errors.unwrap_or_default().into_iter().map(|wrong| wrong.what);
    // As Consul's own acl.IsErrPermissionDenied.
    said.find(|what| what.contains("Permission denied"))
}

/// Seconds as Go reads them.
fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

fn body(json: &Value) -> Option<Bytes> {
    Some(Bytes::from(json.to_string()))
}

/// Makes a session that ends only by its time or by an operator's hand: no check of the node ends it, because that would
/// be sooner than its holder can know. Locks are released when it ends, not deleted.
pub(super) async fn create(consul: &Consul, spec: &SessionSpec, limit: Duration) -> Result<String, ConsulError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    struct Made {
        id: String,
    }
    const CALL: &str = "PUT /v1/session/create";
    let asked = json!({
        "Name": spec.name, "TTL": go_duration(spec.ttl), "LockDelay": go_duration(spec.lock_delay),
        "Behavior": "release", "NodeChecks": [], "Checks": [],
    });
    let answer = consul.call(Method::PUT, "/v1/session/create", body(&asked), limit).await?.success(CALL)?;
    Ok(answer.json::<Made>(CALL)?.id)
}

/// Renews it; `false` when Consul does not know it.
pub(super) async fn renew(consul: &Consul, id: &str, limit: Duration) -> Result<bool, ConsulError> {
    let answer = consul.call(Method::PUT, &format!("/v1/session/renew/{id}"), None, limit).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(false);
    }
    answer.success("PUT /v1/session/renew").map(|_| true)
}

/// Locks the key and writes its value, if no other session holds it. A transaction, because its answer has the index.
pub(super) async fn lock(
    consul: &Consul,
    scope: &Scope,
    key: &str,
    value: &str,
    id: &str,
    limit: Duration,
) -> Result<Locked, ConsulError> {
    const CALL: &str = "PUT /v1/txn (lock)";
    let asked = lock_transaction(scope, key, value, id);
    let answer = consul.call(Method::PUT, "/v1/txn", body(&asked), limit).await?;
    if answer.status == StatusCode::CONFLICT {
        return match forbidden(&answer) {
            Some(message) => {
                Err(ConsulError::Refused { call: CALL.to_owned(), status: StatusCode::FORBIDDEN, message })
            }
            None => Ok(Locked::No),
        };
    }
    let answer: Value = answer.success(CALL)?.json(CALL)?;
    let index = answer.pointer("/Results/0/KV/ModifyIndex").and_then(Value::as_u64);
    index.map(Locked::Yes).ok_or_else(|| ConsulError::Undecodable {
        call: CALL.to_owned(),
        message: "found no ModifyIndex, expected that of the locked key".to_owned(),
    })
}

/// Releases the lock, so that it has no delay. The session stays. A lock that the session does not hold is a success.
pub(super) async fn release(consul: &Consul, key: &str, id: &str, limit: Duration) -> Result<(), ConsulError> {
    let release = format!("{}?release={id}", path(key));
    consul.call(Method::PUT, &release, None, limit).await?.success("PUT (release)").map(|_| ())
}

/// Releases the lock, and then ends the session.
pub(super) async fn give_back(consul: &Consul, key: &str, id: &str, limit: Duration) -> Result<(), ConsulError> {
    let released = release(consul, key, id, limit).await;
    let ended = consul.call(Method::PUT, &format!("/v1/session/destroy/{id}"), None, limit).await;
    released.and(ended?.success("PUT /v1/session/destroy")).map(|_| ())
}

/// Where a key is.
pub(super) fn path(key: &str) -> String {
    let parts: Vec<_> = key.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()).collect();
    format!("/v1/kv/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_path_whose_parts_are_encoded() {
        assert_eq!(path("chassis/leader/orders/night run"), "/v1/kv/chassis/leader/orders/night%20run");
    }

    #[test]
    fn a_lock_that_a_token_may_not_take_is_told_from_one_that_is_held() {
        let refused = |body: &str| {
            let body = Bytes::from(body.to_owned());
            forbidden(&ConsulAnswer { status: StatusCode::CONFLICT, index: None, filtered: false, body })
        };
        let held =
            r#"{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to lock key \"a\", lock is already held"}]}"#;
        let denied = r#"{"Results":null,"Errors":[{"OpIndex":0,"What":"Permission denied"}]}"#;
        assert_eq!(refused(held), None);
        assert_eq!(refused(denied).as_deref(), Some("Permission denied"));
        assert_eq!(refused("Permission denied"), None, "not what a transaction answers");
    }

    #[test]
    fn a_lock_is_taken_in_the_namespace_of_its_session() {
        let config = ConsulConfig { namespace: Some("shop".into()), ..ConsulConfig::default() };
        let asked = lock_transaction(&Scope::of(&config), "a/b", "one", "id");
        assert_eq!(asked[0]["KV"]["Namespace"], "shop");
        let plain = lock_transaction(&Scope::default(), "a/b", "one", "id");
        let expected = json!([{ "KV": { "Verb": "lock", "Key": "a/b", "Value": "b25l", "Session": "id" } }]);
        assert_eq!(plain, expected, "what Consul does not know of it refuses");
    }
}
