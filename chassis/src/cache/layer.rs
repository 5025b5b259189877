//! The cache as a layer of a client.

use std::{
    error::Error,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{AGE, HOST},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Cache, CacheConfig, CacheStats, Fetched, Got, Kept,
    directives::{fits, lifetime, may_share, varies},
    own::is_late,
    state::Span,
};
use crate::{
    config::ByteSize,
    error::{BoxError, chain},
};

/// Tells where an answer comes from (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Answers of a size in all. Chosen: noticed in a container of 512 MiB, and no danger to it.
const DEFAULT_SIZE: ByteSize = ByteSize::mib(64);
/// The largest answer that is kept. Chosen: more is streamed, and no cache of small answers should end for one large one.
const DEFAULT_LARGEST: ByteSize = ByteSize::mib(1);
/// What an answer takes beside its headers and its body, about.
const OVERHEAD: usize = 512;

/// Keeps the answers of GET requests, as far as they allow it, for all who call through it.
///
/// What `Cache-Control`, `Expires`, `Age` and `Vary` say holds, as for a shared cache (RFC 9111): `no-store`, `no-cache` and
/// `private` answers are not kept, nor are those with a cookie, and requests with credentials, cookies, a range or a condition
/// pass by. An answer that says nothing is fresh for [`ttl`](CacheConfig::ttl), one that says 404 or 410 for
/// [`negative_ttl`](CacheConfig::negative_ttl). Of answers that vary by a header of the request, the last one is kept. A
/// request of another method that succeeds takes the answer of its URI out. While the answers of a URI are not to be kept,
/// nobody waits for another's.
///
/// An answer with 500, 502, 503 or 504, and a call without an answer, is a failure: the old answer is served for
/// [`stale_if_error`](CacheConfig::stale_if_error) unless it says `must-revalidate`, or less when it says so. All who wait for
/// the same answer get the failure otherwise.
///
/// An answer out of the cache has `age` and `cache-status: chassis; hit` (RFC 9211); an old one
/// `cache-status: chassis; hit; detail=stale-if-error`.
#[derive(Debug, Clone)]
pub struct CacheLayer {
    config: CacheConfig,
    size: ByteSize,
    largest: ByteSize,
}

impl CacheLayer {
    /// A cache of 64 MiB, with no answer over 1 MiB. [`entries`](CacheConfig::entries) does not count.
    #[must_use]
    pub fn new(config: &CacheConfig) -> Self {
        Self { config: config.clone(), size: DEFAULT_SIZE, largest: DEFAULT_LARGEST }
    }

    /// How much is kept in all.
    #[must_use]
    pub fn size(mut self, size: ByteSize) -> Self {
        self.size = size;
        self
    }

    /// The largest body that is kept.
    #[must_use]
    pub fn largest(mut self, largest: ByteSize) -> Self {
        self.largest = largest;
        self
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    /// A cache of its own for each service.
    fn layer(&self, inner: S) -> CacheService<S> {
        let weigh = |uri: &Uri, answer: &Answer| u32::try_from(answer.weight(uri)).unwrap_or(u32::MAX);
        let size = u64::try_from(self.size.bytes()).unwrap_or(u64::MAX);
        let cache = Cache::sized(&self.config, size, weigh).own_failures(Failed::is_own);
        CacheService { inner, cache, config: Arc::new(self.config.clone()), largest: self.largest.bytes() }
    }
}

/// The service of a [`CacheLayer`]. Clones share what is kept.
#[derive(Clone)]
pub struct CacheService<S> {
    inner: S,
    cache: Cache<Uri, Answer, Failed>,
    config: Arc<CacheConfig>,
    largest: usize,
}

impl<S> CacheService<S> {
    /// What happened so far, and what is kept now.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }
}

impl<S> fmt::Debug for CacheService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// An answer that is kept.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    varies: Vec<(HeaderName, Vec<HeaderValue>)>,
}

impl Answer {
    fn weight(&self, uri: &Uri) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        OVERHEAD + uri.path().len() + uri.query().map_or(0, str::len) + headers + self.body.len()
    }

    fn response<B>(&self) -> Response<CachedBody<B>> {
        let mut response = Response::new(CachedBody(Inner::Kept(Some(self.body.clone()))));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

/// Why a fetch failed.
enum Failed {
    Error(BoxError),
    /// With an answer.
    Answer(Answer),
}

impl Failed {
    /// One whose time was up tells nothing to those who have more.
    fn is_own(&self) -> bool {
        match self {
            Self::Error(error) => is_late(&**error),
            // The time that the service was told is the leader's.
            Self::Answer(answer) => answer.status == StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// A failure that several callers have. What the transport said is its source.
struct SharedFailure(Arc<Failed>);

impl fmt::Display for SharedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Failed::Error(error) => write!(f, "the call that several waited for has failed: {}", chain(&**error)),
            Failed::Answer(answer) => write!(f, "the call that several waited for was answered {}", answer.status),
        }
    }
}

impl fmt::Debug for SharedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Failed::Error(error) => fmt::Debug::fmt(error, f),
            Failed::Answer(answer) => fmt::Debug::fmt(&answer.status, f),
        }
    }
}

impl Error for SharedFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.0 {
            Failed::Error(error) => Some(&**error),
            Failed::Answer(_) => None,
        }
    }
}

impl<S, R, B> Service<Request<R>> for CacheService<S>
where
    S: Service<Request<R>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    R: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<CachedBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        // The one that was waited for is the one that is called.
        let next = self.inner.clone();
        let inner = mem::replace(&mut self.inner, next);
        let (cache, config, largest) = (self.cache.clone(), Arc::clone(&self.config), self.largest);
        if may_share(&request) {
            Box::pin(get(inner, cache, config, largest, request))
        } else {
            Box::pin(pass(inner, cache, request))
        }
    }
}

/// A request that the cache has no part in, but that may make what it keeps untrue.
async fn pass<S, R, B>(
    mut inner: S,
    cache: Cache<Uri, Answer, Failed>,
    request: Request<R>,
) -> Result<Response<CachedBody<B>>, BoxError>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    let safe = request.method().is_safe() || request.method() == Method::TRACE;
    let changed = (!safe).then(|| request.uri().clone());
    let response = inner.call(request).await.map_err(Into::into)?;
    if let Some(uri) = changed.filter(|_| response.status().is_success() || response.status().is_redirection()) {
        cache.forget(&uri).await;
    }
    Ok(response.map(CachedBody::passed))
}

async fn get<S, R, B>(
    mut inner: S,
    cache: Cache<Uri, Answer, Failed>,
    config: Arc<CacheConfig>,
    largest: usize,
    request: Request<R>,
) -> Result<Response<CachedBody<B>>, BoxError>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let uri = request.uri().clone();
    // A `Host` of its own is another resource under the same URI.
    if request.headers().contains_key(HOST) && uri.authority().is_none() {
        return pass(inner, cache, request).await;
    }
    let headers = request.headers().clone();
    let serves = |kept: &Kept<Answer>| fits(&kept.value.varies, &headers);
    let fetch = || fetch(inner.call(request), &config, largest, &headers);
    match cache.run(&uri, serves, fetch).await {
        Got::Kept(kept, stale) => {
            let mut response = kept.value.response();
            mark(response.headers_mut(), kept.times.age(super::now()), stale);
            Ok(response)
        }
        Got::Own(response) => Ok(response),
        Got::Failed(failed) => match &*failed {
            Failed::Answer(answer) => Ok(answer.response()),
            Failed::Error(_) => Err(SharedFailure(failed).into()),
        },
        Got::Alone(fetch) => match fetch().await {
            Fetched::Keep(answer, _) => {
                // Not kept: a change meanwhile would not be noticed. The next one who asks leads.
                cache.is_shared(&uri).await;
                Ok(answer.response())
            }
            Fetched::Failed(Failed::Answer(answer)) => Ok(answer.response()),
            Fetched::Failed(Failed::Error(error)) => Err(error),
            Fetched::Own(response) => Ok(response),
        },
    }
}

/// Calls, and judges what comes.
async fn fetch<B, E>(
    call: impl Future<Output = Result<Response<B>, E>>,
    config: &CacheConfig,
    largest: usize,
    request: &HeaderMap,
) -> Fetched<Answer, Failed, Response<CachedBody<B>>>
where
    E: Into<BoxError>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let response = match call.await {
        Ok(response) => response,
        Err(error) => return Fetched::Failed(Failed::Error(error.into())),
    };
    let span = span(&response, config);
    let failed = is_failure(response.status());
    if span.is_none() && !failed {
        return Fetched::Own(response.map(CachedBody::passed));
    }
    let (head, body) = response.into_parts();
    let body = match collect(body, largest).await {
        Ok(Collected::Whole(body)) => body,
        Ok(Collected::More(body)) => return Fetched::Own(Response::from_parts(head, body)),
        Err(error) => return Fetched::Failed(Failed::Error(error)),
    };
    let answer = Answer { status: head.status, varies: varies(&head.headers, request), headers: head.headers, body };
    match span {
        Some(span) if !failed => Fetched::Keep(answer, span),
        _ => Fetched::Failed(Failed::Answer(answer)),
    }
}

/// What counts as an error for an old answer to be served (RFC 5861, section 4).
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

fn span<B>(response: &Response<B>, config: &CacheConfig) -> Option<Span> {
    let lifetime = lifetime(response.status(), response.headers(), SystemTime::now())?;
    let longest = config.stale_if_error.get();
    let stale = lifetime.stale.map_or(longest, |stale| stale.min(longest));
    let random = fastrand::f64();
    let negative = !response.status().is_success();
    let span = match (lifetime.fresh, negative) {
        (Some(fresh), _) => Span::within(fresh, config.jitter, stale, random),
        (None, false) => Span::around(config.ttl.get(), config.jitter, stale, random),
        (None, true) => Span::around(config.negative_ttl?.get(), config.jitter, Duration::ZERO, random),
    };
    (span.fresh > Duration::ZERO).then_some(span)
}

fn mark(headers: &mut HeaderMap, age: Duration, stale: bool) {
    // It was that old already when it came.
    let before: u64 = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    headers.insert(AGE, HeaderValue::from(age.as_secs().saturating_add(before)));
    let status = if stale { "chassis; hit; detail=stale-if-error" } else { "chassis; hit" };
    headers.append(CACHE_STATUS, HeaderValue::from_static(status));
}

enum Collected<B> {
    Whole(Bytes),
    /// Too large, or with trailers: what was read, and the rest.
    More(CachedBody<B>),
}

async fn collect<B>(mut body: B, largest: usize) -> Result<Collected<B>, BoxError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > largest as u64 {
        return Ok(Collected::More(CachedBody::passed(body)));
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame.map_err(Into::into)?.into_data() {
            Ok(data) => read.extend_from_slice(&data),
            Err(trailers) => return Ok(Collected::More(CachedBody::resumed(read, Some(trailers), body))),
        }
        if read.len() > largest {
            return Ok(Collected::More(CachedBody::resumed(read, None, body)));
        }
    }
    Ok(Collected::Whole(read.freeze()))
}

/// The body of an answer that came through a cache.
pub struct CachedBody<B>(Inner<B>);

enum Inner<B> {
    Kept(Option<Bytes>),
    /// What was read of it already, and the rest.
    Passed {
        read: Option<Bytes>,
        next: Option<Frame<Bytes>>,
        rest: B,
    },
}

impl<B> CachedBody<B> {
    fn passed(body: B) -> Self {
        Self(Inner::Passed { read: None, next: None, rest: body })
    }

    fn resumed(read: BytesMut, next: Option<Frame<Bytes>>, rest: B) -> Self {
        Self(Inner::Passed { read: Some(read.freeze()).filter(|read| !read.is_empty()), next, rest })
    }
}

impl<B> Body for CachedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Inner::Kept(body) => {
                Poll::Ready(body.take().filter(|body| !body.is_empty()).map(|body| Ok(Frame::data(body))))
            }
            Inner::Passed { read, next, rest } => match read.take().map(Frame::data).or_else(|| next.take()) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Pin::new(rest).poll_frame(context).map_err(Into::into),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Kept(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Inner::Passed { read, next, rest } => read.is_none() && next.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Kept(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Passed { read: None, next: None, rest } => rest.size_hint(),
            Inner::Passed { .. } => SizeHint::new(),
        }
    }
}

impl<B> fmt::Debug for CachedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachedBody")
    }
}
