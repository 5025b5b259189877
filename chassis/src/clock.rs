//! The clock, which tests may stop, and one reading of it for all that happens at one moment.
//!
//! A call passes ten layers and most of them want to know what time it is. A reading costs about 30 ns on the machines this
//! is built on, so the outermost holds the first one for as long as a single poll lasts, in which nothing waits.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

thread_local! {
    static HELD: Cell<Reading> = const { Cell::new(Reading::NotHeld) };
}

#[derive(Clone, Copy)]
enum Reading {
    NotHeld,
    /// The first to ask reads it.
    Held(Option<Instant>),
}

/// What time it is; inside [`hold`], what time it was when that was first asked for.
pub(crate) fn now() -> Instant {
    match HELD.get() {
        Reading::Held(Some(at)) => at,
        Reading::Held(None) => {
            let at = read();
            HELD.set(Reading::Held(Some(at)));
            at
        }
        Reading::NotHeld => read(),
    }
}

/// The same as tokio has it.
pub(crate) fn tokio_now() -> tokio::time::Instant {
    now().into()
}

/// A timer says that it is at least this late, whatever was read before in this moment.
pub(crate) fn not_before(at: Instant) {
    if let Reading::Held(Some(before)) = HELD.get()
        && before < at
    {
        HELD.set(Reading::Held(Some(at)));
    }
}

fn read() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Does this at one moment: for what ends within microseconds and waits for nothing.
pub(crate) fn hold<T>(moment: impl FnOnce() -> T) -> T {
    let _restored = Restored(match HELD.get() {
        // Inside another moment it is the same one.
        held @ Reading::Held(_) => held,
        Reading::NotHeld => HELD.replace(Reading::Held(None)),
    });
    moment()
}

/// Also when the moment ends in a panic.
struct Restored(Reading);

impl Drop for Restored {
    fn drop(&mut self) {
        if let Reading::NotHeld = self.0 {
            HELD.set(Reading::NotHeld);
        }
    }
}

pin_project! {
    /// A body each of whose polls is one moment.
    #[derive(Debug)]
    pub(crate) struct Moments<B> {
        #[pin]
        inner: B,
    }
}

impl<B> Moments<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner }
    }
}

impl<B: Body> Body for Moments<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        hold(|| self.project().inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn in_one_moment_it_is_always_the_same_time_and_the_next_one_is_later() {
        let first = hold(|| {
            let first = now();
            let inside = hold(now);
            while read() == first {}
            assert_eq!((inside, now()), (first, first));
            first
        });
        assert!(hold(now) > first);
        let free = now();
        assert!(free > first);
        while read() == free {}
        assert!(now() > free, "nothing is held any more");
    }

    #[test]
    fn a_moment_that_ends_in_a_panic_is_over() {
        let panicked = std::panic::catch_unwind(|| {
            hold(|| {
                now();
                panic!("inside")
            })
        });
        assert!(panicked.is_err());
        assert!(matches!(HELD.get(), Reading::NotHeld));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_the_one_that_tests_stop() {
        let before = now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(now() - before, Duration::from_secs(5));
    }
}
