//! A probe inside the binary: images without a shell have no curl.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::{Error, Result, error::Exit};

/// Asks the service at the configured address; gives its answer when it is a good one.
pub(super) fn ask(address: &str, path: &str, timeout: Duration) -> Result<String> {
    let answer = fetch(address, path, timeout).map_err(|error| {
        Error::new(Exit::Unhealthy, format!("no answer from http://{address}{path}")).caused_by(error)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        Ok(format!("{path}: {}", body.trim()))
    } else {
        Err(Error::new(Exit::Unhealthy, format!("{path}: {status} {}", body.trim())))
    }
}

fn fetch(address: &str, path: &str, timeout: Duration) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    if let Some(socket) = address.strip_prefix("unix:") {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)?;
    } else {
        let mut stream = connect(address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)?;
    }
    Ok(answer)
}

/// Connects to the first address that answers.
fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "the address names no host");
    for target in address.to_socket_addrs()?.flat_map(reachable) {
        match TcpStream::connect_timeout(&target, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// A service on all addresses answers on the loopback ones: `[::]` stands for both families, or for IPv4 where IPv6 is off.
fn reachable(listens: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, listens.port());
    match listens.ip() {
        ip if !ip.is_unspecified() => vec![listens],
        IpAddr::V4(_) => vec![at(Ipv4Addr::LOCALHOST.into())],
        IpAddr::V6(_) => vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_on_loopback() {
        for (listens, asked) in [
            ("[::]:80", &["127.0.0.1:80", "[::1]:80"][..]),
            ("0.0.0.0:80", &["127.0.0.1:80"]),
            ("[::1]:80", &["[::1]:80"]),
        ] {
            let found: Vec<_> =
                reachable(listens.parse().expect("an address")).iter().map(ToString::to_string).collect();
            assert_eq!(found, asked);
        }
    }
}
