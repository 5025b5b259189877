//! A panic of somebody else's future, as a value.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

/// Makes and runs a future; a panic in either becomes `Err` with the panic's message.
///
/// Unwind safety: the future is never polled again after a panic, only dropped.
pub(crate) async fn caught<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output, String> {
    let mut future = Box::pin(async move { make().await });
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(message(&*payload))),
    })
    .await
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_its_message_wherever_it_happens() {
        assert_eq!(caught(|| async { 7 }).await, Ok(7));
        assert_eq!(
            caught(|| async {
                if true {
                    panic!("inside {}", 1)
                }
            })
            .await,
            Err("inside 1".to_owned())
        );
        let early = |fail: bool| {
            assert!(!fail, "before the future");
            async {}
        };
        assert_eq!(caught(|| early(true)).await, Err("before the future".to_owned()));
    }
}
