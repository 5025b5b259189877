//! From a response to what a method says it returns.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, response::Parts};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pin_project_lite::pin_project;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::{
    error::{CallError, Target, What},
    http::Transport,
    problem::{self, RemoteProblem},
};
use crate::{
    error::BoxError,
    media,
    // floor: a client's method returns what the service's handler returns
    service::{Accepted, Created, NoContent, Raw},
};

pub(super) const ACCEPT_JSON: &str = "application/json, application/problem+json";
const SUCCESS: &str = "a success (2xx)";

/// A type that a response can become. For a type of your own that is not JSON.
///
/// The return type of a client's method is looked up here first, then as `serde::Deserialize`.
#[diagnostic::on_unimplemented(
    message = "an answer cannot become `{Self}` with `answer`",
    label = "expected a `FromAnswer`",
    note = "of JSON, call `json` instead of `answer`, with `#[derive(serde::Deserialize)]` on `{Self}`; or write `impl chassis::client::FromAnswer for {Self}`"
)]
pub trait FromAnswer: Sized {
    /// What the request accepts. Default: anything.
    const ACCEPT: &'static str = "*/*";

    /// Whether the value goes on arriving after it is made. Its call's timeout then covers the time until the head of
    /// the answer only; the deadline of the request being served covers all of it. Default: no.
    const STREAMED: bool = false;

    /// The value.
    ///
    /// # Errors
    ///
    /// What [`Answer::success`] and the other methods of [`Answer`] fail with.
    fn from_answer(answer: Answer) -> impl Future<Output = Result<Self, CallError>> + Send;
}

/// The answer to a call, whose body has not been read.
#[derive(Debug)]
pub struct Answer {
    pub(super) parts: Parts,
    pub(super) body: Body,
    pub(super) target: Arc<Target>,
    /// When the whole answer must be there.
    pub(super) deadline: Option<Instant>,
    /// The most that is read of a body, in bytes.
    pub(super) limit: usize,
    pub(super) transport: Arc<dyn Transport>,
}

impl Answer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    fn error(&self, what: What) -> CallError {
        CallError::new(&self.target, what)
    }

    fn undecodable(&self, message: impl Into<String>) -> CallError {
        self.error(What::Undecodable { status: self.status(), message: message.into() })
    }

    /// The same answer, if its status is a success (2xx). A redirect is none: it is not followed.
    ///
    /// # Errors
    ///
    /// The problem in it, or that its status was not expected.
    pub async fn success(self) -> Result<Self, CallError> {
        if self.status().is_success() { Ok(self) } else { Err(self.into_error(SUCCESS).await) }
    }

    /// The same answer, if it has this status.
    async fn expect(self, status: StatusCode, expected: &'static str) -> Result<Self, CallError> {
        if self.status() == status { Ok(self) } else { Err(self.into_error(expected).await) }
    }

    /// What the answer of another status tells.
    async fn into_error(self, expected: &'static str) -> CallError {
        let (target, status, headers) = (Arc::clone(&self.target), self.status(), self.parts.headers.clone());
        let unexpected = What::Status { found: status, expected, retry_after: problem::retry_after(&headers) };
        if status.is_success() {
            return CallError::new(&target, unexpected);
        }
        match self.bytes().await {
            Ok(body) => match RemoteProblem::read(status, &headers, &body) {
                Some(problem) => CallError::new(&target, What::Problem(problem)),
                None => CallError::new(&target, unexpected),
            },
            // The status has come: it says more than that the rest of the answer has not.
            Err(_) => CallError::new(&target, unexpected),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// The time was up, the connection ended, or the body is larger than the client's limit.
    pub async fn bytes(self) -> Result<Bytes, CallError> {
        let Self { parts, body, target, deadline, limit, transport: _transport } = self;
        let status = parts.status;
        let error = |what| CallError::new(&target, what);
        if body.size_hint().lower() > limit as u64 {
            return Err(error(What::TooLarge { status, limit }));
        }
        let read = Limited::new(body, limit).collect();
        let read = match deadline {
            Some(deadline) => {
                let in_time = timeout_at(deadline, read).await;
                in_time.map_err(|_| error(What::DeadlineExceeded { sent: true, why: None }))?
            }
            None => read.await,
        };
        match read {
            Ok(body) => Ok(body.to_bytes()),
            Err(source) if source.is::<LengthLimitError>() => Err(error(What::TooLarge { status, limit })),
            Err(source) => Err(error(What::BrokenOff { status: Some(status), source })),
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), or the body is not JSON, or not of this shape; the message has the path of the field.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, CallError> {
        self.not_encoded()?;
        let (target, status) = (Arc::clone(&self.target), self.status());
        let content_type = self.headers().get(header::CONTENT_TYPE).cloned();
        if status != StatusCode::NO_CONTENT
            && !content_type.as_ref().is_some_and(|value| media::is_json(value.as_bytes()))
        {
            let found = content_type.map_or_else(|| "no content-type".to_owned(), |value| format!("{value:?}"));
            return Err(self.undecodable(format!("found {found}, expected application/json")));
        }
        let body = self.bytes().await?;
        let undecodable = |message| CallError::new(&target, What::Undecodable { status, message });
        if body.is_empty() {
            return Err(undecodable("the answer is empty, expected JSON".to_owned()));
        }
        // axum's reader keeps track of the path.
        match axum::Json::<T>::from_bytes(&body) {
            Ok(axum::Json(value)) => Ok(value),
            Err(rejection) => Err(undecodable(misfit(&rejection.body_text()))),
        }
    }

    /// Refuses a body with a content coding: this client asks for none and undoes none.
    fn not_encoded(&self) -> Result<(), CallError> {
        let coding = self.headers().get(header::CONTENT_ENCODING);
        match coding.filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            None => Ok(()),
            Some(coding) => Err(self.undecodable(format!(
                "found content-encoding {coding:?}, which this client has not asked for, expected none; a proxy between may \
                 have added it"
            ))),
        }
    }

    /// The response as it is, its body limited by the time of the call and nothing else. It may be of any status.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let Self { parts, body, target, deadline, transport, .. } = self;
        let body = TimedBody {
            inner: body,
            sleep: deadline.map(sleep_until).map(Box::pin),
            status: parts.status,
            target,
            _transport: transport,
        };
        Response::from_parts(parts, Body::new(body))
    }
}

/// axum's words are about a request.
fn misfit(text: &str) -> String {
    if let Some(text) = text.strip_prefix("Failed to deserialize the JSON body into the target type: ") {
        return format!("the answer does not fit: {text}");
    }
    let text = text.strip_prefix("Failed to parse the request body as JSON: ").unwrap_or(text);
    format!("the answer is not JSON: {text}")
}

pin_project! {
    /// A body that ends in an error when its call's time is up, and that keeps its connection's client alive.
    struct TimedBody {
        #[pin]
        inner: Body,
        sleep: Option<Pin<Box<Sleep>>>,
        status: StatusCode,
        target: Arc<Target>,
        _transport: Arc<dyn Transport>,
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|source| {
                    let source = source.into();
                    CallError::new(this.target, What::BrokenOff { status: Some(*this.status), source }).into()
                })
            }));
        }
        let Some(sleep) = this.sleep else { return Poll::Pending };
        ready!(sleep.as_mut().poll(cx));
        *this.sleep = None;
        Poll::Ready(Some(Err(CallError::new(this.target, What::DeadlineExceeded { sent: true, why: None }).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Any success; what is in the body does not matter.
impl FromAnswer for () {
    const ACCEPT: &'static str = ACCEPT_JSON;

    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        // Read to its end, so that the connection can be used again.
        answer.success().await?.bytes().await.map(drop)
    }
}

/// 204 and no other success.
impl FromAnswer for NoContent {
    const ACCEPT: &'static str = ACCEPT_JSON;

    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        answer.expect(StatusCode::NO_CONTENT, "204").await.map(|_| Self)
    }
}

/// 201 and no other success, with the address that the service told.
impl<T: DeserializeOwned> FromAnswer for Created<T> {
    const ACCEPT: &'static str = ACCEPT_JSON;

    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        let answer = answer.expect(StatusCode::CREATED, "201").await?;
        let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let location = location.map(str::to_owned);
        Ok(Self { value: answer.json().await?, location })
    }
}

/// 202 and no other success.
impl<T: DeserializeOwned> FromAnswer for Accepted<T> {
    const ACCEPT: &'static str = ACCEPT_JSON;

    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        answer.expect(StatusCode::ACCEPTED, "202").await?.json().await.map(Self)
    }
}

/// The body of a success, whatever it is.
impl FromAnswer for Raw<Bytes> {
    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        answer.success().await?.bytes().await.map(Self)
    }
}

/// The body of a success as text.
impl FromAnswer for Raw<String> {
    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        let answer = answer.success().await?;
        answer.not_encoded()?;
        let (target, status) = (Arc::clone(&answer.target), answer.status());
        let body = answer.bytes().await?;
        String::from_utf8(body.into()).map(Self).map_err(|error| {
            let message = format!("the answer is not text in UTF-8: {}", error.utf8_error());
            CallError::new(&target, What::Undecodable { status, message })
        })
    }
}

/// The whole response, of any status.
impl FromAnswer for Response<Bytes> {
    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        let head = Response::from_parts(answer.parts.clone(), ());
        let body = answer.bytes().await?;
        Ok(head.map(|()| body))
    }
}

/// The response of any status, with its body still to come.
impl FromAnswer for Response<Body> {
    const STREAMED: bool = true;

    async fn from_answer(answer: Answer) -> Result<Self, CallError> {
        Ok(answer.into_response())
    }
}
