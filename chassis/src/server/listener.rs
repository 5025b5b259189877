//! Where the service listens: TCP (IPv4, IPv6) or a Unix socket.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host};

use super::{address::ListenAddress, handed::Handed};
use crate::Error;

/// The address a listener is bound to: with port 0 in the configuration, the port that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl BoundAddress {
    /// The TCP address, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// An address that opens in a browser of this machine; `None` for a Unix socket.
    #[must_use]
    pub(crate) fn url(&self) -> Option<String> {
        let address = self.tcp()?;
        Some(match address.ip() {
            ip if ip.is_unspecified() => format!("http://localhost:{}", address.port()),
            _ => format!("http://{address}"),
        })
    }
}

impl fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, UnixSocketFile),
    /// Handed over by whoever started the process, and still there when it ends.
    HandedTcp(TcpListener),
    /// As above, with the path that it listens at.
    HandedUnix(UnixListener, PathBuf),
}

/// Removes the socket's file when the listener is gone.
#[derive(Debug)]
pub(crate) struct UnixSocketFile(PathBuf);

impl Drop for UnixSocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// How far new callers are kept from a listener that is about to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// They are refused at once.
    Refuses,
    /// They are not answered: their kernel tries again after a second, and is refused then.
    Ignores,
    /// They are still let in.
    Not,
}

/// An interface that no machine has.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_INTERFACE: NonZeroU32 = NonZeroU32::MIN.saturating_add(i32::MAX as u32 - 1);

/// A packet filter that drops the first packet of a handshake and passes all others.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_SYN: [socket2::SockFilter; 5] = {
    use socket2::SockFilter;
    // Flags of the TCP header and their bits, RFC 9293 §3.1; instructions, `linux/bpf_common.h`.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// How many connections may wait in the kernel until they are accepted.
///
/// tokio takes 128. A burst of callers fills that in a moment; the ones above it wait a second for the kernel's second try, and
/// some are told that they are connected, only to be reset when the listener closes. Linux allows this many
/// (`net.core.somaxconn`) and cuts larger numbers off.
const BACKLOG: u32 = 4096;

async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "the address names no host");
    for address in lookup_host(address).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => match without_ipv6(address, &error) {
                Some(all) => {
                    tracing::info!(%all, "IPv6 is off on this machine: listening on the addresses of IPv4 alone");
                    return listen_on(all);
                }
                None => refused = error,
            },
        }
    }
    Err(refused)
}

/// Where to listen in place of all addresses on a machine without IPv6, as Go does.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let off = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT];
    let off = off.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    (off && is_all(address)).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// Returns whether the address is `[::]`, which stands for all addresses of IPv6 and of IPv4.
fn is_all(address: SocketAddr) -> bool {
    address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if is_all(address) {
        // Whatever the system's default is (`net.ipv6.bindv6only`).
        socket2::SockRef::from(&socket).set_only_v6(false)?;
    }
    // A restarted service gets its port at once, though connections of the one before are still being buried.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// An accepted connection.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Binds `address`, which the configuration key `key` gave.
    ///
    /// # Errors
    /// Exit code 69 when the address cannot be had, 78 when it is none; the message says what to set.
    pub(crate) async fn bind(address: &str, key: &str) -> Result<Self, Error> {
        let env = format!("CHASSIS_{}", key.to_uppercase().replace('.', "__"));
        // The configuration was checked for it; those who bind by other means hear the same.
        match address.parse::<ListenAddress>() {
            Err(message) => return Err(Error::config(format!("{key}: {message}"))),
            Ok(ListenAddress::Unix(path)) => return Self::bind_unix(path, key).await,
            Ok(ListenAddress::Socket(_) | ListenAddress::Name(..)) => {}
        }
        match listen(address).await {
            Ok(listener) => Ok(Self::Tcp(listener)),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::AddrInUse => Error::unavailable(format!(
                    "{key}: {address} is taken by another process; set {key} to another port, for example {env}=127.0.0.1:0"
                )),
                io::ErrorKind::PermissionDenied => Error::unavailable(format!(
                    "{key}: may not listen on {address}; ports below 1024 need a privilege; set {env}"
                )),
                io::ErrorKind::AddrNotAvailable => {
                    Error::unavailable(format!("{key}: {address} is not an address of this machine; set {env}"))
                }
                _ => Error::config(format!(
                    "{key}: cannot listen on {address:?}: {error}; expected host:port, [ipv6]:port or unix:/path"
                )),
            }),
        }
    }

    /// Takes a socket that was handed over for the port of this configuration key.
    ///
    /// # Errors
    /// Exit code 78 when it cannot be listened on.
    pub(crate) fn handed_over(socket: Handed, key: &str) -> Result<Self, Error> {
        let taken = |socket| match socket {
            Handed::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Self::HandedTcp)
            }
            Handed::Unix(socket) => {
                socket.set_nonblocking(true)?;
                let path = socket.local_addr()?.as_pathname().map(PathBuf::from).unwrap_or_default();
                Ok(Self::HandedUnix(UnixListener::from_std(socket)?, path))
            }
        };
        let listener: io::Result<Self> = taken(socket);
        listener.map_err(|error| {
            Error::config(format!("LISTEN_FDS: the socket for {key} cannot be listened on")).caused_by(error)
        })
    }

    /// Returns whether the socket belongs to whoever started the process.
    pub(crate) fn is_handed_over(&self) -> bool {
        matches!(self, Self::HandedTcp(_) | Self::HandedUnix(..))
    }

    async fn bind_unix(path: PathBuf, key: &str) -> Result<Self, Error> {
        // A file left by a killed process is in the way; one that somebody answers on is not ours to remove.
        if UnixStream::connect(&path).await.is_ok() {
            return Err(Error::unavailable(format!("{key}: {} is served by another process", path.display())));
        }
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| {
            use std::os::unix::fs::FileTypeExt;
            meta.file_type().is_socket()
        }) {
            let _ = std::fs::remove_file(&path);
        }
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(Self::Unix(listener, UnixSocketFile(path))),
            Err(error) => {
                Err(Error::unavailable(format!("{key}: cannot listen on unix:{}", path.display())).caused_by(error))
            }
        }
    }

    pub(crate) fn address(&self) -> io::Result<BoundAddress> {
        Ok(match self {
            Self::Tcp(listener) | Self::HandedTcp(listener) => BoundAddress::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => BoundAddress::Unix(file.0.clone()),
            Self::HandedUnix(_, path) => BoundAddress::Unix(path.clone()),
        })
    }

    /// Keeps new callers out of the kernel's queue, so that it can be emptied before the listener closes. Handshakes that have
    /// begun come to their end.
    pub(crate) fn seal(&self) -> Sealed {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Tcp(listener) => {
                let socket = socket2::SockRef::from(listener);
                // The kernel finds no listener for a packet of another interface than the listener's, and answers with a
                // reset. A handshake that has begun keeps the interface that it began with. Before Linux 5.7 that takes a
                // privilege, and a sandbox may not know it.
                if socket.bind_device_by_index_v4(Some(NO_INTERFACE)).is_ok() {
                    Sealed::Refuses
                } else if socket.attach_filter(&NO_SYN).is_ok() {
                    Sealed::Ignores
                } else {
                    Sealed::Not
                }
            }
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Self::Tcp(_) => Sealed::Not,
            // A caller without a path to connect to cannot arrive. A shutdown of the socket would say so too, but leaves it
            // readable for ever, and tokio's accept turns in circles on that.
            Self::Unix(_, file) => match std::fs::remove_file(&file.0) {
                Ok(()) => Sealed::Refuses,
                Err(_) => Sealed::Not,
            },
            // The next process accepts those who come.
            Self::HandedTcp(_) | Self::HandedUnix(..) => Sealed::Not,
        }
    }

    /// Waits for the next connection. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) | Self::HandedTcp(listener) => {
                listener.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, peer))
            }
            Self::Unix(listener, _) | Self::HandedUnix(listener, _) => {
                listener.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_taken_port_says_which_key_and_variable_to_set() {
        let first = Listener::bind("127.0.0.1:0", "http.address").await.unwrap();
        let address = first.address().unwrap().to_string();
        let error = Listener::bind(&address, "http.address").await.unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Unavailable);
        assert!(error.to_string().contains("CHASSIS_HTTP__ADDRESS"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_a_configuration_error() {
        let error = Listener::bind("nonsense", "http.address").await.unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Config);
    }

    #[tokio::test]
    async fn a_socket_file_left_behind_is_replaced_and_one_in_use_is_not() {
        let path = std::env::temp_dir().join(format!("chassis-{}-{}.sock", std::process::id(), fastrand::u64(..)));
        let address = format!("unix:{}", path.display());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&address, "http.address").await.unwrap();
        assert!(Listener::bind(&address, "http.address").await.is_err());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_sealed_listener_refuses_new_callers_and_serves_the_queue() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let listener = Listener::bind(address, "http.address").await.unwrap();
            let port = listener.address().unwrap().tcp().unwrap().port();
            let _queued = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            assert_eq!(listener.seal(), Sealed::Refuses);
            let refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            assert!(matches!(listener.accept().await, Ok(Accepted::Tcp(..))), "{address}");
        }
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = Listener::bind("[::]:0", "http.address").await.unwrap();
        let port = listener.address().unwrap().tcp().unwrap().port();
        for host in ["127.0.0.1", "::1"] {
            TcpStream::connect((host, port)).await.unwrap();
        }
        let gone = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        let all = "[::]:8080".parse().unwrap();
        assert_eq!(without_ipv6(all, &gone(Errno::AFNOSUPPORT)), "0.0.0.0:8080".parse().ok());
        assert_eq!(without_ipv6(all, &gone(Errno::ADDRINUSE)), None);
        assert_eq!(without_ipv6("[::1]:8080".parse().unwrap(), &gone(Errno::ADDRNOTAVAIL)), None);
    }
}
