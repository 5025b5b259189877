//! Ends an HTTP/1.1 connection behind a request whose length was said in two ways.
//!
//! A request with `transfer-encoding` and `content-length` is how a front and a back are made to disagree on where it ends,
//! so that its tail is taken for a request of somebody else. hyper reads it by its `transfer-encoding` and forgets that
//! there was a `content-length`; the connection must then be closed behind the answer (RFC 9112, section 6.3), which hyper
//! leaves to us. The socket remembers whether the head was read whole and without a `content-length`; only then is a chunked
//! request followed by another on the same connection.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{
    HeaderValue, Request, Response,
    header::{CONNECTION, TRANSFER_ENCODING},
};
use hyper::{body::Incoming, service::Service as HyperService};
use memchr::memchr_iter;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::observe::connection::Connection;

const CONTENT_LENGTH: &[u8] = b"content-length";

/// Whether a header line `content-length` may be among these bytes.
pub(super) fn says_content_length(bytes: &[u8]) -> bool {
    memchr_iter(b':', bytes).any(|colon| {
        let name = colon.checked_sub(CONTENT_LENGTH.len()).map(|start| &bytes[start..colon]);
        name.is_some_and(|name| name.eq_ignore_ascii_case(CONTENT_LENGTH))
    })
}

/// The service of one HTTP/1.1 connection.
pub(super) struct Framed<S> {
    pub(super) service: S,
    pub(super) connection: Arc<Connection>,
}

impl<S, B> HyperService<Request<Incoming>> for Framed<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let plain = self.connection.take_plain_head();
        let close = !plain && request.headers().contains_key(TRANSFER_ENCODING);
        ResponseFuture { inner: self.service.clone().call(request), close }
    }
}

pin_project! {
    pub(super) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        close: bool,
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        if *this.close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_is_found_in_any_case_and_nowhere_else() {
        for (head, expected) in [
            (&b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"[..], true),
            (b"POST / HTTP/1.1\r\nCONTENT-length:3\r\n\r\n", true),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            (b":", false),
            (b"", false),
        ] {
            assert_eq!(says_content_length(head), expected, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn a_head_in_pieces_or_behind_another_is_not_plain() {
        let connection = Connection::new(None);
        connection.read(|| false);
        assert!(connection.take_plain_head());
        assert!(!connection.take_plain_head(), "pipelined: the bytes were another request's too");
        connection.read(|| false);
        connection.read(|| false);
        assert!(!connection.take_plain_head(), "in two pieces");
        connection.read(|| true);
        assert!(!connection.take_plain_head(), "with a content-length");
        connection.begin_request();
        connection.read(|| false);
        connection.end_request();
        connection.read(|| false);
        assert!(connection.take_plain_head(), "what is read during a request is its body");
    }
}
