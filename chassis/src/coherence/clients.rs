//! Whether the settings of each destination of calls out agree with each other. The settings alone decide, so it is told with
//! their mistakes: at start, by `config check`, and when they change while the service runs.

use std::collections::BTreeMap;

use http::uri::Authority;

use crate::{
    client::ClientConfig,
    config::Duration,
    discovery::{RegistryKind, Target, TargetKind},
};

/// What contradicts itself: the key, and what was found, against what, and what to change.
pub(crate) type Mistake = (String, String);

type Rule = fn(&Client<'_>) -> Vec<(&'static str, String)>;

/// The rules by name.
const RULES: &[(&str, Rule)] = &[
    ("a name is a host of a URI", name_of_no_uri),
    ("a target is there, and can be read", target),
    ("every attempt can begin before the call ends", attempts_beyond_the_timeout),
    ("a wait is no longer than the call", waits_beyond_the_timeout),
    ("a slow call is one that may happen", slow_calls_that_never_are),
    ("a first wait is no longer than the longest", waits_in_order),
    ("what is turned on is paid for", nothing_to_pay_with),
    ("an idempotent method is one of gRPC", idempotent_methods),
    ("TLS is whole, and meant", tls),
    ("hosts that come and go are not critical", critical_hosts),
    ("a connection holds at least one answer", windows),
];

/// One destination, as the rules look at it.
struct Client<'a> {
    name: &'a str,
    config: &'a ClientConfig,
    register: RegistryKind,
}

/// All contradictions of all destinations.
pub(crate) fn clients(clients: &BTreeMap<String, ClientConfig>, register: RegistryKind) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (name, config) in clients {
        let client = Client { name, config, register };
        for (key, message) in RULES.iter().flat_map(|(_, rule)| rule(&client)) {
            let dot = if key.is_empty() { "" } else { "." };
            mistakes.push((format!("clients.{name}{dot}{key}"), message));
        }
    }
    mistakes
}

fn name_of_no_uri(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let name = client.name;
    match name.parse::<Authority>() {
        Ok(authority) if authority.host() == name => Vec::new(),
        _ => vec![(
            "",
            format!("found the name {name:?}, expected one like \"inventory\": it stands where a host would"),
        )],
    }
}

fn target(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let name = client.name;
    match (&client.config.target, client.register) {
        (Some(target), _) if client.config.hosts.is_some() => vec![(
            "target",
            format!(
                "found {target:?} beside hosts, which is for addresses that are known only at run time; take one out"
            ),
        )],
        (None, _) if client.config.hosts.is_some() => Vec::new(),
        (Some(target), _) => {
            let mistake = match target.parse::<Target>() {
                Ok(target) => not_resolved(&target),
                Err(error) => Some(error.to_string()),
            };
            mistake.map(|message| ("target", message)).into_iter().collect()
        }
        (None, RegistryKind::None) => vec![(
            "target",
            format!(
                "not set, and discovery.register names no registry to ask for {name:?}; expected for example \
                 \"http://{name}:8080\", \"static://10.0.0.1:8080,10.0.0.2:8080\", \"dns://{name}.internal:8080\" or \
                 \"consul://{name}\""
            ),
        )],
        (None, _) => Vec::new(),
    }
}

/// What the resolver of DNS would refuse at the start.
fn not_resolved(target: &Target) -> Option<String> {
    match target.kind() {
        #[cfg(feature = "dns")]
        TargetKind::Dns { name, port, .. } => {
            crate::discovery::DnsResolver::new(name, Some(*port), None).err().map(|error| error.to_string())
        }
        #[cfg(feature = "dns")]
        TargetKind::Srv { name, .. } => {
            crate::discovery::DnsResolver::new(name, None, None).err().map(|error| error.to_string())
        }
        #[cfg(not(feature = "dns"))]
        TargetKind::Dns { .. } | TargetKind::Srv { .. } => Some(format!(
            "found {target}, and this program was built without DNS; add the cargo feature \"dns\" of chassis-rs"
        )),
        _ => None,
    }
}

fn attempts_beyond_the_timeout(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let ClientConfig { timeout, attempt_timeout, retry, .. } = client.config;
    let Some(attempt) = attempt_timeout else { return Vec::new() };
    if attempt > timeout {
        return vec![(
            "attempt_timeout",
            format!(
                "found {attempt}, which is longer than timeout = {timeout}; lower it, leave it out, or raise timeout"
            ),
        )];
    }
    // The last attempt has to begin, not to end: a call's own time cuts it.
    let before_last = attempt.get().saturating_mul(retry.attempts.saturating_sub(1));
    if before_last >= timeout.get() {
        return vec![(
            "retry.attempts",
            format!(
                "found {}, and {} attempts of attempt_timeout = {attempt} already take timeout = {timeout}: the last would \
                 never begin; lower one of the first two, or raise timeout",
                retry.attempts,
                retry.attempts - 1
            ),
        )];
    }
    Vec::new()
}

fn waits_beyond_the_timeout(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let ClientConfig { timeout, retry, hedge, .. } = client.config;
    let longer = |key, wait: Duration| {
        (wait >= *timeout).then(|| {
            (
                key,
                format!(
                    "found {wait}, which is no shorter than timeout = {timeout}: it would never end in time; lower it"
                ),
            )
        })
    };
    let backoff = (retry.attempts > 1).then(|| longer("retry.backoff", retry.backoff)).flatten();
    let delay = hedge.enabled.then(|| longer("hedge.min_delay", hedge.min_delay)).flatten();
    backoff.into_iter().chain(delay).collect()
}

fn slow_calls_that_never_are(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let ClientConfig { timeout, attempt_timeout, breaker, .. } = client.config;
    let Some(slow) = breaker.slow_call else { return Vec::new() };
    let (limit, key) = match attempt_timeout {
        Some(attempt) => (*attempt, "attempt_timeout"),
        None => (*timeout, "timeout"),
    };
    let mut found = Vec::new();
    if slow >= limit {
        let message = format!(
            "found {slow}, which is no shorter than {key} = {limit}: what takes that long has failed and is not slow; lower it"
        );
        found.push(("breaker.slow_call", message));
    }
    if slow > breaker.window {
        let message = format!(
            "found {slow}, which is longer than breaker.window = {}: a call may take longer than what is looked at; lower it, \
             or raise the window",
            breaker.window
        );
        found.push(("breaker.slow_call", message));
    }
    found
}

fn waits_in_order(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let ClientConfig { breaker, retry, .. } = client.config;
    [
        ("breaker.open_wait", breaker.open_wait, "breaker.max_open_wait", breaker.max_open_wait),
        ("retry.backoff", retry.backoff, "retry.max_backoff", retry.max_backoff),
    ]
    .into_iter()
    .filter(|(_, first, _, longest)| first > longest)
    .map(|(key, first, longest_key, longest)| {
        (
            key,
            format!("found {first}, which is longer than {longest_key} = {longest}; lower it, or raise {longest_key}"),
        )
    })
    .collect()
}

fn windows(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let pool = &client.config.pool;
    if pool.stream_window <= pool.connection_window {
        return Vec::new();
    }
    let message = format!(
        "found {}, which is larger than pool.connection_window = {}: one answer that is not read would stop the others; lower \
         it, or raise pool.connection_window",
        pool.stream_window, pool.connection_window
    );
    vec![("pool.stream_window", message)]
}

fn nothing_to_pay_with(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let ClientConfig { retry, hedge, .. } = client.config;
    if retry.budget_ratio > 0.0 || retry.budget_min > 0 || (retry.attempts < 2 && !hedge.enabled) {
        return Vec::new();
    }
    let what =
        if hedge.enabled { "hedge.enabled = true".to_owned() } else { format!("retry.attempts = {}", retry.attempts) };
    let message = format!(
        "found 0, and retry.budget_min = 0, with {what}: nothing would ever be sent a second time; raise one of the two, or \
         turn retries and hedges off"
    );
    vec![("retry.budget_ratio", message)]
}

fn idempotent_methods(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let is_method = |entry: &str| {
        let mut parts = entry.strip_prefix('/').unwrap_or(entry).split('/');
        let word = |part: Option<&str>| {
            part.is_some_and(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
            })
        };
        entry == "*" || (word(parts.next()) && word(parts.next()) && parts.next().is_none())
    };
    let wrong = client.config.idempotent.iter().filter(|entry| !is_method(entry));
    wrong
        .map(|entry| {
            (
                "idempotent",
                format!("found {entry:?}, expected a gRPC method such as \"inventory.v1.Inventory/Get\", or \"*\""),
            )
        })
        .collect()
}

fn critical_hosts(client: &Client<'_>) -> Vec<(&'static str, String)> {
    match (client.config.hosts, client.config.critical) {
        (Some(_), true) => {
            let message = "found true beside hosts, which come and go: no check looks at them; take it out";
            vec![("critical", message.to_owned())]
        }
        _ => Vec::new(),
    }
}

fn tls(client: &Client<'_>) -> Vec<(&'static str, String)> {
    let tls = &client.config.tls;
    let mut found = Vec::new();
    match (&tls.cert, &tls.key) {
        (Some(_), None) => found.push(("tls.key", "not set, and tls.cert is; expected the file of its key".to_owned())),
        (None, Some(_)) => {
            found.push(("tls.cert", "not set, and tls.key is; expected the file of its certificate".to_owned()));
        }
        _ => {}
    }
    let target = client.config.target.as_deref().and_then(|target| target.parse::<Target>().ok());
    let scheme = target.as_ref().and_then(|target| match target.kind() {
        TargetKind::Address { tls, .. } => Some(*tls),
        _ => None,
    });
    // Each address of a template says it by its own scheme.
    let secured = tls.enabled || scheme == Some(true) || (client.config.hosts.is_some() && cfg!(feature = "tls"));
    if tls.enabled && scheme == Some(false) {
        let target = client.config.target.as_deref().unwrap_or_default();
        found.push(("tls.enabled", format!("found true, and target = {target:?}; write https://, or leave it out")));
    }
    if !secured && tls.says_anything() {
        let message =
            "not set, and other keys of tls are: calls would go in cleartext; set tls.enabled = true, or take them out";
        found.push(("tls.enabled", message.to_owned()));
    }
    if secured && !cfg!(feature = "tls") {
        let message = "found TLS, and this program was built without it; add the cargo feature \"tls\" of chassis-rs";
        found.push(("tls.enabled", message.to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::breaker::BreakerConfig;
    #[cfg(feature = "tls")]
    use crate::tls::TlsConfig;

    fn found(config: ClientConfig) -> Vec<Mistake> {
        clients(&BTreeMap::from([("inventory".to_owned(), config)]), RegistryKind::None)
    }

    fn good() -> ClientConfig {
        ClientConfig { target: Some("http://inventory:8080".to_owned()), ..ClientConfig::default() }
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        assert_eq!(found(good()), []);
        let unset = BTreeMap::from([("inventory".to_owned(), ClientConfig::default())]);
        assert_eq!(clients(&unset, RegistryKind::Consul), []);
    }

    #[test]
    fn each_contradiction_is_told_by_its_key() {
        let ms = Duration::from_millis;
        let mut cases: Vec<(&str, ClientConfig)> = vec![
            ("target", ClientConfig { target: None, ..good() }),
            ("target", ClientConfig { target: Some("ftp://inventory".to_owned()), ..good() }),
            ("attempt_timeout", ClientConfig { attempt_timeout: Some(ms(16_000)), ..good() }),
            ("retry.attempts", ClientConfig { attempt_timeout: Some(ms(7_500)), ..good() }),
            ("retry.backoff", ClientConfig { timeout: ms(20), ..good() }),
            ("idempotent", ClientConfig { idempotent: vec!["Inventory.Get".to_owned()], ..good() }),
            ("idempotent", ClientConfig { idempotent: vec!["inventory.v1.Inventory/Get/x".to_owned()], ..good() }),
        ];
        let breaker = |change: fn(&mut BreakerConfig)| {
            let mut config = good();
            change(&mut config.breaker);
            config
        };
        cases.push((
            "breaker.slow_call",
            breaker(|breaker| {
                breaker.slow_call = Some(Duration::from_secs(15));
                breaker.window = Duration::from_secs(60);
            }),
        ));
        cases.push((
            "breaker.slow_call",
            breaker(|breaker| {
                breaker.slow_call = Some(Duration::from_secs(5));
                breaker.window = Duration::from_secs(4);
            }),
        ));
        cases.push(("breaker.open_wait", breaker(|breaker| breaker.max_open_wait = Duration::from_millis(10))));
        let mut config = good();
        config.retry.max_backoff = ms(10);
        cases.push(("retry.backoff", config));
        let mut config = good();
        (config.retry.budget_ratio, config.retry.budget_min) = (0.0, 0);
        cases.push(("retry.budget_ratio", config));
        let mut config = good();
        (config.hedge.enabled, config.hedge.min_delay) = (true, Duration::from_secs(15));
        cases.push(("hedge.min_delay", config));
        let mut config = good();
        config.pool.connection_window = crate::config::ByteSize::mib(1);
        cases.push(("pool.stream_window", config));
        for (expected, config) in cases {
            let found = found(config);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, format!("clients.inventory.{expected}"), "{found:?}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn half_of_a_certificate_and_tls_that_is_not_meant_are_told() {
        let with = |target: &str, tls: TlsConfig| ClientConfig { target: Some(target.to_owned()), tls, ..good() };
        let file = || Some("file.pem".into());
        for (expected, config) in [
            ("tls.key", with("https://inventory", TlsConfig { cert: file(), ..TlsConfig::default() })),
            ("tls.cert", with("https://inventory", TlsConfig { key: file(), ..TlsConfig::default() })),
            ("tls.enabled", with("http://inventory", TlsConfig { enabled: true, ..TlsConfig::default() })),
            ("tls.enabled", with("static://10.0.0.1:80", TlsConfig { ca: file(), ..TlsConfig::default() })),
        ] {
            let found = found(config);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, format!("clients.inventory.{expected}"), "{found:?}");
        }
        let whole = TlsConfig { enabled: true, ca: file(), cert: file(), key: file(), server_name: None };
        assert_eq!(found(with("static://10.0.0.1:80", whole)), []);
    }

    #[test]
    fn all_mistakes_of_all_destinations_are_told_at_once() {
        let two = ["inventory", "in ventory"].map(|name| (name.to_owned(), ClientConfig::default()));
        let found = clients(&BTreeMap::from(two), RegistryKind::None);
        let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["clients.in ventory", "clients.in ventory.target", "clients.inventory.target"]);
    }
}
