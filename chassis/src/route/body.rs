//! A request body that ends at its route's limit, and says that it did.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{LengthLimitError, Limited};
use tonic::Status;

use crate::cause::Cause;

/// Whether a body was cut off. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Tripped(Arc<AtomicBool>);

impl Tripped {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body, cut off behind `limit` bytes. `rpc` has the error in gRPC's form, which tonic passes on as it is.
pub(super) fn limited(body: Body, limit: u64, rpc: bool) -> (Body, Tripped) {
    let tripped = Tripped::default();
    let inner = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    (Body::new(LimitedBody { inner, tripped: tripped.clone(), rpc }), tripped)
}

#[derive(Debug)]
struct LimitedBody {
    inner: Limited<Body>,
    tripped: Tripped,
    rpc: bool,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Err(error))) if error.is::<LengthLimitError>() => {
                self.tripped.0.store(true, Ordering::Relaxed);
                let cause = Cause::PayloadTooLarge;
                let told = if self.rpc { Status::new(cause.grpc_code(), cause.title()).into() } else { error };
                Poll::Ready(Some(Err(told)))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
