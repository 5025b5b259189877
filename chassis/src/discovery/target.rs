//! Where to look for a service, as one text.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Endpoint;

/// The port of name servers (RFC 1035, section 4.2).
const DNS_PORT: u16 = 53;
/// What a value in a query says as itself (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const SCHEMES: &str = "consul://, dns://, static://, memory://, http:// or https://";

/// Where to look for the instances of a service.
///
/// | target | where |
/// | --- | --- |
/// | `consul://inventory?tag=v2&dc=dc1` | the Consul agent of `[consul]` |
/// | `dns://inventory.internal:8080` | all addresses of the name (A, AAAA) |
/// | `dns://_http._tcp.inventory.internal` | its SRV records (RFC 2782) |
/// | `dns://10.0.0.2/inventory.internal:8080` | the same, asked of this name server |
/// | `static://10.0.0.1:8080,10.0.0.2:8080;weight=2;zone=a` | this list |
/// | `memory://inventory` | the services of this process |
/// | `http://inventory:8080`, `https://inventory` | one address, resolved by the system at each connection |
///
/// A Consul target knows `tag` (each instance must have all of them), `dc`, `near`, `ns` (namespace) and `partition`, as
/// Consul's own API calls them.
///
/// ```
/// use chassis::discovery::{Target, TargetKind};
///
/// let target: Target = "consul://inventory?tag=v2&dc=dc1".parse().unwrap();
/// assert!(matches!(target.kind(), TargetKind::Consul { service, .. } if service == "inventory"));
/// assert_eq!(target.to_string(), "consul://inventory?tag=v2&dc=dc1");
///
/// let mistake = "consul://inventory?tagg=v2".parse::<Target>().unwrap_err();
/// assert_eq!(
///     mistake.to_string(),
///     "target \"consul://inventory?tagg=v2\": found the parameter \"tagg\", expected tag, dc, near, ns or partition"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(TargetKind);

/// The parts of a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetKind {
    /// Instances that the Consul agent knows.
    #[non_exhaustive]
    Consul {
        /// The service's name.
        service: String,
        /// Tags that an instance must have, all of them.
        tags: Vec<String>,
        /// The datacenter; the agent's own when unset.
        datacenter: Option<String>,
        /// The node to which the nearest come first; `_agent` is the agent itself.
        near: Option<String>,
        /// The namespace (Consul Enterprise).
        namespace: Option<String>,
        /// The admin partition (Consul Enterprise).
        partition: Option<String>,
    },
    /// All addresses of a name.
    #[non_exhaustive]
    Dns {
        /// The name.
        name: String,
        /// The port, the same at each address.
        port: u16,
        /// Which name server is asked; the system's when unset.
        server: Option<NameServer>,
    },
    /// The SRV records of a name.
    #[non_exhaustive]
    Srv {
        /// The name, with service and protocol: `_http._tcp.inventory.internal`.
        name: String,
        /// Which name server is asked; the system's when unset.
        server: Option<NameServer>,
    },
    /// A list; at least one.
    Static(Vec<Endpoint>),
    /// Services of this process.
    #[non_exhaustive]
    Memory {
        /// The service's name.
        service: String,
    },
    /// One address.
    #[non_exhaustive]
    Address {
        /// Whether it is `https`.
        tls: bool,
        /// A host name or an address; IPv6 without brackets.
        host: String,
        /// The port: 80, or 443 with TLS, unless it is given.
        port: u16,
    },
}

/// A name server, as a target names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameServer {
    /// Its address: to look a name up for this would need another name server.
    pub address: IpAddr,
    /// Its port; 53 unless it is given.
    pub port: u16,
}

/// A text that is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(String);

impl Target {
    /// Its parts.
    #[must_use]
    pub fn kind(&self) -> &TargetKind {
        &self.0
    }

    /// The name under which all instances are asked for and prove who they are, where their own addresses do not say it: that
    /// which was looked up. Of SRV records it is the domain, without service and protocol.
    pub(crate) fn name(&self) -> Option<&str> {
        let (TargetKind::Dns { name, .. } | TargetKind::Srv { name, .. }) = &self.0 else { return None };
        let mut name = name.strip_suffix('.').unwrap_or(name);
        if matches!(self.0, TargetKind::Srv { .. }) {
            while let Some((_, domain)) = name.split_once('.').filter(|(label, _)| label.starts_with('_')) {
                name = domain;
            }
        }
        Some(name)
    }

    /// The word before `://`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match &self.0 {
            TargetKind::Consul { .. } => "consul",
            TargetKind::Dns { .. } | TargetKind::Srv { .. } => "dns",
            TargetKind::Static(_) => "static",
            TargetKind::Memory { .. } => "memory",
            TargetKind::Address { tls: false, .. } => "http",
            TargetKind::Address { tls: true, .. } => "https",
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        // Not even the text is repeated: it holds a password.
        if text.contains('@') {
            let mistake = "target: found credentials before an @, expected none; tokens and certificates have settings of \
                           their own";
            return Err(TargetError(mistake.to_owned()));
        }
        parse(text).map(Self).map_err(|mistake| TargetError(format!("target {text:?}: {mistake}")))
    }
}

fn parse(text: &str) -> Result<TargetKind, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("found no scheme, expected {SCHEMES}"));
    };
    let parse: fn(&str) -> Result<TargetKind, String> = match scheme {
        "consul" => consul,
        "dns" => dns,
        "static" => list,
        "memory" => memory,
        "http" => |rest: &str| address(rest, false),
        "https" => |rest: &str| address(rest, true),
        _ => return Err(format!("found the scheme {scheme:?}, expected {SCHEMES}")),
    };
    match rest.find(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        Some(at) => Err(format!("found {:?}, expected neither spaces nor a fragment", &rest[at..])),
        None => parse(rest),
    }
}

fn consul(rest: &str) -> Result<TargetKind, String> {
    let (service, query) = rest.split_once('?').map_or((rest, None), |(service, query)| (service, Some(query)));
    let service = service_name(service)?;
    let (mut tags, mut datacenter, mut near, mut namespace, mut partition) = (Vec::new(), None, None, None, None);
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        // The value is not repeated: somebody may have put a token there.
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let once = match key {
            "tag" => None,
            "dc" => Some(&mut datacenter),
            "near" => Some(&mut near),
            "ns" => Some(&mut namespace),
            "partition" => Some(&mut partition),
            _ => return Err(format!("found the parameter {key:?}, expected tag, dc, near, ns or partition")),
        };
        let value = percent_decode_str(value)
            .decode_utf8()
            .ok()
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("found no value of the parameter {key:?}, expected a text, as in {key}=a"))?
            .into_owned();
        match once {
            None => tags.push(value),
            Some(unset @ None) => *unset = Some(value),
            Some(Some(_)) => return Err(format!("found the parameter {key:?} twice, expected it once")),
        }
    }
    Ok(TargetKind::Consul { service, tags, datacenter, near, namespace, partition })
}

fn memory(rest: &str) -> Result<TargetKind, String> {
    Ok(TargetKind::Memory { service: service_name(rest)? })
}

fn dns(rest: &str) -> Result<TargetKind, String> {
    let (server, name) = match rest.split_once('/') {
        // gRPC writes `dns:///name` for the system's name server.
        Some(("", name)) => (None, name),
        Some((server, name)) => (Some(name_server(server)?), name),
        None => (None, rest),
    };
    if name.starts_with('_') {
        if name.contains(':') {
            return Err(format!("found a port in {name:?}, expected none: SRV records tell the port"));
        }
        let well_formed =
            matches!(name.split('.').collect::<Vec<_>>()[..], [_, protocol, _, ..] if protocol.starts_with('_'));
        if !well_formed {
            return Err(format!("found {name:?}, expected service and protocol: _http._tcp.inventory.internal"));
        }
        return Ok(TargetKind::Srv { name: host(name)?.to_owned(), server });
    }
    let (name, port) = host_and_port(name, "inventory.internal:8080, or SRV records: _http._tcp.inventory.internal")?;
    let port = port.ok_or_else(|| format!("found no port in {name:?}, expected one: {name}:8080"))?;
    Ok(TargetKind::Dns { name: name.to_owned(), port, server })
}

fn name_server(text: &str) -> Result<NameServer, String> {
    let (host, port) = host_and_port(text, "the address of a name server: 10.0.0.2 or 10.0.0.2:53")?;
    let address = host
        .parse()
        .map_err(|_| format!("found the name server {host:?}, expected its address: 10.0.0.2 or [fd00::2]"))?;
    Ok(NameServer { address, port: port.unwrap_or(DNS_PORT) })
}

fn list(rest: &str) -> Result<TargetKind, String> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for entry in rest.split(',') {
        let endpoint = list_entry(entry)?;
        if let Some(other) = endpoints.iter().find(|other| other.address() == endpoint.address()) {
            let again = if other.id == endpoint.id { String::new() } else { format!(", once as {}", other.id) };
            return Err(format!(
                "found {} twice{again}, expected each address once; ;weight=2 gives it more",
                endpoint.id
            ));
        }
        endpoints.push(endpoint);
    }
    Ok(TargetKind::Static(endpoints))
}

fn list_entry(entry: &str) -> Result<Endpoint, String> {
    const EXPECTED: &str = "addresses with commas between: 10.0.0.1:8080,10.0.0.2:8080;weight=2;zone=a";
    let mut parts = entry.split(';');
    let (host, port) = host_and_port(parts.next().unwrap_or_default(), EXPECTED)?;
    let port = port.ok_or_else(|| format!("found no port in {entry:?}, expected {EXPECTED}"))?;
    let mut endpoint = Endpoint::at(host, port);
    let (mut weighted, mut zoned) = (false, false);
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let twice = match key {
            "weight" => {
                endpoint.weight = value
                    .parse()
                    .ok()
                    .filter(|weight| (1..=65_535).contains(weight))
                    .ok_or_else(|| format!("found the weight {value:?}, expected a number from 1 to 65535"))?;
                std::mem::replace(&mut weighted, true)
            }
            "zone" => {
                let known = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
                if value.is_empty() || !value.chars().all(known) {
                    return Err(format!("found the zone {value:?}, expected letters, digits and -_.:/"));
                }
                endpoint.zone = Some(value.into());
                std::mem::replace(&mut zoned, true)
            }
            _ => return Err(format!("found {part:?} in {entry:?}, expected weight=2 or zone=a")),
        };
        if twice {
            return Err(format!("found {key} twice in {entry:?}, expected it once"));
        }
    }
    Ok(endpoint)
}

fn address(rest: &str, tls: bool) -> Result<TargetKind, String> {
    // A slash at the end is what people paste.
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(at) = authority.find(['/', '?']) {
        return Err(format!(
            "found {:?} after the address, expected nothing: calls bring their path",
            &authority[at..]
        ));
    }
    let (host, port) = host_and_port(authority, "an address: inventory:8080")?;
    Ok(TargetKind::Address { tls, host: host.to_owned(), port: port.unwrap_or(default_port(tls)) })
}

/// RFC 9110, sections 4.2.1 and 4.2.2.
const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// A name that a registry and its DNS can both say.
fn service_name(text: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || !text.chars().all(known) {
        return Err(format!("found the service {text:?}, expected a name of letters, digits and -_."));
    }
    Ok(text.to_owned())
}

fn host_and_port<'a>(text: &'a str, expected: &str) -> Result<(&'a str, Option<u16>), String> {
    if text.is_empty() {
        return Err(format!("found nothing, expected {expected}"));
    }
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let found = || format!("found {text:?}, expected an IPv6 address in brackets: [::1]:8080");
        let (address, rest) = bracketed.split_once(']').ok_or_else(found)?;
        address.parse::<Ipv6Addr>().map_err(|_| found())?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(found)?) };
        (address, port)
    } else {
        if text.parse::<Ipv6Addr>().is_ok() || text.matches(':').count() > 1 {
            return Err(format!("found {text:?}, expected an IPv6 address in brackets: [::1]:8080"));
        }
        let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        (host(name)?, port)
    };
    let Some(port) = port else { return Ok((host, None)) };
    let number = port.parse().ok().filter(|number| *number != 0 && !port.starts_with('+'));
    match number {
        Some(number) => Ok((host, Some(number))),
        None => Err(format!("found the port {port:?}, expected a number from 1 to 65535")),
    }
}

fn host(text: &str) -> Result<&str, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || !text.chars().all(known) {
        return Err(format!("found the host {text:?}, expected a host name or an address"));
    }
    Ok(text)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        match &self.0 {
            TargetKind::Consul { service, tags, datacenter, near, namespace, partition } => {
                f.write_str(service)?;
                let once = [("dc", datacenter), ("near", near), ("ns", namespace), ("partition", partition)];
                let once = once.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
                let mut separator = '?';
                for (key, value) in tags.iter().map(|tag| ("tag", tag)).chain(once) {
                    write!(f, "{separator}{key}={}", utf8_percent_encode(value, ESCAPED))?;
                    separator = '&';
                }
                Ok(())
            }
            TargetKind::Dns { name, port, server } => {
                server.as_ref().map_or(Ok(()), |server| write!(f, "{server}/"))?;
                write!(f, "{name}:{port}")
            }
            TargetKind::Srv { name, server } => {
                server.as_ref().map_or(Ok(()), |server| write!(f, "{server}/"))?;
                f.write_str(name)
            }
            TargetKind::Static(endpoints) => {
                for (index, endpoint) in endpoints.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    f.write_str(&endpoint.authority())?;
                    if endpoint.weight != 1 {
                        write!(f, ";weight={}", endpoint.weight)?;
                    }
                    if let Some(zone) = &endpoint.zone {
                        write!(f, ";zone={zone}")?;
                    }
                }
                Ok(())
            }
            TargetKind::Memory { service } => f.write_str(service),
            TargetKind::Address { tls, host, port } => {
                let bare = *port == default_port(*tls);
                match host.contains(':') {
                    true => write!(f, "[{host}]"),
                    false => f.write_str(host),
                }?;
                if bare { Ok(()) } else { write!(f, ":{port}") }
            }
        }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}")?,
            IpAddr::V6(address) => write!(f, "[{address}]")?,
        }
        if self.port == DNS_PORT { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(text: &str) -> TargetKind {
        text.parse::<Target>().unwrap_or_else(|mistake| panic!("{mistake}")).0
    }

    fn consul_with(tags: &[&str], datacenter: Option<&str>) -> TargetKind {
        TargetKind::Consul {
            service: "inventory".to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            datacenter: datacenter.map(str::to_owned),
            near: None,
            namespace: None,
            partition: None,
        }
    }

    #[test]
    fn each_scheme_has_its_parts() {
        let name = |name: &str| name.to_owned();
        let server = |address: &str, port| Some(NameServer { address: address.parse().unwrap(), port });
        for (text, expected) in [
            ("consul://inventory", consul_with(&[], None)),
            ("consul://inventory?tag=v2&tag=a%2Fb%20c&dc=dc1", consul_with(&["v2", "a/b c"], Some("dc1"))),
            (
                "consul://a?near=_agent&ns=team&partition=p",
                TargetKind::Consul {
                    service: name("a"),
                    tags: Vec::new(),
                    datacenter: None,
                    near: Some(name("_agent")),
                    namespace: Some(name("team")),
                    partition: Some(name("p")),
                },
            ),
            ("dns://a.internal:8080", TargetKind::Dns { name: name("a.internal"), port: 8080, server: None }),
            ("dns:///a:1", TargetKind::Dns { name: name("a"), port: 1, server: None }),
            ("dns://10.0.0.2/a:1", TargetKind::Dns { name: name("a"), port: 1, server: server("10.0.0.2", 53) }),
            (
                "dns://[::1]:5353/_http._tcp.a",
                TargetKind::Srv { name: name("_http._tcp.a"), server: server("::1", 5353) },
            ),
            ("dns://_http._tcp.a.internal", TargetKind::Srv { name: name("_http._tcp.a.internal"), server: None }),
            ("memory://orders-v2", TargetKind::Memory { service: name("orders-v2") }),
            ("http://inventory:8080/", TargetKind::Address { tls: false, host: name("inventory"), port: 8080 }),
            ("http://inventory", TargetKind::Address { tls: false, host: name("inventory"), port: 80 }),
            ("https://[fd00::7]", TargetKind::Address { tls: true, host: name("fd00::7"), port: 443 }),
            ("static://[::1]:80,a:81", TargetKind::Static(vec![Endpoint::at("::1", 80), Endpoint::at("a", 81)])),
            (
                "static://a:80;weight=2;zone=eu/1",
                TargetKind::Static(vec![Endpoint { weight: 2, zone: Some("eu/1".into()), ..Endpoint::at("a", 80) }]),
            ),
        ] {
            assert_eq!(kind(text), expected, "{text}");
            let again = Target(expected.clone()).to_string();
            assert_eq!(kind(&again), expected, "{text} became {again}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_what_was_found_and_expected() {
        for (text, expected) in [
            ("inventory", "found no scheme, expected consul://, dns://"),
            ("etcd://a", "found the scheme \"etcd\", expected consul://"),
            ("consul://", "found the service \"\", expected a name"),
            ("consul://a/b", "found the service \"a/b\", expected a name"),
            ("consul://a?tag", "found no value of the parameter \"tag\""),
            ("consul://a?tag=%ff", "found no value of the parameter \"tag\""),
            ("consul://a?dc=x&dc=y", "found the parameter \"dc\" twice"),
            ("consul://a?", "found the parameter \"\", expected tag"),
            ("dns://a", "found no port in \"a\", expected one: a:8080"),
            ("dns://a:x", "found the port \"x\", expected a number from 1 to 65535"),
            ("dns://a:0", "found the port \"0\""),
            ("dns://a:+1", "found the port \"+1\""),
            ("dns://", "found nothing, expected inventory.internal:8080"),
            ("dns://_http.a", "found \"_http.a\", expected service and protocol"),
            ("dns://_http._tcp.a:80", "found a port in \"_http._tcp.a:80\", expected none"),
            ("dns://ns.internal/a:80", "found the name server \"ns.internal\", expected its address"),
            ("static://", "found nothing, expected addresses with commas between"),
            ("static://a:1,,b:2", "found nothing, expected addresses"),
            ("static://a", "found no port in \"a\""),
            ("static://a:1,a:1", "found a:1 twice"),
            ("static://a:1,A.:1", "found A.:1 twice, once as a:1"),
            ("static://[::1]:1,[0::1]:1", "found [0::1]:1 twice, once as [::1]:1"),
            ("static://a:1;weight=0", "found the weight \"0\""),
            ("static://a:1;color=x", "found \"color=x\" in \"a:1;color=x\", expected weight=2 or zone=a"),
            ("static://a:1;zone=", "found the zone \"\""),
            ("static://a:1;weight=1;weight=2", "found weight twice"),
            ("static://a:1?weight=2", "found the port \"1?weight=2\""),
            ("memory://a?b", "found the service \"a?b\""),
            ("http://a:80/path", "found \"/path\" after the address, expected nothing"),
            ("http://a?b", "found \"?b\" after the address"),
            ("http://::1:80", "expected an IPv6 address in brackets: [::1]:8080"),
            ("http://[::1", "expected an IPv6 address in brackets"),
            ("http://[a]:80", "expected an IPv6 address in brackets"),
            ("http://a b", "found \" b\", expected neither spaces nor a fragment"),
            ("http://a#b", "found \"#b\""),
        ] {
            let mistake = text.parse::<Target>().expect_err(text).to_string();
            assert!(mistake.starts_with(&format!("target {text:?}: ")) && mistake.contains(expected), "{mistake}");
        }
    }

    #[test]
    fn secrets_are_not_repeated() {
        for text in ["http://me:secret@a", "static://a:1,me:secret@b:1", "consul://a?dc=@secret", "secret@"] {
            let mistake = text.parse::<Target>().expect_err(text).to_string();
            assert!(mistake.contains("found credentials") && !mistake.contains("secret"), "{mistake}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_a_target_is_the_same_target_when_it_is_written(
            scheme in prop::sample::select(vec!["consul", "dns", "static", "memory", "http", "https"]),
            rest in "[a-z0-9_./:?&=;,%\\[\\]-]{0,24}",
        ) {
            if let Ok(target) = format!("{scheme}://{rest}").parse::<Target>() {
                prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
            }
        }
    }

    #[test]
    fn what_was_looked_up_in_dns_is_the_name_of_all_its_instances() {
        for (target, name) in [
            ("dns://inventory.internal:8080", Some("inventory.internal")),
            ("dns://10.0.0.2/inventory.internal.:8080", Some("inventory.internal")),
            ("dns://_http._tcp.inventory.internal", Some("inventory.internal")),
            ("http://inventory:8080", None),
            ("consul://inventory", None),
            ("static://10.0.0.1:8080", None),
        ] {
            assert_eq!(target.parse::<Target>().unwrap().name(), name, "{target}");
        }
    }
}
