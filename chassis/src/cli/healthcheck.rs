//! A probe inside the binary: images without a shell have no curl.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
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

fn fetch(address: &str, path: &str, timeout: Duration) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    if let Some(socket) = address.strip_prefix("unix:") {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)?;
    } else {
        let mut target = address
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidInput, "the address names no host"))?;
        // A service on all addresses answers on the loopback one.
        if target.ip().is_unspecified() {
            target.set_ip(if target.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let mut stream = TcpStream::connect_timeout(&target, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)?;
    }
    Ok(answer)
}
