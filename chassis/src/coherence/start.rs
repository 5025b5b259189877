//! What else the start would refuse and the network has no part in: where the two ports listen, the operators' token, files
//! that calls out and the audit log need. The settings alone decide, so it is told with their mistakes: at start, by
//! `config check`, and when they change while the service runs.

use std::collections::BTreeMap;

use super::Mistake;
use crate::{
    client::ClientConfig,
    discovery::{Target, TargetKind},
    server::{AdminConfig, address::ListenAddress}, // floor: settings are values, and lie below
    settings::ServiceConfig,                       // floor: settings are values, and lie below
    telemetry::log::AuditConfig,
    tls::{self, TlsConfig},
};

/// Where the two ports listen, and that they do not listen in one place.
pub(crate) fn addresses(http: &str, admin: &AdminConfig) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut read = |key: &str, text: &str| match text.parse::<ListenAddress>() {
        Ok(address) => Some(address),
        Err(message) => {
            mistakes.push((key.to_owned(), message));
            None
        }
    };
    let main = read("http.address", http);
    let operators = if admin.enabled { read("admin.address", &admin.address) } else { None };
    if let (Some(main), Some(operators)) = (main, operators)
        && main.meets(&operators)
    {
        let message = format!(
            "found {:?}, where http.address = {http:?} listens already; set another port, for example \
             CHASSIS_ADMIN__ADDRESS=127.0.0.1:8081, or admin.enabled = false",
            admin.address
        );
        mistakes.push(("admin.address".to_owned(), message));
    }
    mistakes
}

/// A token that no caller can present opens nothing.
pub(crate) fn admin_token(admin: &AdminConfig) -> Option<Mistake> {
    let token = admin.token.as_ref()?.expose();
    let found = if token.is_empty() {
        "an empty text"
    } else if token.trim() != token {
        "a text with blanks or newlines around it"
    } else if http::HeaderValue::from_str(token).is_err() {
        "a text that no header can hold"
    } else {
        return None;
    };
    let message = format!("found {found}, expected the token as callers send it; set it, or leave the key out");
    Some(("admin.token".to_owned(), message))
}

/// A name or an id of nothing but blanks names no service and no instance.
pub(crate) fn identity(service: &ServiceConfig) -> Vec<Mistake> {
    let texts = [("service.name", &service.name), ("service.instance_id", &service.instance_id)];
    let blank = texts.into_iter().filter(|(_, text)| text.as_ref().is_some_and(|text| text.trim().is_empty()));
    blank
        .map(|(key, _)| (key.to_owned(), "found no text, expected a name; set it, or leave the key out".into()))
        .collect()
}

/// Files that the start reads or writes to. They are looked at, and not made.
pub(crate) fn files(clients: &BTreeMap<String, ClientConfig>, audit: &AuditConfig) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (name, config) in clients {
        let target = config.target.as_deref().and_then(|target| target.parse::<Target>().ok());
        let https = target.is_some_and(|target| matches!(target.kind(), TargetKind::Address { tls: true, .. }));
        // Half of a pair, and TLS in a build without it, are told by the rules of the destinations.
        let whole = config.tls.cert.is_some() == config.tls.key.is_some();
        if cfg!(feature = "tls") && whole && (config.tls.enabled || https) {
            let tls = TlsConfig { enabled: true, ..config.tls.clone() };
            let found = tls::mistakes(&tls).into_iter();
            mistakes.extend(found.map(|(key, message)| (format!("clients.{name}.tls.{key}"), message)));
        }
    }
    mistakes.extend(audit.problem().map(|message| ("log.audit.file".to_owned(), message)));
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn keys(http: &str, admin: &str, enabled: bool) -> Vec<String> {
        let config = AdminConfig { address: admin.to_owned(), enabled, token: None };
        addresses(http, &config).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_two_ports_listen_in_two_places() {
        for (http, admin) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("127.0.0.1:8080", "0.0.0.0:8080"),
            ("[::]:8080", "0.0.0.0:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            assert_eq!(keys(http, admin, true), ["admin.address"], "{http} {admin}");
            assert_eq!(keys(http, admin, false), Vec::<String>::new(), "{http} {admin}");
        }
        for (http, admin) in [("127.0.0.1:0", "127.0.0.1:0"), ("0.0.0.0:8080", "0.0.0.0:8081")] {
            assert_eq!(keys(http, admin, true), Vec::<String>::new(), "{http} {admin}");
        }
    }

    #[test]
    fn both_addresses_are_told_at_once() {
        assert_eq!(keys(":8080", "http://a", true), ["http.address", "admin.address"]);
    }

    #[test]
    fn a_token_that_opens_nothing_is_refused_and_not_shown() {
        for token in ["", " ", "hunter2\n", " hunter2", "hun\nter2"] {
            let admin = AdminConfig { token: Some(Secret::new(token.to_owned())), ..AdminConfig::default() };
            let (key, message) = admin_token(&admin).expect(token);
            assert_eq!(key, "admin.token");
            assert!(!message.contains("hunter2"), "{message}");
        }
        let admin = AdminConfig { token: Some(Secret::new("hunter 2".to_owned())), ..AdminConfig::default() };
        assert_eq!(admin_token(&admin), None);
        assert_eq!(admin_token(&AdminConfig::default()), None);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn every_file_of_a_certificate_is_looked_at() {
        let none = || Some("none.pem".into());
        let tls = TlsConfig { ca: none(), cert: none(), key: none(), server_name: Some("a b".into()), enabled: false };
        let config = ClientConfig { target: Some("https://stock".to_owned()), tls, ..ClientConfig::default() };
        let found = files(&BTreeMap::from([("stock".to_owned(), config)]), &AuditConfig::default());
        let keys: Vec<_> = found.iter().map(|(key, _)| key.trim_start_matches("clients.stock.tls.")).collect();
        assert_eq!(keys, ["ca", "cert", "server_name"], "{found:?}");
    }

    #[test]
    fn an_audit_file_without_its_folder_is_refused_and_not_made() {
        let folder = std::env::temp_dir().join(format!("chassis-audit-{}", std::process::id()));
        let audit = |file: &std::path::Path| AuditConfig { file: Some(file.to_owned()), ..AuditConfig::default() };
        let found = |file: &std::path::Path| files(&BTreeMap::new(), &audit(file)).len();
        assert_eq!(found(&folder.join("audit.log")), 1, "no such folder");
        assert_eq!(found(&std::env::temp_dir()), 1, "a folder");
        assert_eq!(found(std::path::Path::new("")), 1, "no name");
        std::fs::create_dir(&folder).expect("a folder");
        assert_eq!(found(&folder.join("audit.log")), 0);
        assert!(!folder.join("audit.log").exists());
        std::fs::remove_dir(folder).expect("an empty folder");
    }
}
