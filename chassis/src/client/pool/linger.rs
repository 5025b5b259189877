//! Streams of HTTP/2 whose deadline has passed, and which their server ends by itself.
//!
//! The server was told the deadline and drops the call at the same time. A reset from here would say what it knows, and a
//! server that guards itself against floods of resets (CVE-2023-44487) would count it: a hundred callers whose time is up look
//! like an attack. So such a stream is let be for a moment, and its answer thrown away. A call that is given up for another
//! reason is reset at once: its server does not know.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Buf as _;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{Pool, Tasks, body::PoolBody, connections::Lease};
use crate::{client::facts::Facts, context::Protocol, error::BoxError};

/// How long a stream is let be. Chosen: many times the way of a packet and the time until a busy server's timer runs.
const LINGER: Duration = Duration::from_secs(1);
/// How many streams of a pool are let be at once; further ones are reset. Chosen: a quarter of hyper's own limit of resets.
const MOST: usize = 256;
/// How much of an answer is thrown away: a problem, not a download. Chosen.
const THROWN_AWAY: usize = 64 * 1024;

/// Until when a call's server works on it, and whether it was sent at all.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    deadline: Instant,
    grpc: bool,
    sent: Arc<AtomicBool>,
}

impl Patience {
    /// Of a call whose server is told its deadline.
    pub(super) fn of(facts: &Facts) -> Option<Self> {
        let deadline = facts.deadline.filter(|_| !facts.streamed && !facts.hides_time)?.into_std();
        Some(Self { deadline, grpc: facts.protocol != Protocol::Http, sent: Arc::default() })
    }

    /// The request is with its connection, or has come back.
    pub(super) fn sent(&self, sent: bool) {
        self.sent.store(sent, Relaxed);
    }

    /// Returns whether the deadline is that of the whole answer: over HTTP it is that of its head.
    pub(super) fn covers_the_answer(&self) -> bool {
        self.grpc
    }

    pub(super) fn lingers(&self, now: Instant) -> bool {
        self.deadline <= now && self.sent.load(Relaxed)
    }
}

/// The streams of a pool that are let be.
#[derive(Debug, Clone)]
pub(super) struct Linger {
    tasks: Tasks,
    streams: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Linger {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { tasks, streams: Arc::default() }
    }

    /// Waits for the answer of a call that its caller has given up.
    pub(super) fn answer(&self, call: Pin<Box<dyn Future<Output = Result<Response<PoolBody>, BoxError>> + Send>>) {
        self.spawn(async move {
            if let Ok(answer) = call.await {
                throw_away(answer.into_body().at_once()).await;
            }
        });
    }

    /// Waits for the rest of an answer.
    pub(super) fn rest(&self, body: Incoming, held: (Lease, Pool)) {
        self.spawn(async move {
            throw_away(body).await;
            drop(held);
        });
    }

    fn spawn(&self, waits: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime there is no connection either.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let counted = Counted(Arc::clone(&self.streams));
        if self.streams.fetch_add(1, Relaxed) >= MOST {
            return;
        }
        self.tasks.spawn(async move {
            let _counted = counted;
            let _late = tokio::time::timeout(LINGER, waits).await;
        });
    }
}

async fn throw_away<B>(mut body: B)
where
    B: http_body::Body + Unpin,
{
    let mut left = THROWN_AWAY;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, |data| data.remaining());
        match left.checked_sub(length.max(1)) {
            Some(less) => left = less,
            None => return,
        }
    }
}
