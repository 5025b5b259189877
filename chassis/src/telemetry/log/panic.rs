//! A panic becomes a log line with the trace of the request it broke, and a count.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::sink::LineSink;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How long a panic that may end the process waits for its line to get out. Chosen: far more than a write takes, too
/// short to be noticed in a crash.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How many panics there were since the hook was installed, caught or not.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Counts a panic that the hook was kept from seeing.
pub(crate) fn count_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// A panic that was caught before anybody heard of it.
#[derive(Debug)]
pub(crate) struct Caught {
    /// What it said.
    pub(crate) message: String,
    /// File and line, when the hook saw it.
    pub(crate) location: Option<String>,
}

/// Where the thread's last panic was, while it is kept quiet.
enum Quiet {
    No,
    Yes(Option<String>),
}

thread_local! {
    static QUIET: RefCell<Quiet> = const { RefCell::new(Quiet::No) };
}

/// Runs what may panic in a way that is told elsewhere: the panic is neither logged nor counted.
pub(crate) fn caught<R>(run: impl FnOnce() -> R) -> Result<R, Caught> {
    let before = QUIET.replace(Quiet::Yes(None));
    // Whoever asks for this drops what the panic left half done.
    let result = catch_unwind(AssertUnwindSafe(run));
    let quiet = QUIET.replace(before);
    result.map_err(|payload| Caught {
        message: message(&*payload).to_owned(),
        location: match quiet {
            Quiet::Yes(location) => location,
            Quiet::No => None,
        },
    })
}

/// Whether the panic is one that nobody shall hear of here; its place is kept.
fn is_quiet(info: &PanicHookInfo<'_>) -> bool {
    // Where a panic ends the process, these are its last words.
    if cfg!(panic = "abort") {
        return false;
    }
    QUIET.with_borrow_mut(|quiet| {
        let Quiet::Yes(location) = quiet else { return false };
        *location = info.location().map(ToString::to_string);
        true
    })
}

/// Installs the hook, once per process.
///
/// The hook that was there before is called as well when asked for: the standard one writes to stderr, which is right
/// beside text for people and wrong beside JSON. A hook installed later decides itself whether to call this one.
pub(crate) fn install(sink: LineSink, call_previous: bool) {
    static INSTALLED: Once = Once::new();
    // The hook cannot be exchanged while this thread unwinds.
    if std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if is_quiet(info) {
                return;
            }
            log(info, &sink);
            if call_previous {
                previous(info);
            }
        }));
    });
}

/// Must not panic itself: that would end the process.
fn log(info: &PanicHookInfo<'_>, sink: &LineSink) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let thread = std::thread::current();
    let location = info.location().map(tracing::field::display);
    // Captured only when RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace));
    tracing::error!(
        target: "chassis::panic",
        {
            panic.message = message(info.payload()),
            panic.location = location,
            panic.backtrace = backtrace,
            thread = thread.name()
        },
        "a thread panicked"
    );
    if cfg!(panic = "abort") || thread.name() == Some("main") {
        sink.flush(LAST_WORDS);
    }
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is not a text")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{
            LogConfig,
            tests::{Captured, request},
        },
        *,
    };
    use crate::context::Entered;

    #[test]
    fn a_panic_is_logged_with_its_place_and_the_trace_of_its_request_and_counted() {
        let captured = Captured::new(&LogConfig::default());
        install(captured.sink.clone(), true);
        let before = panics();
        let (context, trace_id, _) = request();
        captured.run(|| {
            let _entered = Entered::enter(context);
            let caught = std::panic::catch_unwind(|| panic!("out of {}", "stock"));
            assert!(caught.is_err());
        });
        assert!(panics() > before);
        let line = captured.lines().into_iter().find(|line| line["target"] == "chassis::panic").unwrap();
        assert_eq!(line["panic.message"], "out of stock");
        assert!(line["panic.location"].as_str().unwrap().contains("panic.rs:"), "{line}");
        assert_eq!((&line["level"], &line["trace_id"]), (&"ERROR".into(), &trace_id.to_string().into()));
        assert!(line["thread"].as_str().is_some());
    }

    #[test]
    fn a_panic_that_is_told_elsewhere_is_neither_logged_nor_counted() {
        let captured = Captured::new(&LogConfig::default());
        install(captured.sink.clone(), true);
        let mut told = None;
        captured.run(|| told = caught(|| -> u8 { panic!("quietly, {}", "please") }).err());
        let caught = told.unwrap();
        assert_eq!(caught.message, "quietly, please");
        assert!(caught.location.is_none_or(|location| location.contains("panic.rs:")));
        assert!(!captured.lines().iter().any(|line| line["panic.message"] == "quietly, please"));
    }

    #[test]
    fn a_payload_of_any_type_has_a_message() {
        assert_eq!(message(&"a"), "a");
        assert_eq!(message(&"b".to_owned()), "b");
        assert_eq!(message(&7_u8), "a value that is not a text");
    }
}
