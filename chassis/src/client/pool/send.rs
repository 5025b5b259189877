//! One request on a connection.

use std::sync::Arc;

use http::{Request, Response, Uri, Version, header, uri::Parts};
use tokio_util::either::Either;

use super::{
    Inner, Pool,
    body::PoolBody,
    connections::{Connections, Held},
    error::{NoConnection, TooLarge},
    linger::Patience,
    wire::{Heard, Speech},
};
use crate::{
    client::{body::RequestBody, call::CallInfo, deadline::announce_left, facts::Facts},
    error::BoxError,
};

/// Sends a request, again on another connection when a kept one hands it back unread.
pub(super) async fn send(
    pool: Pool,
    connections: Arc<Connections>,
    mut request: Request<RequestBody>,
    facts: Facts,
    patience: Option<Patience>,
) -> Result<Response<PoolBody>, BoxError> {
    pool.0.address(&mut request, connections.http2);
    loop {
        let mut lease = connections.lease().await?;
        // The last moment: what earlier attempts and waits took is gone.
        announce_left(request.headers_mut(), &facts)?;
        let kept = lease.kept;
        handed(&request, patience.as_ref(), true);
        let (sent, info, heard) = match lease.take() {
            Some(Held::Http1(idle)) => {
                let (info, heard) = (idle.info.clone(), Some(Arc::clone(&idle.heard)));
                (Either::Left(idle.send(request)), info, heard)
            }
            Some(Held::Http2(shared)) => match shared.send(request) {
                Ok(sent) => (Either::Right(sent), shared.info.clone(), None),
                Err(unread) => {
                    request = *unread;
                    handed(&request, patience.as_ref(), false);
                    continue;
                }
            },
            None => return Err(NoConnection::new("a lease without a connection".into()).into()),
        };
        match sent.await {
            Ok(mut response) => {
                if let Some(info) = info {
                    response.extensions_mut().insert(info);
                }
                let patience = patience.filter(Patience::covers_the_answer);
                return Ok(response.map(|body| PoolBody::new(body, lease, pool, patience)));
            }
            Err(mut error) => match error.take_message() {
                // Nothing of it was written: it was not sent.
                Some(unread) if kept => {
                    request = unread;
                    handed(&request, patience.as_ref(), false);
                }
                _ => return Err(explained(error.into_error(), &connections, heard.as_deref())),
            },
        }
    }
}

impl Inner {
    /// Writes where a request goes.
    fn address(&self, request: &mut Request<RequestBody>, http2: bool) {
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            if let Some(named) = &self.named {
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.authority = Some(named.clone());
                // As whole as it was.
                *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            }
            return;
        }
        *request.version_mut() = Version::HTTP_11;
        if let Some(host) = &self.host {
            request.headers_mut().entry(header::HOST).or_insert_with(|| host.clone());
        }
        // The origin form (RFC 9112, section 3.2.1).
        let mut parts = Parts::default();
        parts.path_and_query = std::mem::take(request.uri_mut()).into_parts().path_and_query;
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// The request is handed to a connection, or has come back from it unread.
fn handed(request: &Request<RequestBody>, patience: Option<&Patience>, over: bool) {
    if let Some(info) = request.extensions().get::<CallInfo>() {
        info.passage.departure.handed(over);
    }
    if let Some(patience) = patience {
        patience.sent(over);
    }
}

/// What hyper says, in the terms of the settings where they are the reason.
fn explained(error: hyper::Error, connections: &Connections, heard: Option<&Heard>) -> BoxError {
    let config = &connections.pools.config;
    let (headers, size) = (config.max_headers, config.max_head_size);
    if error.is_parse_too_large() {
        return TooLarge::Head { headers, size }.into();
    }
    let h2 = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<h2::Error>());
    if h2.is_some_and(|h2| h2.is_reset() && h2.is_library() && h2.reason() == Some(h2::Reason::PROTOCOL_ERROR)) {
        return TooLarge::Fields { size }.into();
    }
    match heard.and_then(Heard::get) {
        // No server of these acts upon a request in HTTP/1.1.
        Some(speech @ (Speech::Http2 { .. } | Speech::Tls)) => {
            NoConnection::new(connections.wrong_protocol(speech).into()).into()
        }
        _ => error.into(),
    }
}
