//! A cache for answers of other services, on moka: one fetch for many callers, an old value when a new one cannot be had.
//!
//! ```
//! use chassis::cache::{Cache, CacheConfig};
//!
//! # async fn stock(sku: &str) -> Result<u32, std::io::Error> { Ok(7) }
//! # async fn run() {
//! let cache: Cache<String, u32, std::io::Error> = Cache::new(&CacheConfig::default());
//! let found = cache.get("pear".to_owned(), || stock("pear")).await;
//! let found = found.expect("the stock is known");
//! assert_eq!(*found, 7);
//! assert!(!found.is_stale());
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run());
//! ```
//!
//! Thousands who ask for the same key at the same time make one fetch. The one who came first makes it, within its own
//! request: its trace, its time. When that one is cancelled, or its time is up, one of those who wait goes on in its place
//! ([`own_failures`](Cache::own_failures)). Any other failure is shared by all who waited for it and not kept, unless there is
//! an old value: then they all get that, marked, and the next try is a second later.
//!
//! [`CacheLayer`] does the same for the HTTP answers of a client.

mod config;
mod directives;
mod flight;
mod layer;
mod own;
mod state;
mod stats;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::ready,
    hash::Hash,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{future::CacheBuilder, notification::RemovalCause, ops::compute::Op};

use self::{
    flight::{Flights, Lead, Part},
    state::{Span, Times, Verdict},
    stats::Counters,
};
use crate::{
    client::CallError, // floor: what a fetch usually fails with
    clock::now,
    problem::{IntoProblem, Problem, ProblemInfo},
};

pub use self::{
    config::CacheConfig,
    layer::{CacheLayer, CacheService, CachedBody},
    stats::CacheStats,
};

/// How long it is remembered that what came for a key was the leader's own, so that nobody waits for one who fetches: they
/// would all wait in vain, and then ask one after the other. Chosen: long beside a fetch; Varnish remembers it for 2 min.
const ALONE: Duration = Duration::from_secs(10);
/// Of how many keys that is remembered. Chosen: a megabyte or two.
const ALONE_KEYS: u64 = 10_000;

/// Values of other services by key, each fetched by one caller at a time. Cheap to clone; clones are the same cache.
///
/// `E` is what a fetch fails with.
pub struct Cache<K, V, E = CallError>(Arc<Shared<K, V, E>>);

struct Shared<K, V, E> {
    kept: Store<K, V>,
    flights: Flights<K, Landing<V, E>>,
    /// Since when everybody asks by himself.
    alone: moka::future::Cache<K, Instant>,
    ttl: Duration,
    jitter: f64,
    stale: Duration,
    negative: Option<Duration>,
    own: fn(&E) -> bool,
    counters: Arc<Counters>,
}

/// Where values are kept.
type Store<K, V> = moka::future::Cache<K, Arc<Kept<V>>>;

/// A value with its times.
struct Kept<V> {
    value: V,
    times: Times,
}

/// What the followers are told.
enum Landing<V, E> {
    Here(Arc<Kept<V>>),
    Stale(Arc<Kept<V>>),
    Failed(Arc<E>),
    /// What came is the leader's own; everybody asks by himself.
    Alone,
}

impl<V, E> Clone for Landing<V, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Here(kept) => Self::Here(Arc::clone(kept)),
            Self::Stale(kept) => Self::Stale(Arc::clone(kept)),
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Alone => Self::Alone,
        }
    }
}

/// What a fetch came to.
enum Fetched<V, E, P> {
    Keep(V, Span),
    Failed(E),
    /// Not to be kept nor shared.
    Own(P),
}

/// What a caller gets.
enum Got<V, E, P, F> {
    Kept(Arc<Kept<V>>, bool),
    Failed(Arc<E>),
    Own(P),
    /// What the leader got is his own: here is the fetch, to be made by oneself.
    Alone(F),
}

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// A cache that keeps so many values.
    #[must_use]
    pub fn new(config: &CacheConfig) -> Self {
        Self::build(config, Store::builder().max_capacity(config.entries))
    }

    /// A cache that keeps values up to a size in all; `weigh` tells that of one.
    #[must_use]
    pub fn sized(config: &CacheConfig, size: u64, weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        let weigh = move |key: &K, kept: &Arc<Kept<V>>| weigh(key, &kept.value);
        Self::build(config, Store::builder().max_capacity(size).weigher(weigh))
    }

    fn build(config: &CacheConfig, builder: CacheBuilder<K, Arc<Kept<V>>, Store<K, V>>) -> Self {
        let counters = Arc::new(Counters::default());
        let evicted = Arc::clone(&counters);
        let kept = builder
            // What is gone is not served anyway; this gives its memory back.
            .expire_after(Life)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    Counters::add(&evicted.evicted);
                }
            })
            .build();
        Self(Arc::new(Shared {
            kept,
            flights: Flights::new(),
            alone: moka::future::Cache::builder().max_capacity(ALONE_KEYS).time_to_live(ALONE).build(),
            ttl: config.ttl.get(),
            jitter: config.jitter,
            stale: config.stale_if_error.get(),
            negative: config.negative_ttl.map(|ttl| ttl.get()),
            own: own::is_own::<E>,
            counters,
        }))
    }

    /// Sets which failures are the caller's own: the callers that wait do not share them, and one of these fetches in its
    /// place. Call it before the cache is cloned.
    ///
    /// By default: a [`CallError`] whose [time was up](CallError::is_deadline_exceeded), a `tonic::Status` of
    /// DEADLINE_EXCEEDED or CANCELLED, tokio's `Elapsed`, a box with one of these inside, and any failure once the time of
    /// the request that the caller serves is up. An error type of the service's own that wraps one of them says so here.
    #[must_use]
    pub fn own_failures(mut self, own: fn(&E) -> bool) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.own = own;
        }
        self
    }

    /// The value of this key: the one that is kept, or what `fetch` brings.
    ///
    /// # Errors
    ///
    /// The fetch failed, this caller's or the one he waited for, and there is no old value that may still be served.
    pub async fn get<F, R>(&self, key: K, fetch: F) -> Result<Cached<V>, Failure<E>>
    where
        F: FnOnce() -> R,
        R: Future<Output = Result<V, E>>,
    {
        let span = self.span();
        self.plain(&key, || async move { fetch().await.map(|value| (value, span)) }).await
    }

    /// Keeps a value that is known from elsewhere. A fetch that is under way is not kept any more.
    pub async fn put(&self, key: K, value: V) {
        self.0.flights.overtake(&key);
        let times = Times::new(now(), self.span());
        let kept = Arc::new(Kept { value, times });
        self.0.kept.entry(key).and_compute_with(|_| ready(Op::Put(kept))).await;
    }

    /// Forgets a value; the next one who asks fetches, even if another fetch is under way.
    pub async fn forget(&self, key: &K) {
        self.0.flights.overtake(key);
        self.0.kept.entry_by_ref(key).and_compute_with(|_| ready(Op::Remove)).await;
    }

    /// What happened so far, and what is kept now.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.0.counters.read(self.0.kept.entry_count(), self.0.kept.weighted_size(), self.0.flights.count())
    }

    fn span(&self) -> Span {
        Span::around(self.0.ttl, self.0.jitter, self.0.stale, fastrand::f64())
    }

    async fn plain<F, R>(&self, key: &K, fetch: F) -> Result<Cached<V>, Failure<E>>
    where
        F: FnOnce() -> R,
        R: Future<Output = Result<(V, Span), E>>,
    {
        let fetch = || async move {
            match fetch().await {
                Ok((value, span)) => Fetched::Keep(value, span),
                Err(error) => Fetched::Failed(error),
            }
        };
        match self.run::<_, _, Infallible>(key, |_| true, fetch).await {
            Got::Kept(kept, stale) => Ok(Cached { kept, stale }),
            Got::Failed(error) => Err(Failure(error)),
            Got::Own(never) => match never {},
            Got::Alone(fetch) => match fetch().await {
                Fetched::Keep(value, span) => {
                    Ok(Cached { kept: Arc::new(Kept { value, times: Times::new(now(), span) }), stale: false })
                }
                Fetched::Failed(error) => Err(Failure(Arc::new(error))),
                Fetched::Own(never) => match never {},
            },
        }
    }

    /// `serves` says whether what is kept is an answer to this caller.
    async fn run<F, R, P>(&self, key: &K, serves: impl Fn(&Kept<V>) -> bool, fetch: F) -> Got<V, E, P, F>
    where
        F: FnOnce() -> R,
        R: Future<Output = Fetched<V, E, P>>,
    {
        let counters = &self.0.counters;
        loop {
            let old = match self.look(key, &serves).await {
                Ok(got) => return got,
                Err(old) => old,
            };
            if old.is_none() && self.is_alone(key).await {
                Counters::add(&counters.misses);
                return Got::Alone(fetch);
            }
            let mut landing = match self.0.flights.join(key) {
                // Another leader may have landed since the look.
                Part::Lead(lead) => match self.look(key, &serves).await {
                    Ok(got) => return got,
                    Err(old) => return self.lead(key, old, lead, fetch).await,
                },
                Part::Follow(landing) => landing,
            };
            drop(old);
            let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
            match landed {
                Some(Landing::Here(kept)) if serves(&kept) => {
                    Counters::add(&counters.shared);
                    return Got::Kept(kept, false);
                }
                Some(Landing::Stale(kept)) if serves(&kept) => {
                    Counters::add(&counters.stale);
                    return Got::Kept(kept, true);
                }
                Some(Landing::Failed(error)) => return Got::Failed(error),
                Some(Landing::Alone) => return Got::Alone(fetch),
                // It answers another question, or the leader went away. Whoever is quick leads.
                Some(Landing::Here(_) | Landing::Stale(_)) | None => {}
            }
        }
    }

    /// Whether what came for this key a moment ago was the leader's own.
    async fn is_alone(&self, key: &K) -> bool {
        self.0.alone.get(key).await.is_some_and(|since| now().saturating_duration_since(since) < ALONE)
    }

    /// What comes for this key may be shared again.
    async fn is_shared(&self, key: &K) {
        self.0.alone.invalidate(key).await;
    }

    /// What is kept, if it may be served as it is; what may be served when a fetch fails otherwise.
    async fn look<P, F>(
        &self,
        key: &K,
        serves: &impl Fn(&Kept<V>) -> bool,
    ) -> Result<Got<V, E, P, F>, Option<Arc<Kept<V>>>> {
        let Some(kept) = self.0.kept.get(key).await.filter(|kept| serves(kept)) else { return Err(None) };
        match kept.times.verdict(now()) {
            Verdict::Fresh => {
                Counters::add(&self.0.counters.hits);
                Ok(Got::Kept(kept, false))
            }
            Verdict::Held => {
                Counters::add(&self.0.counters.stale);
                Ok(Got::Kept(kept, true))
            }
            Verdict::Stale => Err(Some(kept)),
            Verdict::Gone => Err(None),
        }
    }

    async fn lead<F, R, P>(
        &self,
        key: &K,
        old: Option<Arc<Kept<V>>>,
        lead: Lead<'_, K, Landing<V, E>>,
        fetch: F,
    ) -> Got<V, E, P, F>
    where
        F: FnOnce() -> R,
        R: Future<Output = Fetched<V, E, P>>,
    {
        let counters = &self.0.counters;
        Counters::add(&counters.misses);
        match fetch().await {
            Fetched::Keep(value, span) => {
                let kept = Arc::new(Kept { value, times: Times::new(now(), span) });
                if !span.fresh.is_zero() {
                    // One after the other with `put` and `forget`, which overtake first: the last word is theirs.
                    let new = |_| ready(if lead.is_overtaken() { Op::Nop } else { Op::Put(Arc::clone(&kept)) });
                    self.0.kept.entry_by_ref(key).and_compute_with(new).await;
                }
                lead.land(Landing::Here(Arc::clone(&kept)));
                Got::Kept(kept, false)
            }
            Fetched::Failed(error) => {
                Counters::add(&counters.failures);
                let old = old.filter(|old| old.times.verdict(now()) != Verdict::Gone && !lead.is_overtaken());
                if let Some(old) = old {
                    old.times.hold(now());
                    Counters::add(&counters.stale);
                    lead.land(Landing::Stale(Arc::clone(&old)));
                    return Got::Kept(old, true);
                }
                let own = (self.0.own)(&error);
                let error = Arc::new(error);
                if !own {
                    lead.land(Landing::Failed(Arc::clone(&error)));
                }
                Got::Failed(error)
            }
            Fetched::Own(own) => {
                self.0.alone.insert(key.clone(), now()).await;
                lead.land(Landing::Alone);
                Got::Own(own)
            }
        }
    }
}

impl<K, T, E> Cache<K, Option<T>, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// As [`get`](Self::get); that there is none is kept for [`negative_ttl`](CacheConfig::negative_ttl), and not at all when
    /// that is unset.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_optional<F, R>(&self, key: K, fetch: F) -> Result<Cached<Option<T>>, Failure<E>>
    where
        F: FnOnce() -> R,
        R: Future<Output = Result<Option<T>, E>>,
    {
        let negative = self.0.negative.unwrap_or_default();
        let negative = Span::around(negative, self.0.jitter, Duration::ZERO, fastrand::f64());
        let span = self.span();
        let fetch = || async move {
            let value = fetch().await?;
            let span = if value.is_some() { span } else { negative };
            Ok((value, span))
        };
        self.plain(&key, fetch).await
    }
}

struct Life;

impl<K, V> moka::Expiry<K, Arc<Kept<V>>> for Life {
    fn expire_after_create(&self, _: &K, kept: &Arc<Kept<V>>, _: Instant) -> Option<Duration> {
        Some(kept.times.life())
    }

    fn expire_after_update(&self, _: &K, kept: &Arc<Kept<V>>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.times.life())
    }
}

impl<K, V, E> Clone for Cache<K, V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V, E> fmt::Debug for Cache<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("ttl", &self.0.ttl).field("stale_if_error", &self.0.stale).finish_non_exhaustive()
    }
}

/// A value out of a [`Cache`]. Cheap to clone.
pub struct Cached<V> {
    kept: Arc<Kept<V>>,
    stale: bool,
}

impl<V> Cached<V> {
    /// Whether it is an old value, served since a new one could not be had.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// How long ago it came.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.kept.times.age(now())
    }
}

impl<V> Deref for Cached<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.kept.value
    }
}

impl<V> Clone for Cached<V> {
    fn clone(&self) -> Self {
        Self { kept: Arc::clone(&self.kept), stale: self.stale }
    }
}

impl<V: fmt::Debug> fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("value", &**self).field("stale", &self.stale).finish_non_exhaustive()
    }
}

/// What a fetch failed with; all who waited for it have the same.
pub struct Failure<E>(Arc<E>);

impl<E> Deref for Failure<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0
    }
}

impl<E> Clone for Failure<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: fmt::Debug> fmt::Debug for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Error> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

// What the compiler says of a type that is no problem does not depend on a feature.
#[diagnostic::do_not_recommend]
impl IntoProblem for Failure<CallError> {
    fn into_problem(self) -> Problem {
        self.0.to_problem()
    }

    fn describe() -> Vec<ProblemInfo> {
        CallError::describe()
    }
}
