//! One call: what is asked, and how it is sent.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span};

use super::{
    Client,
    answer::{ACCEPT_JSON, Answer, FromAnswer},
    balance::Tried,
    body::RequestBody,
    error::{CallError, Target, What},
    facts::Facts,
    observe::CallNote,
    path, plain,
    propagate::Propagated,
    query,
};
use crate::{
    context::{Protocol, RequestContext},
    deadline::TIMEOUT_HEADER, // floor: one name of the header for both ends
};

/// The longest time that the header can say: ten digits of milliseconds, 115 days.
const MAX_ANNOUNCED_MILLIS: u128 = 9_999_999_999;

/// Room for the headers of a call: what is written here, what the layers add (trace context, baggage, priority, caller,
/// user agent, time left, attempt), and a few of the caller's own. Made at once, for a map that grows is allocated anew.
const HEADERS: usize = 16;

/// What is known of a call beyond its request; in the request's extensions, for the layers of a transport.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallInfo {
    /// The path template: `/orders/{id}`. Empty for gRPC, where the path is the same for all calls of a method.
    pub template: Cow<'static, str>,
    /// Whether the call may be sent twice: by its method, or because it was declared so.
    pub idempotent: bool,
    /// When the head of the answer must be there; the call is given up then.
    pub deadline: Option<Instant>,
    /// How the other end is spoken to.
    pub protocol: Protocol,
    pub(super) passage: Passage,
}

/// What the layers of a stack tell each other of a call. In the same place as what is known of it: each entry of a request's
/// extensions costs two allocations, two more for each copy of the request, and a look-up for each layer that reads it.
#[derive(Debug, Clone, Default)]
pub(super) struct Passage {
    /// The answer may outlive the time until its head, so that its service must not be told of that.
    pub(super) streamed: bool,
    /// Its service must not be told how much time is left.
    pub(super) hides_time: bool,
    /// A layer outside wakes the task at the call's deadline.
    pub(super) timed: bool,
    /// What the observer's layers share.
    pub(super) note: Option<CallNote>,
    /// The endpoints that the attempts of the call were sent to.
    pub(super) tried: Option<Tried>,
    pub(super) departure: Departure,
}

/// Tells when a request has been written to a connection: it is dropped then, and this with it.
#[derive(Debug, Default)]
pub(super) struct Departure {
    gone: Option<Arc<AtomicBool>>,
    /// What is handed to a connection counts as gone, until it comes back.
    at_once: bool,
}

impl Departure {
    /// To be put into a request; it tells by this.
    pub(super) fn telling(gone: &Arc<AtomicBool>) -> Self {
        Self { gone: Some(Arc::clone(gone)), at_once: false }
    }

    /// The same, as soon as the request is handed to a connection.
    pub(super) fn telling_at_once(gone: &Arc<AtomicBool>) -> Self {
        Self { gone: Some(Arc::clone(gone)), at_once: true }
    }

    /// The request is handed to a connection, or has come back from it unread.
    pub(super) fn handed(&self, over: bool) {
        if let Some(gone) = self.gone.as_ref().filter(|_| self.at_once) {
            gone.store(over, Relaxed);
        }
    }
}

/// A copy of a request goes a way of its own.
impl Clone for Departure {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        if let Some(gone) = &self.gone {
            gone.store(true, Relaxed);
        }
    }
}

impl CallInfo {
    pub(super) fn new(
        template: impl Into<Cow<'static, str>>,
        idempotent: bool,
        deadline: Option<Instant>,
        protocol: Protocol,
    ) -> Self {
        Self { template: template.into(), idempotent, deadline, protocol, passage: Passage::default() }
    }

    /// Looks at that of the request, which is made from the request itself when nobody has put one there, as when a layer is
    /// used alone.
    pub(crate) fn with<B, T>(request: &mut Request<B>, look: impl FnOnce(&mut Self) -> T) -> T {
        // Out of the request meanwhile, so that one look-up does for both cases.
        let mut extensions = std::mem::take(request.extensions_mut());
        let seen = look(extensions.get_or_insert_with(|| {
            let Facts { idempotent, deadline, protocol, .. } = Facts::of(request);
            Self::new("", idempotent, deadline, protocol)
        }));
        *request.extensions_mut() = extensions;
        seen
    }

    /// Its service is not told how much time is left.
    pub(crate) fn hide_time(&mut self) {
        self.passage.hides_time = true;
    }

    /// The endpoints that its attempts were sent to.
    pub(super) fn tried(&self) -> Option<&Tried> {
        self.passage.tried.as_ref()
    }

    /// Its attempts go to different endpoints, as long as there are others.
    pub(crate) fn remember_tried(&mut self) {
        self.passage.tried.get_or_insert_with(Tried::new);
    }
}

/// Which attempt of its call a request is; in the request's extensions, put there by retries and hedges. Absent, it is the
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// How many attempts were made before.
    pub previous: u32,
    /// Whether another attempt is still under way.
    pub hedge: bool,
}

/// One call, made by [`Client::call`]: its arguments, then [`json`](Self::json) or [`answer`](Self::answer) to send it.
///
/// An argument that cannot be written is told when the call is sent, so that the arguments can be given in a row.
#[derive(Debug)]
#[must_use = "`json` or `answer` sends the call"]
pub struct Call {
    client: Client,
    method: Method,
    template: Cow<'static, str>,
    parameters: Vec<(Cow<'static, str>, String)>,
    query: String,
    body: Option<Bytes>,
    headers: HeaderMap,
    timeout: Option<Duration>,
    idempotent: bool,
    /// The request being served where the call was made.
    context: Option<RequestContext>,
    /// The first argument that could not be written.
    mistake: Option<String>,
}

impl Call {
    pub(super) fn new(client: Client, method: Method, template: Cow<'static, str>) -> Self {
        Self {
            client,
            method,
            template,
            parameters: Vec::new(),
            query: String::new(),
            body: None,
            headers: HeaderMap::new(),
            timeout: None,
            idempotent: false,
            context: RequestContext::current(),
            mistake: None,
        }
    }

    fn mistaken(mut self, message: String) -> Self {
        self.mistake.get_or_insert(message);
        self
    }

    /// A parameter of the path. It becomes one segment, percent-encoded; of `{*rest}`, the segments between its slashes.
    ///
    /// The value is a text, a number, a boolean, a unit variant, or a newtype of one. An empty text, `.` and `..` are
    /// refused: as segments they lead to another path.
    pub fn path<T: Serialize + ?Sized>(mut self, name: impl Into<Cow<'static, str>>, value: &T) -> Self {
        let name = name.into();
        match path::text(value) {
            Ok(text) => {
                self.parameters.push((name, text));
                self
            }
            Err(error) => self.mistaken(format!("path parameter {name:?}: {error}")),
        }
    }

    /// The query: a struct or a map, each field a parameter; or a list of names with values. `None` is left out,
    /// and a list repeats its name. A second query is added to the first.
    pub fn query<T: Serialize + ?Sized>(mut self, query: &T) -> Self {
        match query::text(query) {
            Ok(text) => {
                if !self.query.is_empty() && !text.is_empty() {
                    self.query.push('&');
                }
                self.query.push_str(&text);
                self
            }
            Err(error) => self.mistaken(format!("the query cannot be written: {error}")),
        }
    }

    /// The JSON body.
    pub fn body<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => {
                self.body = Some(bytes.into());
                self
            }
            Err(error) => self.mistaken(format!("the body cannot be written as JSON: {error}")),
        }
    }

    /// A header. It takes the place of one that the chassis would send, `accept` for instance.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// How long the call may take, its answer included. Default: the client's. What is left of the time of the request
    /// being served limits it further.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A second request with the same content does no harm, although the method does not say so.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sends the call; the answer is JSON with any status of success.
    ///
    /// # Errors
    ///
    /// See [`CallErrorKind`](super::CallErrorKind).
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, CallError> {
        self.send(ACCEPT_JSON, false).await?.success().await?.json().await
    }

    /// Sends the call; the answer is what the type says: [`Created`](crate::service::Created),
    /// [`Accepted`](crate::service::Accepted), [`NoContent`](crate::service::NoContent), `()`,
    /// [`Raw`](crate::service::Raw), `http::Response`.
    ///
    /// # Errors
    ///
    /// See [`CallErrorKind`](super::CallErrorKind).
    pub async fn answer<T: FromAnswer>(self) -> Result<T, CallError> {
        T::from_answer(self.send(T::ACCEPT, T::STREAMED).await?).await
    }

    async fn send(mut self, accept: &'static str, streamed: bool) -> Result<Answer, CallError> {
        let (uri, target) = self.address();
        let uri = match self.mistake.take().map_or(uri, Err) {
            Ok(uri) => uri,
            Err(message) => return Err(CallError::new(&target, What::InvalidArgument(message))),
        };
        let context = self.context.take().or_else(RequestContext::current);
        let inherited = context.as_ref().and_then(RequestContext::deadline).map(Instant::from_std);
        let time = Time::new(self.timeout.unwrap_or_else(|| self.client.timeout()), inherited, streamed);
        let now = Instant::now();
        let layered = self.client.0.transport.writes_context();
        let propagation = self.client.propagation();
        let (announced, deadline) = match time.announced(now) {
            Ok(announced) => (announced, time.head),
            // The layers refuse it, and count it.
            Err(Over) if layered => (None, Some(now)),
            Err(Over) => return Err(CallError::new(&target, What::DeadlineExceeded { sent: false, why: None })),
        };

        let mut request = Request::new(RequestBody::default());
        let headers = request.headers_mut();
        *headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if self.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // A layer that says what is left says it of each attempt, but not of what is streamed.
        if let Some(millis) = announced.filter(|_| propagation.has(Propagated::Deadline) && (!layered || streamed)) {
            headers.insert(TIMEOUT_HEADER, HeaderValue::from(millis));
        }
        let span = context.as_ref().filter(|_| !layered).map_or_else(Span::none, |context| {
            let span = plain::span(context, &self.method, &self.template, &uri);
            plain::inject(context, &span, propagation, headers);
            span
        });
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some(body) = self.body {
            *request.body_mut() = RequestBody::from(body);
        }
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        let idempotent = target.idempotent;
        let mut info = CallInfo::new(self.template, idempotent, deadline, Protocol::Http);
        info.passage.streamed = streamed && layered;
        request.extensions_mut().insert(info);
        if layered {
            // The layers find the request that is being served by themselves, unless this call belongs to another.
            let is_current = |context: &RequestContext| {
                RequestContext::with_current(|current| {
                    current.is_some_and(|current| Arc::ptr_eq(&current.0, &context.0))
                })
            };
            if let Some(context) = context.filter(|context| !is_current(context)) {
                request.extensions_mut().insert(context);
            }
        }

        let transport = Arc::clone(&self.client.0.transport);
        let sent = transport.send(request).instrument(span);
        let response = match time.head.filter(|_| !layered) {
            Some(head) => timeout_at(head, sent)
                .await
                .map_err(|_| CallError::new(&target, What::DeadlineExceeded { sent: true, why: None }))?,
            None => sent.await,
        };
        let (parts, body) = response.map_err(|error| CallError::of_transport(&target, error))?.into_parts();
        Ok(Answer { parts, body, target, deadline: time.whole, limit: self.client.0.answer_limit, transport })
    }

    /// Where the call goes, and its name in errors.
    fn address(&self) -> (Result<Uri, String>, Arc<Target>) {
        let base = &self.client.0.base;
        let path = match &*self.template {
            "" => Ok(String::new()),
            template => path::fill(template, &self.parameters),
        };
        let target = |path: &str| {
            let idempotent = self.idempotent || self.method.is_idempotent();
            let path = if path.is_empty() { base.path.clone() } else { format!("{}{path}", base.prefix) };
            let uri = format!("{}://{}{path}", base.scheme(), base.authority);
            Arc::new(Target { method: self.method.clone(), uri, idempotent })
        };
        let path = match path {
            Ok(path) => path,
            Err(message) => return (Err(message), target(&self.template)),
        };
        // Without a template the address's own path is meant, as it was written.
        let whole = if path.is_empty() { base.path.clone() } else { format!("{}{path}", base.prefix) };
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let uri = Uri::builder()
            .scheme(base.scheme())
            .authority(base.authority.clone())
            .path_and_query(format!("{whole}{query}"))
            .build();
        (uri.map_err(|error| format!("the path {path:?} cannot be sent: {error}")), target(&path))
    }
}

/// When a call must be where.
struct Time {
    /// When the head of the answer must be there.
    head: Option<Instant>,
    /// When all of the answer must be there.
    whole: Option<Instant>,
}

impl Time {
    /// A streamed answer may outlive the call's own timeout, not the request that it is for.
    fn new(own: Duration, inherited: Option<Instant>, streamed: bool) -> Self {
        // A time beyond what the clock can say is no limit.
        let own = Instant::now().checked_add(own);
        let head = own.into_iter().chain(inherited).min();
        Self { head, whole: if streamed { inherited } else { head } }
    }

    /// The milliseconds that the service is told it has. An error when they are over: nobody would wait for the answer.
    fn announced(&self, now: Instant) -> Result<Option<u64>, Over> {
        let left = |at: Instant| match at.saturating_duration_since(now).as_millis() {
            0 => Err(Over),
            millis => Ok(u64::try_from(millis.min(MAX_ANNOUNCED_MILLIS)).unwrap_or(u64::MAX)),
        };
        self.head.map(left).transpose()?;
        self.whole.map(left).transpose()
    }
}

/// No time is left.
struct Over;
