#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn the_folders_are_those_of_spring_cloud_consul_and_the_service_wins_over_all() {
    assert_eq!(
        folders("/config/", "orders", "prod"),
        ["config/application/", "config/application,prod/", "config/orders/", "config/orders,prod/"]
    );
    assert_eq!(folders("", "application", "dev"), ["application/", "application,dev/"]);
    let kv = Kv::new(&ConsulConfig::default(), "orders", "dev");
    assert_eq!(kv.folders[1].query(), "/v1/kv/config/application%2Cdev/?recurse");
}

fn pair(key: &str, value: &[u8]) -> serde_json::Value {
    serde_json::json!({ "Key": key, "Value": encoded(value), "Session": null, "LockIndex": 0 })
}

#[test]
fn a_folder_is_read_key_by_key_and_what_cannot_be_read_is_named() {
    let pairs = serde_json::json!([
        pair("config/orders/http/request_timeout", b"5s\n"),
        { "Key": "config/orders/http/", "Value": null },
        { "Key": "config/orders/admin/token", "Value": null },
        pair("config/orders/config.toml", b"[log]\nfilter = \"debug\"\n"),
        pair("config/orders/app/name", &[0xff]),
        pair("config/orders/app.size", b"3"),
    ]);
    let read = layer("config/orders/", pairs.to_string().as_bytes());
    let keys: Vec<_> = read.keys.iter().map(|text| (text.key.as_str(), text.text.as_str())).collect();
    assert_eq!(keys, [("admin.token", ""), ("app.size", "3"), ("http.request_timeout", "5s")]);
    assert_eq!(read.keys[2].name, "consul kv config/orders/http/request_timeout");
    assert_eq!(read.documents.len(), 1);
    assert_eq!(read.documents[0].text, "[log]\nfilter = \"debug\"\n");
    let problems: Vec<_> = read.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["app.name: is not UTF-8 text; write the value as UTF-8 (consul kv config/orders/app/name)"]);
}

#[test]
fn an_empty_folder_says_nothing_and_an_answer_that_is_none_is_a_mistake() {
    let empty = layer("config/orders/", b"");
    assert!(empty.keys.is_empty() && empty.problems.is_empty());
    assert_eq!(layer("config/orders/", b"<html>").problems.len(), 1);
}

fn said(text: &'static str, doubtful: bool) -> Result<Option<Said>, String> {
    Ok(Some(Said { body: Bytes::from_static(text.as_bytes()), doubtful }))
}

#[test]
fn only_a_change_of_what_a_folder_says_is_news() {
    let mut kv = Kv::new(&ConsulConfig::default(), "orders", "dev");
    assert!(kv.take(0, said("a", false)));
    assert!(!kv.take(0, said("a", false)), "the index moved, the values did not");
    assert!(!kv.take(0, Ok(None)));
    assert!(!kv.take(0, Err("away".to_owned())));
    assert_eq!(kv.folders[0].body.as_deref(), Some(&b"a"[..]), "the last values stay");
    assert!(kv.take(0, said("", false)), "a deletion is a change");
    assert_eq!(kv.folders[0].failed, None);
}

#[test]
fn a_folder_that_consul_has_lost_keeps_its_values_until_it_has_a_key_again() {
    let mut kv = Kv::new(&ConsulConfig::default(), "orders", "dev");
    kv.take(0, said("a", false));
    kv.take(1, said("", false));
    assert!(!kv.take(0, said("", true)), "it came back empty");
    assert!(!kv.take(0, said("", false)), "and is empty still");
    assert!(!kv.take(1, said("", true)), "there was nothing to lose");
    assert_eq!(kv.folders[0].body.as_deref(), Some(&b"a"[..]));
    let trouble = kv.trouble().unwrap();
    assert!(trouble.starts_with("Consul has lost config/application/:"), "{trouble}");
    assert!(kv.take(0, said("b", false)));
    assert_eq!(kv.trouble(), None);
    assert!(kv.take(0, said("", false)), "a deletion is believed again");
}

/// A store that refuses one folder and has one key in another.
async fn agent_that_refuses_the_shared_folder() -> (String, tokio_util::task::AbortOnDropHandle<()>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut asked = vec![0; 4096];
            let read = socket.read(&mut asked).await.unwrap_or_default();
            let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
            let (status, body) = match asked.split(['?', ' ']).nth(1) {
                Some("/v1/kv/config/application/") => ("403 Forbidden", "Permission denied".to_owned()),
                Some("/v1/kv/config/orders/") => {
                    ("200 OK", serde_json::json!([pair("config/orders/app/size", b"3")]).to_string())
                }
                _ => ("404 Not Found", String::new()),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nx-consul-index: 7\r\ncontent-length: {length}\r\n");
            let answer = format!("{head}connection: close\r\n\r\n{body}");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    };
    (address, tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serve)))
}

#[tokio::test]
async fn folders_that_can_be_read_count_when_another_cannot() {
    let (address, _agent) = agent_that_refuses_the_shared_folder().await;
    let config = ConsulConfig { address, ..ConsulConfig::default() };
    let mut kv = Kv::new(&config, "orders", "dev");
    let refusal = kv.fetch(Duration::from_secs(10)).await.unwrap_err().to_string();
    assert!(refusal.contains("Permission denied") && refusal.contains("config/application/"), "{refusal}");
    let keys: Vec<_> = kv.layers().now().iter().flat_map(|layer| layer.keys.clone()).map(|text| text.key).collect();
    assert_eq!(keys, ["app.size"]);
}

#[test]
fn an_answer_that_was_thinned_out_is_no_answer() {
    let answer = |filtered| ConsulAnswer { status: StatusCode::OK, index: Some(7), filtered, body: Bytes::new() };
    assert!(whole(Some(answer(false))).is_ok_and(|answer| answer.is_some()));
    let error = whole(Some(answer(true))).unwrap_err();
    assert!(is_hopeless(&error) && error.to_string().contains("key:read"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn settings_that_make_no_client_are_told_by_the_check() {
    let config = ConsulConfig { address: "ftp://a:1".to_owned(), ..ConsulConfig::default() };
    let registry = crate::health::Registry::default();
    let reporter = registry.own_reporter("consul_kv", crate::health::Criticality::NotCritical);
    let followed = Kv::new(&config, "orders", "dev").follow(Arc::default(), reporter).await;
    assert!(followed.is_err());
    registry.settle();
    assert_eq!(registry.summary().status, crate::health::Status::Degraded);
}

#[test]
fn values_are_decoded_as_rfc_4648_has_it() {
    for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")] {
        assert_eq!(decoded(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        assert_eq!(encoded(bytes.as_bytes()), text);
    }
    for wrong in ["A", "Zg-=", "Zh==", "ü"] {
        assert_eq!(decoded(wrong), None, "{wrong}");
    }
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(decoded(&encoded(&all)), Some(all));
}

#[test]
fn a_refusal_is_not_asked_again_and_a_cluster_without_a_leader_is() {
    let refused = |status| ConsulError::Refused { call: String::new(), status, message: String::new() };
    assert!(is_hopeless(&refused(StatusCode::FORBIDDEN)));
    assert!(!is_hopeless(&refused(StatusCode::INTERNAL_SERVER_ERROR)));
    assert!(!is_hopeless(&refused(StatusCode::TOO_MANY_REQUESTS)));
}

#[test]
fn who_follows_after_a_panic_believes_the_store_and_not_what_it_knew_at_the_start() {
    let mut kv = Kv::new(&ConsulConfig::default(), "orders", "dev");
    kv.take(0, said("a", false));
    let mut first = kv.follower();
    assert!(!first.take(0, said("a", false)));
    assert!(first.take(0, said("b", false)));
    let mut second = kv.follower();
    assert!(second.take(0, said("a", false)), "the layers hold b");
    assert!(!second.take(0, said("a", false)));
}
