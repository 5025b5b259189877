//! Which events are logged: the configured filter, and for a while another one.
//!
//! An operator may override the filter of a running service; the override ends by itself, so that nobody has to
//! remember it. There is one override at a time: a second replaces the first. When it ends, the newest configured
//! filter returns, even one that came while the override was in force.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tracing::{
    dispatcher::{self, WeakDispatch},
    level_filters::LevelFilter,
};
use tracing_subscriber::{Registry, reload};

use crate::{clock::now, lever};

/// State changes are logged at info, single requests at debug. The SDK's information is for those who work on it.
pub(crate) const DEFAULT_FILTER: &str = "info,opentelemetry=warn";

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

/// A filter that cannot be taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

/// The filter of the log's layer. Not tracing-subscriber's `EnvFilter`, whose cargo feature would change what
/// `tracing_subscriber::fmt::init()` does in every program with the chassis in it.
#[cfg(not(feature = "log-span-filter"))]
pub(crate) type EventFilter = tracing_subscriber::filter::Targets;
/// The filter of the log's layer, by spans and fields too.
#[cfg(feature = "log-span-filter")]
pub(crate) type EventFilter = tracing_subscriber::EnvFilter;

/// Reads filter directives; a blank text is the default filter.
pub(crate) fn parse(directives: &str) -> Result<EventFilter, FilterError> {
    let directives = tidy(directives);
    directives.split(',').try_for_each(check)?;
    directives.parse().map_err(|error| FilterError(format!("found {directives:?}: {error}")))
}

/// The directives without blanks, or the default when nothing is left.
fn tidy(directives: &str) -> String {
    let pieces: Vec<&str> = directives.split(',').map(str::trim).filter(|piece| !piece.is_empty()).collect();
    if pieces.is_empty() { DEFAULT_FILTER.to_owned() } else { pieces.join(",") }
}

fn check(piece: &str) -> Result<(), FilterError> {
    const EXPECTED: &str = "expected a level (trace, debug, info, warn, error, off) or target=level";
    if piece.contains(['[', ']', '{', '}']) {
        return check_spans(piece, EXPECTED);
    }
    let (target, level) = piece.split_once('=').map_or((piece, None), |(target, level)| (target, Some(level)));
    let named = |character: char| character.is_alphanumeric() || "_:-./".contains(character);
    let is_level = |level: &str| !level.is_empty() && level.parse::<LevelFilter>().is_ok();
    if target.is_empty() || !target.chars().all(named) || level.is_some_and(|level| !is_level(level)) {
        return Err(FilterError(format!("found {piece:?}, {EXPECTED}")));
    }
    // A word that is no level is a target in full detail, and everything else falls silent: hardly what a misspelt
    // level meant.
    let word = piece.to_ascii_lowercase();
    let misspelt = |level: &&&str| {
        word != **level && (strsim::osa_distance(&word, level) == 1 || (word.len() <= 8 && word.starts_with(**level)))
    };
    match LEVELS.iter().find(misspelt) {
        Some(level) if !LEVELS.contains(&word.as_str()) => Err(FilterError(format!(
            "found {piece:?}, {EXPECTED}; did you mean {level:?}? a target of that name is written {piece}=trace"
        ))),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "log-span-filter"))]
fn check_spans(piece: &str, expected: &str) -> Result<(), FilterError> {
    Err(FilterError(format!(
        "found {piece:?}, {expected}; filters by spans and fields need the cargo feature `log-span-filter` of chassis-rs"
    )))
}

#[cfg(feature = "log-span-filter")]
fn check_spans(piece: &str, expected: &str) -> Result<(), FilterError> {
    let directive = piece.parse::<tracing_subscriber::filter::Directive>();
    directive.map(drop).map_err(|error| FilterError(format!("found {piece:?}, {expected}: {error}")))
}

/// Where the filter in force comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterOrigin {
    /// The configuration.
    Configured,
    /// An operator, for a while.
    Override,
    /// The service installed a `tracing` subscriber of its own; the chassis does not filter.
    Foreign,
}

/// The filter in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FilterStatus {
    /// The directives in force.
    pub filter: String,
    /// Where they come from.
    pub origin: FilterOrigin,
    /// The directives that are in force without an override.
    pub configured: String,
    /// For how many seconds more the override lasts.
    pub remaining_seconds: Option<u64>,
}

/// The configured filter and the override. Pure: time is an argument.
#[derive(Debug)]
struct State {
    configured: String,
    overriding: Option<Override>,
}

#[derive(Debug)]
struct Override {
    directives: String,
    until: Instant,
}

impl State {
    fn in_force(&self) -> &str {
        self.overriding.as_ref().map_or(&self.configured, |o| &o.directives)
    }

    /// Ends an override whose time is up; whether the filter changed.
    fn expire(&mut self, now: Instant) -> bool {
        self.overriding.take_if(|o| o.until <= now).is_some()
    }

    fn status(&self, now: Instant) -> FilterStatus {
        let origin = if self.overriding.is_some() { FilterOrigin::Override } else { FilterOrigin::Configured };
        FilterStatus {
            filter: self.in_force().to_owned(),
            origin,
            configured: self.configured.clone(),
            remaining_seconds: self.overriding.as_ref().map(|o| o.until.saturating_duration_since(now).as_secs()),
        }
    }
}

/// Changes the log filter of the running service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogControl(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// `None` when the subscriber is not the chassis's.
    handle: Option<(reload::Handle<EventFilter, Registry>, WeakDispatch)>,
    /// The end of the override has moved.
    moved: Notify,
}

impl LogControl {
    pub(crate) fn new(configured: &str, handle: Option<(reload::Handle<EventFilter, Registry>, WeakDispatch)>) -> Self {
        let state = Mutex::new(State { configured: tidy(configured), overriding: None });
        Self(Arc::new(Inner { state, handle, moved: Notify::new() }))
    }

    /// Whether the subscriber is the chassis's; otherwise the filter belongs to the service and cannot be changed here.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.0.handle.is_some()
    }

    /// The filter in force.
    #[must_use]
    pub fn status(&self) -> FilterStatus {
        let mut status = self.state().status(now());
        if !self.is_installed() {
            status.origin = FilterOrigin::Foreign;
        }
        status
    }

    /// Takes over a newly configured filter. An override stays in force until its end.
    ///
    /// # Errors
    /// When a directive cannot be read; the filter then stays as it was.
    pub fn configure(&self, directives: &str) -> Result<(), FilterError> {
        let filter = parse(directives)?;
        let mut state = self.state();
        state.configured = tidy(directives);
        if state.overriding.is_none() { self.apply(filter) } else { Ok(()) }
    }

    /// Puts another filter in force for a while: ten minutes unless told otherwise, two hours at most.
    ///
    /// # Errors
    /// When a directive cannot be read, the time is zero or too long, or the subscriber is not the chassis's.
    pub fn override_filter(&self, directives: &str, ttl: Option<Duration>) -> Result<FilterStatus, FilterError> {
        if !self.is_installed() {
            return Err(FilterError("the tracing subscriber is the service's own; change the filter there".to_owned()));
        }
        let ttl = lever::ttl(ttl).map_err(FilterError)?;
        let filter = parse(directives)?;
        // Said under the old filter, which the service chose; the new one may hide it.
        tracing::info!(filter = directives, ttl_seconds = ttl.as_secs(), "log filter overridden");
        let now = now();
        let mut state = self.state();
        self.apply(filter)?;
        state.overriding = Some(Override { directives: tidy(directives), until: now + ttl });
        let status = state.status(now);
        drop(state);
        self.0.moved.notify_one();
        Ok(status)
    }

    /// Ends the override, when there is one.
    ///
    /// # Errors
    /// When the subscriber is gone.
    pub fn clear_override(&self) -> Result<(), FilterError> {
        let mut state = self.state();
        if state.overriding.take().is_some() { self.restore(state) } else { Ok(()) }
    }

    /// Ends overrides when their time is up; runs until dropped.
    pub(crate) async fn expire(self) {
        loop {
            let until = self.state().overriding.as_ref().map(|o| o.until);
            match until {
                None => self.0.moved.notified().await,
                Some(until) => tokio::select! {
                    () = self.0.moved.notified() => {}
                    () = tokio::time::sleep_until(until.into()) => self.expire_at(now()),
                },
            }
        }
    }

    fn expire_at(&self, now: Instant) {
        let mut state = self.state();
        if state.expire(now) {
            // The only error is that the subscriber is gone, and then nothing is logged any more.
            let _ = self.restore(state);
        }
    }

    fn restore(&self, state: MutexGuard<'_, State>) -> Result<(), FilterError> {
        let filter = parse(&state.configured)?;
        self.apply(filter)?;
        let configured = state.configured.clone();
        drop(state);
        tracing::info!(filter = configured, "log filter override ended");
        Ok(())
    }

    fn apply(&self, filter: EventFilter) -> Result<(), FilterError> {
        let Some((handle, dispatch)) = &self.0.handle else { return Ok(()) };
        let gone = || FilterError("cannot change the log filter: the tracing subscriber is gone".to_owned());
        let dispatch = dispatch.upgrade().ok_or_else(gone)?;
        // `tracing` asks the thread's own subscriber what to cache for each call site, so it must be this one.
        dispatcher::with_default(&dispatch, || handle.reload(filter)).map_err(|_| gone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for FilterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.filter)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tracing::{debug, info};

    use super::{
        super::{LogConfig, tests::Captured},
        *,
    };

    #[test]
    fn a_bad_directive_is_named() {
        for (directives, named) in [
            ("info,shop=loud", "shop=loud"),
            ("warn,[broken", "[broken"),
            ("=", "\"=\""),
            ("shop=", "\"shop=\""),
            ("a b", "\"a b\""),
        ] {
            let message = parse(directives).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains(named), "{directives}: {message}");
        }
    }

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_target() {
        for (found, meant) in
            [("inof=x,inf", "inof=x"), ("inf", "\"info\""), ("Warning", "\"warn\""), ("debgu", "\"debug\"")]
        {
            let message = parse(found).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains(meant), "{found}: {message}");
        }
    }

    #[test]
    fn levels_and_targets_are_accepted() {
        for good in ["", " ", "info", "INFO, shop=debug", "off", "shop", "5", "a-b::c.d=0", "warning=trace"] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good).err());
        }
        let default = parse("").unwrap().to_string();
        assert!(["opentelemetry=warn,info", "info,opentelemetry=warn"].contains(&&*default), "{default}");
    }

    #[test]
    fn spans_and_fields_need_a_feature() {
        for spans in ["shop[order{id=7}]=trace", "[{id}]=debug"] {
            let message = parse(spans).err().map(|error| error.to_string());
            match cfg!(feature = "log-span-filter") {
                true => assert_eq!(message, None),
                false => assert!(message.unwrap().contains("`log-span-filter`")),
            }
        }
    }

    #[test]
    fn the_longest_target_decides() {
        let log = captured("warn,shop=info,shop::cart=off");
        log.run(|| {
            tracing::info!(target: "shop::till", "till");
            tracing::error!(target: "shop::cart", "cart");
            tracing::info!(target: "elsewhere", "elsewhere");
            tracing::warn!(target: "elsewhere", "warned");
        });
        assert_eq!(log.messages(), ["till", "warned"]);
    }

    fn captured(filter: &str) -> Captured {
        Captured::new(&LogConfig { filter: filter.into(), ..LogConfig::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn an_override_expires_to_the_newest_configured_filter() {
        let log = captured("info");
        let (control, expiring) = (log.control.clone(), tokio::spawn(log.control.clone().expire()));
        control.override_filter("debug", None).unwrap();
        control.configure("warn").unwrap();
        log.run(|| debug!("while overridden"));
        assert_eq!(control.status().origin, FilterOrigin::Override);

        tokio::time::sleep(lever::DEFAULT_TTL - Duration::from_secs(1)).await;
        let status = control.status();
        assert_eq!((status.filter.as_str(), status.remaining_seconds), ("debug", Some(1)));

        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = control.status();
        assert_eq!((status.filter.as_str(), status.origin), ("warn", FilterOrigin::Configured));
        log.run(|| info!("below warn"));
        expiring.abort();
        assert_eq!(log.messages(), ["while overridden"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_override_replaces_the_first_and_its_end() {
        let log = captured("info");
        let (control, expiring) = (log.control.clone(), tokio::spawn(log.control.clone().expire()));
        control.override_filter("trace", Some(lever::MAX_TTL)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        control.override_filter("debug", Some(Duration::from_secs(60))).unwrap();
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(control.status().filter, "info");
        expiring.abort();
    }

    #[test]
    fn an_override_may_be_ended_early() {
        let log = captured("warn");
        log.control.override_filter("debug", None).unwrap();
        log.run(|| debug!("one"));
        log.run(|| log.control.clear_override().unwrap());
        log.run(|| debug!("two"));
        assert_eq!(log.messages(), ["one"]);
    }

    #[test]
    fn a_refused_override_changes_nothing() {
        let control = captured("info").control.clone();
        let too_long = Some(lever::MAX_TTL + Duration::from_secs(1));
        for (directives, ttl) in [("shop=loud", None), ("debug", too_long), ("debug", Some(Duration::ZERO))] {
            assert!(control.override_filter(directives, ttl).is_err());
        }
        assert!(control.configure("shop=loud").is_err());
        let status = control.status();
        assert_eq!((status.filter.as_str(), status.origin), ("info", FilterOrigin::Configured));
    }

    #[test]
    fn a_foreign_subscriber_is_left_alone() {
        let control = LogControl::new("info", None);
        assert_eq!(control.status().origin, FilterOrigin::Foreign);
        assert!(control.override_filter("debug", None).is_err());
        assert_eq!(control.configure("warn"), Ok(()));
    }
}
