//! The connections to one endpoint over one protocol, and the calls that wait for one.
//!
//! A call takes a [`Lease`], the right to send one request: an idle connection of HTTP/1.1, or a stream on one of HTTP/2. When
//! there is none it waits, and as many connections are being made as the calls that wait need. A connection being made belongs
//! to no call: one that gives up leaves the others their connection, and it is kept for the next when all have left. So at most
//! as many are being made as calls have waited at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http::Uri;
use tokio::{sync::oneshot, time::Instant};
use tower_service::Service as _;

use super::{
    Pools, Tasks,
    connect::{self, Made},
    dial::Way,
    error::NoConnection,
    http1::Idle,
    http2::Shared,
};
use crate::{client::observe::Carried, clock};

pub(super) struct Connections {
    pub(super) pools: Arc<Pools>,
    pub(super) way: Way,
    /// The address that is asked for, in TLS too.
    pub(super) uri: Uri,
    pub(super) http2: bool,
    pub(super) tasks: Tasks,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Idle connections of HTTP/1.1, the longest idle first.
    idle: Vec<(Idle, Instant)>,
    /// Connections of HTTP/2 that take new streams.
    shared: Vec<Open>,
    /// The calls that wait, the longest first.
    waiting: BTreeMap<u64, oneshot::Sender<Result<Lease, NoConnection>>>,
    next: u64,
    /// How many connections are being made.
    making: usize,
    /// How many calls one of them will take: as many as the last.
    room: usize,
    /// Idle connections are looked after.
    watched: bool,
}

struct Open {
    connection: Arc<Shared>,
    streams: usize,
    /// When the last stream ended.
    since: Instant,
}

/// The right to send one request on a connection. It goes back when dropped.
pub(super) struct Lease {
    connections: Arc<Connections>,
    held: Option<Held>,
    /// The connection was used before.
    pub(super) kept: bool,
}

pub(super) enum Held {
    Http1(Idle),
    Http2(Arc<Shared>),
}

impl Lease {
    /// The connection of HTTP/1.1, which comes back by itself; of one of HTTP/2 the stream is held until this is dropped.
    pub(super) fn take(&mut self) -> Option<Held> {
        match self.held.take()? {
            Held::Http2(shared) => {
                self.held = Some(Held::Http2(Arc::clone(&shared)));
                Some(Held::Http2(shared))
            }
            idle @ Held::Http1(_) => Some(idle),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.held.take() {
            Some(Held::Http1(idle)) => self.connections.idle(idle),
            Some(Held::Http2(shared)) => self.connections.ended(&shared),
            None => {}
        }
    }
}

/// A place among the calls that wait; left when dropped.
struct Place<'a>(&'a Connections, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Its lease, if one has come meanwhile, is dropped by its receiver.
        let left = self.0.lock().waiting.remove(&self.1);
        drop(left);
    }
}

impl State {
    /// A lease that can be had at once. Connections that have ended are left out.
    fn take(&mut self, connections: &Arc<Connections>, now: Instant) -> Option<Lease> {
        let lease = |held, kept| Some(Lease { connections: Arc::clone(connections), held: Some(held), kept });
        let timeout = connections.pools.config.idle_timeout.get();
        while let Some((idle, since)) = self.idle.pop() {
            // The last that was used: an older one is no better.
            if now.saturating_duration_since(since) < timeout && idle.is_usable() {
                return lease(Held::Http1(idle), true);
            }
        }
        self.shared.retain(|open| !open.connection.is_closed());
        let open = self.shared.iter_mut().find(|open| open.streams < open.connection.most())?;
        open.streams += 1;
        let kept = open.connection.used();
        lease(Held::Http2(Arc::clone(&open.connection)), kept)
    }

    /// Gives leases to the calls that wait.
    fn serve(&mut self, connections: &Arc<Connections>, now: Instant) {
        while !self.waiting.is_empty() {
            let Some(lease) = self.take(connections, now) else { return };
            self.hand_over(lease);
        }
    }

    /// Gives this lease to a call that waits; without one it goes back.
    fn hand_over(&mut self, mut lease: Lease) {
        while let Some((_, waiting)) = self.waiting.pop_first() {
            match waiting.send(Ok(lease)) {
                Ok(()) => return,
                Err(Ok(back)) => lease = back,
                Err(Err(_)) => return,
            }
        }
        // The lock is held: it must not go back by itself.
        match lease.held.take() {
            Some(Held::Http1(idle)) => self.idle.push((idle, clock::tokio_now())),
            Some(Held::Http2(shared)) => self.end_stream(&shared),
            None => {}
        }
    }

    fn end_stream(&mut self, shared: &Arc<Shared>) {
        if let Some(open) = self.shared.iter_mut().find(|open| Arc::ptr_eq(&open.connection, shared)) {
            open.streams = open.streams.saturating_sub(1);
            if open.streams == 0 {
                open.since = clock::tokio_now();
            }
        }
    }

    /// Takes out what has been idle for as long as this; returns when the next one will have been.
    fn expire(&mut self, timeout: Duration, now: Instant) -> (Option<Instant>, Vec<(Idle, Instant)>, Vec<Open>) {
        let over = |since: &Instant| now.saturating_duration_since(*since) >= timeout;
        let idle = self.idle.extract_if(.., |(idle, since)| over(since) || idle.is_closed()).collect();
        let shared = self
            .shared
            .extract_if(.., |open| open.connection.is_closed() || (open.streams == 0 && over(&open.since)))
            .collect();
        let quiet = self.shared.iter().filter(|open| open.streams == 0).map(|open| open.since);
        let next = self.idle.iter().map(|(_, since)| *since).chain(quiet).min();
        (next.map(|since| since + timeout), idle, shared)
    }
}

impl Connections {
    pub(super) fn new(pools: &Arc<Pools>, way: Way, uri: Uri, http2: bool, tasks: Tasks) -> Arc<Self> {
        let room = if http2 { pools.most_streams() } else { 1 };
        let state = Mutex::new(State { room, ..State::default() });
        Arc::new(Self { pools: Arc::clone(pools), way, uri, http2, tasks, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease, at once or when a connection has room.
    ///
    /// # Errors
    ///
    /// The connection that this call waited for could not be made.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, NoConnection> {
        let (ticket, waits) = {
            let mut state = self.lock();
            if state.waiting.is_empty()
                && let Some(lease) = state.take(self, clock::tokio_now())
            {
                return Ok(lease);
            }
            let (waiting, waits) = oneshot::channel();
            let ticket = state.next;
            state.next += 1;
            state.waiting.insert(ticket, waiting);
            (ticket, waits)
        };
        let _place = Place(self, ticket);
        self.make();
        match waits.await {
            Ok(result) => result,
            // The runtime ends.
            Err(_) => Err(NoConnection::new("the connection was given up".into())),
        }
    }

    /// Begins as many connections as the calls that wait need.
    ///
    /// The first of them by the call that is polled now: the times of its connection belong to it.
    fn make(self: &Arc<Self>) {
        loop {
            {
                let mut state = self.lock();
                // Where no streams are allowed another connection would bring no room either.
                let closed = state.shared.iter().any(|open| open.connection.most() == 0);
                if closed || state.waiting.len() <= state.making * state.room.max(1) {
                    return;
                }
                state.making += 1;
            }
            let making = Making(Arc::downgrade(self));
            let connecting = self.way.clone().call(self.uri.clone());
            let connect = Carried::new(connect::connect(Arc::downgrade(self), connecting));
            self.tasks.spawn(async move {
                let made = connect.await;
                making.done(made);
            });
        }
    }

    /// A connection of HTTP/1.1 has nothing to do.
    pub(super) fn idle(self: &Arc<Self>, idle: Idle) {
        let unwanted = {
            let mut state = self.lock();
            let now = clock::tokio_now();
            state.idle.push((idle, now));
            state.serve(self, now);
            let most = self.pools.config.max_idle as usize;
            (state.idle.len() > most).then(|| state.idle.remove(0))
        };
        drop(unwanted);
        self.watch();
    }

    /// A stream of HTTP/2 has ended.
    fn ended(self: &Arc<Self>, shared: &Arc<Shared>) {
        {
            let mut state = self.lock();
            state.end_stream(shared);
            state.serve(self, clock::tokio_now());
        }
        self.watch();
    }

    /// A connection of HTTP/2 takes another number of streams, or none any more.
    pub(super) fn changed(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.shared.retain(|open| !open.connection.is_closed());
            state.serve(self, clock::tokio_now());
        }
        self.make();
    }

    fn made(self: &Arc<Self>, made: Made) {
        {
            let mut state = self.lock();
            let now = clock::tokio_now();
            match made {
                Made::Http1(idle) => {
                    let lease = Lease { connections: Arc::clone(self), held: Some(Held::Http1(idle)), kept: false };
                    state.hand_over(lease);
                }
                Made::Http2(connection) => {
                    state.room = connection.most().max(1);
                    state.shared.push(Open { connection, streams: 0, since: now });
                    state.serve(self, now);
                }
            }
        }
        self.watch();
        // Fewer calls may have room on it than was thought.
        self.make();
    }

    /// A connection could not be made: the calls that it was for are failed.
    fn failed(&self, error: &NoConnection) {
        let failed: Vec<_> = {
            let mut state = self.lock();
            // Calls that others are being made for go on waiting, as do those that a full connection will have room for.
            let others = state.making * state.room.max(1);
            let spared = if state.shared.is_empty() { others } else { others.max(state.waiting.len()) };
            let count = state.waiting.len().saturating_sub(spared);
            std::iter::from_fn(|| state.waiting.pop_first()).take(count).collect()
        };
        for (_, waiting) in failed {
            // One that has just left needs no answer.
            let _ = waiting.send(Err(error.clone()));
        }
    }

    /// Sees to it that idle connections end in time.
    fn watch(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            if state.watched || (state.idle.is_empty() && state.shared.is_empty()) {
                return;
            }
            state.watched = true;
        }
        let (this, timeout) = (Arc::downgrade(self), self.pools.config.idle_timeout.get());
        self.tasks.spawn(async move {
            let mut next = clock::tokio_now() + timeout;
            loop {
                tokio::time::sleep_until(next).await;
                let Some(connections) = this.upgrade() else { return };
                let mut state = connections.lock();
                let now = Instant::now();
                let (after, idle, shared) = state.expire(timeout, now);
                let none = state.idle.is_empty() && state.shared.is_empty();
                if none {
                    state.watched = false;
                }
                drop(state);
                drop((idle, shared));
                if none {
                    return;
                }
                next = after.unwrap_or(now + timeout);
            }
        });
    }
}

/// A connection being made: counted until it is there or dropped.
struct Making(Weak<Connections>);

impl Making {
    fn done(self, made: Result<Made, NoConnection>) {
        let connections = self.0.upgrade();
        // Counted out first, so that a failure knows of the others.
        drop(self);
        match (connections, made) {
            (Some(connections), Ok(made)) => connections.made(made),
            (Some(connections), Err(error)) => connections.failed(&error),
            (None, _) => {}
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(connections) = self.0.upgrade() {
            connections.lock().making -= 1;
        }
    }
}
