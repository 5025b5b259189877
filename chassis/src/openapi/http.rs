//! `/openapi.json`, and with the feature `docs-page` a page for people at `/docs`.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::{Router, response::Response, routing::get};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Document, config::OpenApiConfig};
use crate::service::RouteInfo;

/// Where the document is.
const DOCUMENT: &str = "/openapi.json";

/// The routes of the document and its page. A path that a described route has already stays that route's.
///
/// The page has the service's name as its title.
pub(crate) fn routes(document: &Document, service: &str, config: &OpenApiConfig, described: &[RouteInfo]) -> Router {
    let mut router = Router::new();
    // Without the page nothing shows it.
    let _ = service;
    let taken = |path: &str| described.iter().any(|route| route.path == path);
    if !config.enabled {
        return router;
    }
    if taken(DOCUMENT) {
        tracing::info!("a route of the service answers {DOCUMENT}: its OpenAPI document and page are not served");
        return router;
    }
    let text = Asset::new("application/json", document.to_string().into());
    router = router.route(DOCUMENT, get(move |headers: HeaderMap| std::future::ready(text.answer(&headers))));
    #[cfg(feature = "docs-page")]
    if config.page {
        match super::page::PATHS.iter().find(|path| taken(path)) {
            Some(path) => {
                tracing::info!("a route of the service answers {path}: the page of its OpenAPI document is not served");
            }
            None => router = router.merge(super::page::routes(service)),
        }
    }
    router
}

/// What is answered the same as long as the service runs.
#[derive(Debug, Clone)]
pub(super) struct Asset {
    content_type: HeaderValue,
    encoding: Option<HeaderValue>,
    etag: Option<HeaderValue>,
    body: Bytes,
}

impl Asset {
    /// A body that is known only now.
    pub(super) fn new(content_type: &'static str, body: Bytes) -> Self {
        // Keyed by nothing, so that all instances of one build give the same.
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let tag = hasher.finish();
        Self { content_type: HeaderValue::from_static(content_type), encoding: None, etag: etag(tag), body }
    }

    /// Compressed when it was compiled, with its checksum: reading it all for a tag would bring it into memory before anybody
    /// asks for it.
    #[cfg(feature = "docs-page")]
    pub(super) fn gzipped(content_type: &'static str, stream: &'static [u8], checksum: u32) -> Self {
        Self {
            content_type: HeaderValue::from_static(content_type),
            encoding: Some(HeaderValue::from_static("gzip")),
            etag: etag(checksum.into()),
            body: Bytes::from_static(stream),
        }
    }

    /// The whole, or 304 for who has it. axum leaves the body out for HEAD.
    pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
        let known = self.etag.as_ref().is_some_and(|etag| names(asked, etag.as_bytes()));
        let mut response = Response::new(if known { Bytes::new().into() } else { self.body.clone().into() });
        let headers = response.headers_mut();
        // Kept by who likes to, and asked for again each time: a deploy may have changed it.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.extend(self.etag.clone().map(|etag| (header::ETAG, etag)));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(self.encoding.clone().map(|encoding| (header::CONTENT_ENCODING, encoding)));
        response
    }
}

fn etag(tag: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("\"{tag:016x}\"")).ok()
}

/// Whether `if-none-match` names this tag (RFC 9110 §13.1.2, weak comparison).
fn names(asked: &HeaderMap, etag: &[u8]) -> bool {
    let tags =
        asked.get_all(header::IF_NONE_MATCH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tags.map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
}
