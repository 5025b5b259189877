//! The errors of a pool: no connection, and a limit of this side.

use std::{error::Error, fmt, sync::Arc};

use super::wire::Speech;
use crate::{config::ByteSize, error::BoxError};

/// No connection could be made: nothing was sent. All calls that waited for the same connection share it.
#[derive(Debug, Clone)]
pub(crate) struct NoConnection(Arc<dyn Error + Send + Sync>);

impl NoConnection {
    pub(crate) fn new(error: BoxError) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection")
    }
}

impl Error for NoConnection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// The answer is larger than this side takes: its endpoint has done its work.
#[derive(Debug)]
pub(crate) enum TooLarge {
    /// The head of an answer over HTTP/1.1.
    Head { headers: u32, size: ByteSize },
    /// The head of an answer over HTTP/2, where hyper does not tell a large head from a malformed one.
    Fields { size: ByteSize },
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head { headers, size } => write!(
                f,
                "the head of the answer has more than {headers} headers or {size} (pool.max_headers, pool.max_head_size)"
            ),
            Self::Fields { size } => {
                write!(f, "the head of the answer is larger than {size} (pool.max_head_size), or malformed")
            }
        }
    }
}

impl Error for TooLarge {}

/// The other end speaks another protocol than the settings say.
#[derive(Debug)]
pub(super) struct WrongProtocol {
    pub(super) other_end: String,
    pub(super) speech: Speech,
    pub(super) http2: bool,
    pub(super) tls: bool,
}

impl fmt::Display for WrongProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { other_end, speech, http2, tls } = self;
        let expected = if *http2 { "HTTP/2" } else { "HTTP/1.1" };
        match speech {
            Speech::Http1 => write!(
                f,
                "{other_end} speaks HTTP/1.1, expected {expected}; set the client's protocol = \"http1\", or for gRPC a port \
                 that speaks HTTP/2"
            ),
            Speech::Http2 { .. } => {
                write!(f, "{other_end} speaks HTTP/2, expected {expected}; set the client's protocol = \"http2\"")
            }
            Speech::Tls => {
                write!(
                    f,
                    "{other_end} speaks TLS, expected {expected} in cleartext; set the client's tls.enabled = true"
                )
            }
            Speech::Nothing if *tls => {
                write!(f, "{other_end} closed the connection before it said which protocol it speaks")
            }
            Speech::Nothing => write!(
                f,
                "{other_end} closed the connection before it said which protocol it speaks, expected {expected} in cleartext; \
                 it may want TLS (the client's tls.enabled) or another protocol (the client's protocol)"
            ),
            Speech::Unknown => {
                write!(f, "{other_end} speaks another protocol than {expected}; expected the port of an HTTP server")
            }
        }
    }
}

impl Error for WrongProtocol {}
