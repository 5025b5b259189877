//! What becomes of an answer that is not handed on.

use std::pin::pin;

use bytes::Buf as _;
use http_body::Body;
use tokio::time::{Instant, timeout_at};

/// How much of an answer is read so that its connection can be used again: 8 KiB. Chosen: a problem document or an error
/// page fits, and what is larger costs more than a new connection on the same network.
pub(crate) const DRAIN_LIMIT: u64 = 8 * 1024;

/// Reads a small rest until then, or lets go of it: over HTTP/1.1 a connection whose answer was not read to its end is
/// closed, and a storm of failures would become a storm of connections.
///
/// It takes no longer than the wait that there is anyway; what is there already is always read.
pub(crate) async fn drop_or_drain<B: Body>(body: B, until: Instant) {
    if body.is_end_stream() || body.size_hint().lower() > DRAIN_LIMIT {
        return;
    }
    let mut body = pin!(body);
    let drain = async {
        let mut read = 0;
        while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            read += frame.data_ref().map_or(0, |data| data.remaining() as u64);
            if read > DRAIN_LIMIT {
                break;
            }
        }
    };
    let _ = timeout_at(until, drain).await;
}
