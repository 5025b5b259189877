//! Variables that Kubernetes puts into every pod, one set for each Service of the namespace: a Service called `chassis` or
//! `chassis-…` gives names that begin as ours do.

use std::net::IpAddr;

use super::env::PREFIX;

/// What the kubelet writes as the protocol of a port.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// The name of the Service as it stands in the variable, when the variable is a service link; none for any other.
///
/// Name and value have to be what the kubelet writes (`pkg/kubelet/envvars`), so that a mistyped variable of ours is none:
/// `<S>_SERVICE_HOST`, `<S>_SERVICE_PORT`, `<S>_SERVICE_PORT_<NAME>`, `<S>_PORT`, `<S>_PORT_<n>_<PROTOCOL>`, and the last one
/// with `_PROTO`, `_PORT` or `_ADDR` behind it.
pub(super) fn service<'a>(variable: &'a str, value: &str) -> Option<&'a str> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    // The Service is `chassis` itself, or its name goes on behind a dash, which is written `_`.
    let is_service = |name: &str| {
        let rest = name.strip_prefix(PREFIX.trim_end_matches('_'));
        is_name(name) && !name.ends_with('_') && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    if let Some(service) = variable.strip_suffix("_SERVICE_HOST") {
        return Some(service).filter(|service| is_service(service) && is_address(value));
    }
    if let Some(service) = variable.strip_suffix("_SERVICE_PORT") {
        return Some(service).filter(|service| is_service(service) && is_port(value));
    }
    // The name of a port may hold the word too: each place is looked at.
    for (service, name) in splits(variable, "_SERVICE_PORT_") {
        if is_service(service) && is_name(name) && is_port(value) {
            return Some(service);
        }
    }
    if let Some(service) = variable.strip_suffix("_PORT").filter(|service| is_service(service))
        && PROTOCOLS.iter().any(|protocol| url_port(value, protocol).is_some())
    {
        return Some(service);
    }
    splits(variable, "_PORT_").find_map(|(service, rest)| {
        let (port, rest) = rest.split_once('_')?;
        let (protocol, what) = rest.split_once('_').map_or((rest, ""), |(protocol, what)| (protocol, what));
        let fits = match what {
            "" => url_port(value, protocol) == Some(port),
            "PROTO" => value == protocol.to_ascii_lowercase(),
            "PORT" => value == port,
            "ADDR" => is_address(value),
            _ => false,
        };
        (is_service(service) && is_port(port) && PROTOCOLS.contains(&protocol) && fits).then_some(service)
    })
}

/// What is said of the variables of these Services.
pub(super) fn note(services: &[&str]) -> String {
    let name = |service: &&str| format!("{:?}", service.to_lowercase().replace('_', "-"));
    let (plural, names) = match services {
        [one] => ("", name(one)),
        _ => ("s", services.iter().map(name).collect::<Vec<_>>().join(", ")),
    };
    format!(
        "left out the variables that Kubernetes sets for the Service{plural} {names}, which begin with {PREFIX}; set \
         enableServiceLinks: false in the pod's spec to be rid of them"
    )
}

/// What stands before and behind a mark, at each place where it is; two places may share a letter.
fn splits<'a>(text: &'a str, mark: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let places = (0..text.len()).filter(|at| text.is_char_boundary(*at));
    places.filter_map(move |at| Some((&text[..at], text[at..].strip_prefix(mark)?)))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The port of `tcp://10.0.0.1:8080`, when it is of this protocol.
fn url_port<'a>(text: &'a str, protocol: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(&protocol.to_ascii_lowercase())?.strip_prefix("://")?;
    let (host, port) = rest.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    (is_host && is_port(port)).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn every_shape_of_the_kubelet_is_a_service_link() {
        for name in ["CHASSIS", "CHASSIS_FOO", "CHASSIS_HTTP", "CHASSIS_PORT", "CHASSIS_SERVICE_PORT", "CHASSIS_7"] {
            for (suffix, value) in [
                ("_SERVICE_HOST", "10.0.0.1"),
                ("_SERVICE_HOST", "fd00::1"),
                ("_SERVICE_PORT", "8080"),
                ("_SERVICE_PORT_HTTP", "8080"),
                ("_SERVICE_PORT_GRPC_WEB", "9090"),
                ("_PORT", "tcp://10.0.0.1:8080"),
                ("_PORT", "udp://[fd00::1]:53"),
                ("_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
                ("_PORT_8080_TCP_PROTO", "tcp"),
                ("_PORT_8080_TCP_PORT", "8080"),
                ("_PORT_8080_TCP_ADDR", "10.0.0.1"),
                ("_PORT_132_SCTP_ADDR", "fd00::1"),
            ] {
                let variable = format!("{name}{suffix}");
                assert!(service(&variable, value).is_some(), "{variable}={value}");
            }
        }
    }

    #[test]
    fn a_mistyped_variable_is_no_service_link() {
        for (variable, value) in [
            ("CHASSIS_SERVICE_NAME", "orders"),
            ("CHASSIS_SERVICE_HOST", "orders.internal"),
            ("CHASSIS_HTTP_PORT", "8080"),
            ("CHASSIS_PORT", "8080"),
            ("CHASSIS_PORT", "http://10.0.0.1:8080"),
            ("CHASSIS_PORT", "tcp://orders:8080"),
            ("CHASSIS_HTTP_ADDRESS", "10.0.0.1"),
            ("CHASSIS_PORT_8080_TCP", "tcp://10.0.0.1:9090"),
            ("CHASSIS_PORT_8080_HTTP", "http://10.0.0.1:8080"),
            ("CHASSIS_PORT_8080_TCP_HOST", "10.0.0.1"),
            ("CHASSIS_SERVICE_PORT", "http"),
            ("CHASSIS_SERVICE_PORT_", "8080"),
            ("CHASSIS_DISCOVERY__PORT", "tcp://10.0.0.1:x"),
            ("CHASSIS__PORT", "8080"),
            ("CHASSISX_PORT", "tcp://10.0.0.1:8080"),
        ] {
            assert_eq!(service(variable, value), None, "{variable}={value}");
        }
    }
}
