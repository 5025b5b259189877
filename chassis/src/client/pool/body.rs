//! The body of an answer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{Pool, connections::Lease, linger::Patience};
use crate::{clock, error::BoxError};

/// The body of an answer. It keeps the connections alive, and holds its stream of HTTP/2 until it has ended.
pub(crate) struct PoolBody {
    body: Option<Incoming>,
    held: Option<(Lease, Pool)>,
    patience: Option<Patience>,
}

impl PoolBody {
    pub(super) fn new(body: Incoming, lease: Lease, pool: Pool, patience: Option<Patience>) -> Self {
        let held = (!body.is_end_stream()).then_some((lease, pool));
        Self { body: Some(body), held, patience }
    }

    /// The same, reset at once when dropped.
    pub(super) fn at_once(mut self) -> Self {
        self.patience = None;
        self
    }
}

impl Body for PoolBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = &frame {
            self.held = None;
        }
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for PoolBody {
    fn drop(&mut self) {
        if let (Some(body), Some((lease, pool)), Some(patience)) = (self.body.take(), self.held.take(), &self.patience)
            && !body.is_end_stream()
            && patience.lingers(clock::now())
        {
            pool.0.linger.clone().rest(body, (lease, pool));
        }
    }
}

impl fmt::Debug for PoolBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBody").field("body", &self.body).finish_non_exhaustive()
    }
}
