//! Sockets that whoever started the process has opened already: systemd, or a watcher while a service is being developed.
//!
//! The protocol is systemd's (`sd_listen_fds`): `LISTEN_FDS` says how many sockets follow the standard streams, `LISTEN_PID`
//! for which process they are, `LISTEN_FDNAMES` what each is for. Without `LISTEN_PID` they are for any process, so that a
//! watcher need not know which one `cargo run` will start. A socket lives on when this process ends: callers wait in its
//! queue until the next one accepts.

use std::{
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{Mutex, MutexGuard, PoisonError},
};

use listenfd::ListenFd;

use crate::{Error, Result, config::Sources};

const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// The names of the ports in `LISTEN_FDNAMES`, in the order of sockets that have no such name.
const PORTS: [&str; 2] = ["http", "admin"];

/// The sockets of the process, until a service takes them: two cannot have one.
static SOCKETS: Mutex<State> = Mutex::new(State::Unclaimed);

enum State {
    Unclaimed,
    Claimed(ListenFd),
}

fn sockets() -> MutexGuard<'static, State> {
    SOCKETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what was handed over. Called before the process has threads, since it takes the variables out of the environment,
/// so that programs that the service starts do not believe that they are meant.
pub(crate) fn claim() {
    let mut state = sockets();
    if matches!(*state, State::Unclaimed) {
        *state = State::Claimed(ListenFd::from_env());
    }
}

/// A socket that was handed over.
#[derive(Debug)]
pub(crate) enum Handed {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets of the two ports, as far as they were handed over. `sources` are those of the service: one under test does not
/// look at the environment of the process.
///
/// # Errors
/// Exit code 78: a variable that makes no sense, more sockets than ports, or one that does not listen.
pub(crate) fn take(sources: &Sources) -> Result<[Option<Handed>; 2]> {
    let mut taken = [None, None];
    let Some(count) = sources.variable(COUNT).filter(|count| !count.is_empty()) else { return Ok(taken) };
    let count: usize = count
        .parse()
        .map_err(|_| Error::config(format!("{COUNT}: found {count:?}, expected how many sockets are handed over")))?;
    claim();
    let mut state = sockets();
    let State::Claimed(sockets) = &mut *state else { return Ok(taken) };
    // None when they are for another process, or were taken by another service of this one.
    if sockets.len() == 0 {
        return Ok(taken);
    }
    let places = places(count, sources.variable(NAMES).unwrap_or_default())?;
    for (at, place) in places.into_iter().enumerate() {
        let port = PORTS[place];
        // A Unix socket is one when it is no TCP socket: its kind is the kernel's to say.
        let socket = match sockets.take_tcp_listener(at) {
            Ok(socket) => socket.map(Handed::Tcp),
            Err(_) => sockets.take_unix_listener(at).map(|socket| socket.map(Handed::Unix)).map_err(|error| {
                Error::config(format!("{COUNT}: socket {at}, for the port {port}, is none that listens: {error}"))
            })?,
        };
        taken[place] = socket;
    }
    Ok(taken)
}

/// Which port each socket is for, by its name, or else by its place.
fn places(count: usize, names: &str) -> Result<Vec<usize>> {
    if count > PORTS.len() {
        return Err(Error::config(format!(
            "{COUNT}: found {count}, expected one socket for {}, and one for {} at most",
            PORTS[0], PORTS[1]
        )));
    }
    let mut names = names.split(':');
    let named: Vec<_> =
        (0..count).map(|_| names.next().and_then(|name| PORTS.iter().position(|port| *port == name))).collect();
    let mut free = (0..PORTS.len()).filter(|place| !named.contains(&Some(*place)));
    let places: Vec<_> = named.iter().filter_map(|place| place.or_else(|| free.next())).collect();
    let twice = places.iter().enumerate().any(|(at, place)| places[..at].contains(place));
    if twice {
        return Err(Error::config(format!("{NAMES}: found one name twice, expected {} and {}", PORTS[0], PORTS[1])));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::places;

    #[test]
    fn sockets_are_told_apart_by_name_or_place() {
        assert_eq!(places(0, "").unwrap(), [] as [usize; 0]);
        assert_eq!(places(1, "").unwrap(), [0]);
        assert_eq!(places(2, "").unwrap(), [0, 1]);
        assert_eq!(places(2, "http:admin").unwrap(), [0, 1]);
        assert_eq!(places(2, "admin:http").unwrap(), [1, 0]);
        assert_eq!(places(1, "admin").unwrap(), [1]);
        assert_eq!(places(2, "admin:orders.socket").unwrap(), [1, 0], "systemd's own name");
        assert_eq!(places(2, "orders.socket:orders.socket").unwrap(), [0, 1]);
        assert!(places(3, "").is_err());
        assert!(places(2, "http:http").is_err());
    }
}
