//! Where a listener is to listen, read from its text: nothing is asked of the network.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// What the text of an address may be.
const EXPECTED: &str = "expected host:port, [ipv6]:port or unix:/path";

/// How long the path of a Unix socket may be, in bytes: `sun_path` of Linux has 108, the last of them 0.
const LONGEST_PATH: usize = 107;

/// The longest name of a host, and of one of its labels (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// An address to listen on, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// An address of this machine, or all of them.
    Socket(SocketAddr),
    /// A name that the system resolves at the start.
    Name(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map_err(|why| format!("found {text:?}, {why}"))
    }
}

fn parse(text: &str) -> Result<ListenAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if text.contains("://") {
        return Err(format!("{EXPECTED}: an address without a scheme"));
    }
    if let Ok(address) = text.parse() {
        return Ok(ListenAddress::Socket(address));
    }
    if text.is_empty() {
        return Err(format!("{EXPECTED}, such as \"0.0.0.0:8080\""));
    }
    if text.parse::<Ipv6Addr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, _)| host.parse::<Ipv6Addr>().is_ok())
    {
        return Err(format!("{EXPECTED}: an IPv6 address stands in brackets, such as \"[::1]:8080\""));
    }
    // A port alone, in each of its spellings elsewhere: it says not on which addresses.
    let alone = text.strip_prefix([':', '*']).unwrap_or(text);
    let alone = alone.strip_prefix(':').unwrap_or(alone);
    if port(alone).is_some() {
        return Err(format!(
            "{EXPECTED}; write \"0.0.0.0:{alone}\" for all addresses, or \"127.0.0.1:{alone}\" for this machine alone"
        ));
    }
    let Some((host, number)) = text.rsplit_once(':') else {
        return Err(format!("{EXPECTED}: the port is missing, such as \"{text}:8080\""));
    };
    let Some(port) = port(number) else {
        return Err(format!("{EXPECTED}: a port is a number from 0 to 65535"));
    };
    if host.starts_with('[') {
        return Err(format!("{EXPECTED}: in the brackets stands an IPv6 address, such as \"[::1]:{port}\""));
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("{EXPECTED}: an IPv4 address has four numbers from 0 to 255"));
    }
    if !is_host_name(host) {
        return Err(format!("{EXPECTED}: a host is an address of this machine, or a name such as \"localhost\""));
    }
    Ok(ListenAddress::Name(host.to_owned(), port))
}

fn unix(path: &str) -> Result<ListenAddress, String> {
    if path.is_empty() || path.ends_with('/') {
        return Err(format!("{EXPECTED}: the path names no file, such as unix:/run/orders.sock"));
    }
    if path.contains('\0') || path.len() > LONGEST_PATH {
        return Err(format!("{EXPECTED}: a path of at most {LONGEST_PATH} bytes, which is what the system takes"));
    }
    Ok(ListenAddress::Unix(path.into()))
}

/// Digits alone: Rust would take `+80`, too.
fn port(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// Returns whether the text can be a name of a host: letters, digits, `-` and `_` in labels with dots between.
pub(crate) fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= LONGEST_NAME && name.split('.').all(is_label)
}

impl ListenAddress {
    /// The port; a Unix socket has none.
    fn port(&self) -> Option<u16> {
        match self {
            Self::Socket(address) => Some(address.port()),
            Self::Name(_, port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// The addresses that are known without asking anybody; none of a name but `localhost`.
    fn known(&self) -> Vec<IpAddr> {
        match self {
            Self::Socket(address) => vec![address.ip().to_canonical()],
            Self::Name(name, _) if name.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Self::Name(..) | Self::Unix(_) => Vec::new(),
        }
    }

    /// Returns whether a listener here takes the place of one there. Port 0 is another port each time.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        if let (Self::Unix(this), Self::Unix(that)) = (self, other) {
            return this == that;
        }
        match (self.port(), other.port()) {
            (Some(this), Some(that)) if this == that && this != 0 => {}
            _ => return false,
        }
        if let (Self::Name(this, _), Self::Name(that, _)) = (self, other)
            && this.eq_ignore_ascii_case(that)
        {
            return true;
        }
        let (these, those) = (self.known(), other.known());
        // A name is one of this machine's addresses, whichever it is: all of them take it.
        let all = |known: &[IpAddr]| known.iter().any(IpAddr::is_unspecified);
        if these.is_empty() || those.is_empty() {
            return all(&these) || all(&those);
        }
        these.iter().any(|this| those.iter().any(|that| meet(*this, *that)))
    }
}

/// Returns whether one port cannot be had at both. `::` takes the addresses of IPv4 too.
fn meet(this: IpAddr, that: IpAddr) -> bool {
    let takes = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    this == that || takes(this, that) || takes(that, this)
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in [
            "0.0.0.0:8080",
            "127.0.0.1:0",
            "[::]:8080",
            "[::1]:65535",
            "[fe80::1%2]:80",
            "localhost:8080",
            "orders-1.internal:80",
            "under_score:80",
            "unix:/run/orders.sock",
            "unix:orders.sock",
            "unix:///run/orders.sock",
        ] {
            assert_eq!(text.parse::<ListenAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_no_listener_can_have_is_refused() {
        for text in [
            "",
            " ",
            "8080",
            ":8080",
            "*:8080",
            "*8080",
            "::8080",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:99999",
            "127.0.0.1:-1",
            "127.0.0.1:+80",
            "127.0.0.1:http",
            "127.0.0.1:80 ",
            "300.0.0.1:80",
            "127.1:80",
            "localhost",
            "local host:80",
            "größe:80",
            "a..b:80",
            "::1:8080",
            "::1",
            "[::1]",
            "[127.0.0.1]:80",
            "[]:80",
            "http://127.0.0.1:8080",
            "https://orders",
            "tcp://0.0.0.0:8080",
            "127.0.0.1:8080/path",
            "user@host:80",
            "unix:",
            "unix:/",
            "unix:/run/",
            "unix:\0",
            &format!("unix:/{}", "a".repeat(LONGEST_PATH)),
            &format!("{}:80", "a".repeat(64)),
        ] {
            let refused = text.parse::<ListenAddress>().unwrap_err();
            assert!(refused.starts_with(&format!("found {text:?}, expected host:port")), "{refused}");
        }
    }

    #[test]
    fn a_port_alone_is_answered_with_what_to_write() {
        for text in ["8080", ":8080", "*:8080"] {
            let refused = text.parse::<ListenAddress>().unwrap_err();
            assert!(refused.contains("write \"0.0.0.0:8080\" for all addresses"), "{refused}");
        }
    }

    #[test]
    fn two_listeners_meet_where_one_takes_the_others_port() {
        let address = |text: &str| text.parse::<ListenAddress>().unwrap();
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost:80", "[::1]:80"),
            ("orders:80", "ORDERS:80"),
            ("orders:80", "0.0.0.0:80"),
            ("unix:/a", "unix:/a"),
        ] {
            assert!(address(one).meets(&address(other)), "{one} {other}");
            assert!(address(other).meets(&address(one)), "{other} {one}");
        }
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("orders:80", "127.0.0.1:80"),
            ("unix:/a", "unix:/b"),
            ("unix:/a", "127.0.0.1:80"),
        ] {
            assert!(!address(one).meets(&address(other)), "{one} {other}");
            assert!(!address(other).meets(&address(one)), "{other} {one}");
        }
    }
}
