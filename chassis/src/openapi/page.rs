//! `/docs`: Swagger UI from a crate that holds its archive, so nothing is fetched, not by the build and not by the browser.
//!
//! Of the archive's 1.8 MB only the two files that the page needs get into the binary. They are taken out of it while the
//! crate is compiled, and stay compressed: a ZIP entry and a gzip stream hold the same deflate data.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

use super::http::Asset;

/// The paths that the page takes.
pub(super) const PATHS: [&str; 5] =
    ["/docs", "/docs/", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"];

/// The addresses in it are relative, so it works behind a proxy that puts a prefix in front.
const PAGE: &str = include_str!("page/index.html");
const START: &str = include_str!("page/start.js");

/// Nothing from elsewhere, no inline script. Swagger UI sets styles from its script, and draws icons from `data:`.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const SCRIPT_ENTRY: Entry = find(ARCHIVE, b"/dist/swagger-ui-bundle.js");
const STYLE_ENTRY: Entry = find(ARCHIVE, b"/dist/swagger-ui.css");
static SCRIPT: [u8; SCRIPT_ENTRY.length + GZIP_FRAME] = gzip(ARCHIVE, &SCRIPT_ENTRY);
static STYLE: [u8; STYLE_ENTRY.length + GZIP_FRAME] = gzip(ARCHIVE, &STYLE_ENTRY);

/// The page, under the service's name.
fn page(service: &str) -> String {
    let escaped = service.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    PAGE.replace("{title}", &escaped)
}

pub(super) fn routes(service: &str) -> Router {
    let asset = |asset: Asset| get(move |headers: HeaderMap| std::future::ready(asset.answer(&headers)));
    let page = Asset::new("text/html; charset=utf-8", page(service).into());
    let page = move |headers: HeaderMap| {
        let mut answer = page.answer(&headers);
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
        std::future::ready(answer)
    };
    let [at, with_slash, style, script, start] = PATHS;
    Router::new()
        .route(at, get(page))
        .route(with_slash, get(to_page))
        .route(style, asset(Asset::gzipped("text/css; charset=utf-8", &STYLE, STYLE_ENTRY.checksum)))
        .route(script, asset(Asset::gzipped("text/javascript; charset=utf-8", &SCRIPT, SCRIPT_ENTRY.checksum)))
        .route(start, asset(Asset::new("text/javascript; charset=utf-8", Bytes::from_static(START.as_bytes()))))
}

/// The page's own addresses are right without the slash only.
async fn to_page() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "../docs")]).into_response()
}

/// Where an entry's data is in the archive, and what gzip says of it.
struct Entry {
    start: usize,
    length: usize,
    checksum: u32,
    size: u32,
}

const fn u16_at(bytes: &[u8], at: usize) -> usize {
    bytes[at] as usize | (bytes[at + 1] as usize) << 8
}

const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const fn is_at(bytes: &[u8], at: usize, expected: &[u8]) -> bool {
    let mut index = 0;
    while index < expected.len() {
        if bytes[at + index] != expected[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// The one entry whose name ends so (PKWARE's APPNOTE 6.3, 4.3.7, 4.3.12 and 4.3.16). Run by the compiler: an archive of
/// another form does not compile.
const fn find(zip: &[u8], name_end: &[u8]) -> Entry {
    // The record at the end, which has no comment behind it.
    let mut end = zip.len() - 22;
    while !is_at(zip, end, b"PK\x05\x06") {
        end -= 1;
    }
    let mut entries = u16_at(zip, end + 10);
    let mut at = u32_at(zip, end + 16) as usize;
    while entries > 0 {
        assert!(is_at(zip, at, b"PK\x01\x02"), "not the head of an entry");
        let name = u16_at(zip, at + 28);
        if name >= name_end.len() && is_at(zip, at + 46 + name - name_end.len(), name_end) {
            assert!(u16_at(zip, at + 10) == 8, "the entry is not deflated");
            let local = u32_at(zip, at + 42) as usize;
            return Entry {
                start: local + 30 + u16_at(zip, local + 26) + u16_at(zip, local + 28),
                length: u32_at(zip, at + 20) as usize,
                checksum: u32_at(zip, at + 16),
                size: u32_at(zip, at + 24),
            };
        }
        at += 46 + name + u16_at(zip, at + 30) + u16_at(zip, at + 32);
        entries -= 1;
    }
    panic!("the archive has no such entry")
}

/// Head and foot of a gzip stream (RFC 1952 §2.3): deflate, no name, no time, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
const GZIP_FRAME: usize = GZIP_HEAD.len() + 8;

const fn gzip<const LENGTH: usize>(zip: &[u8], entry: &Entry) -> [u8; LENGTH] {
    let mut stream = [0; LENGTH];
    let (head, rest) = stream.split_at_mut(GZIP_HEAD.len());
    head.copy_from_slice(&GZIP_HEAD);
    let (data, foot) = rest.split_at_mut(entry.length);
    data.copy_from_slice(zip.split_at(entry.start).1.split_at(entry.length).0);
    let (checksum, size) = foot.split_at_mut(4);
    checksum.copy_from_slice(&entry.checksum.to_le_bytes());
    size.copy_from_slice(&entry.size.to_le_bytes());
    stream
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pages_title_is_the_services_name() {
        let page = super::page("orders <b> & co");
        assert!(page.contains("<title>orders &lt;b&gt; &amp; co</title>"), "{page}");
    }
}
