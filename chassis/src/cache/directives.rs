//! What `Cache-Control` and its relatives say (RFC 9111), for a cache that all callers of this service share. Pure.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{AGE, AUTHORIZATION, CACHE_CONTROL, COOKIE, DATE, EXPIRES, IF_RANGE, RANGE, SET_COOKIE, VARY},
};

/// What a number of seconds beyond it counts as: 2^31 (RFC 9111, section 1.2.2), 68 years.
const LONGEST: Duration = Duration::from_secs(1 << 31);

/// The directives of `Cache-Control` that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    no_store: bool,
    no_cache: bool,
    private: bool,
    must_revalidate: bool,
    max_age: Option<Duration>,
    shared_max_age: Option<Duration>,
    stale_if_error: Option<Duration>,
}

impl Directives {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        let values = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
        for directive in values.flat_map(|value| value.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            // What cannot be read is stale at once (RFC 9111, section 4.2.1).
            let seconds = || Some(delta(value).unwrap_or_default());
            let is = |word: &str| name.eq_ignore_ascii_case(word);
            directives.no_store |= is("no-store");
            directives.no_cache |= is("no-cache");
            directives.private |= is("private");
            directives.must_revalidate |= is("must-revalidate") || is("proxy-revalidate") || is("s-maxage");
            if is("max-age") {
                directives.max_age = seconds();
            } else if is("s-maxage") {
                directives.shared_max_age = seconds();
            } else if is("stale-if-error") {
                directives.stale_if_error = seconds();
            }
        }
        directives
    }
}

/// A number of seconds: at most [`LONGEST`], also when no integer holds it (RFC 9111, section 1.2.2).
fn delta(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST))
}

/// Whether a request may be answered from the cache, or its answer kept. Not when it is somebody's own, or asks for a part.
pub(super) fn may_share<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let conditional = headers.keys().any(|name| name.as_str().starts_with("if-")) || headers.contains_key(IF_RANGE);
    let personal = headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE);
    let directives = Directives::of(headers);
    request.method() == Method::GET
        && !conditional
        && !personal
        && !headers.contains_key(RANGE)
        && !directives.no_store
        && !directives.no_cache
        && directives.max_age != Some(Duration::ZERO)
}

/// How long an answer is fresh, as its headers say, and how long after that it may be served when asking again fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// `None`: the answer says nothing of it.
    pub(super) fresh: Option<Duration>,
    /// `None`: as the cache has it.
    pub(super) stale: Option<Duration>,
}

/// `None` when the answer must not be kept.
pub(super) fn lifetime(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Lifetime> {
    // A part of the statuses that may be kept without being told to (RFC 9110, section 15.1).
    let keepable = matches!(status, StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE);
    let directives = Directives::of(headers);
    let any = headers.get_all(VARY).into_iter().any(|value| value.as_bytes().contains(&b'*'));
    // `no-cache` would need to ask each time whether it still holds; `Set-Cookie` is somebody's own.
    let forbidden =
        directives.no_store || directives.no_cache || directives.private || headers.contains_key(SET_COOKIE);
    if !keepable || any || forbidden {
        return None;
    }
    let date = |name: HeaderName| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let expires = || {
        // A date that cannot be read is over (RFC 9111, section 5.3).
        headers.contains_key(EXPIRES).then(|| {
            let from = date(DATE).unwrap_or(now);
            date(EXPIRES).and_then(|expires| expires.duration_since(from).ok()).unwrap_or_default().min(LONGEST)
        })
    };
    let fresh = directives.shared_max_age.or(directives.max_age).or_else(expires);
    let age = headers.get(AGE).and_then(|age| delta(age.to_str().ok()?.trim())).unwrap_or_default();
    let stale = if directives.must_revalidate { Some(Duration::ZERO) } else { directives.stale_if_error };
    Some(Lifetime { fresh: fresh.map(|fresh| fresh.saturating_sub(age)), stale })
}

/// The headers of the request that the answer depends on, with their values then.
pub(super) fn varies(answer: &HeaderMap, request: &HeaderMap) -> Vec<(HeaderName, Vec<HeaderValue>)> {
    let values = answer.get_all(VARY).into_iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    names.map(|name| (name.clone(), request.get_all(name).into_iter().cloned().collect())).collect()
}

/// Whether a request has the same values in these headers.
pub(super) fn fits(varies: &[(HeaderName, Vec<HeaderValue>)], request: &HeaderMap) -> bool {
    varies.iter().all(|(name, values)| request.get_all(name).into_iter().eq(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn fresh(lines: &[(&'static str, &'static str)]) -> Option<Option<u64>> {
        let now = httpdate::parse_http_date("Thu, 01 Jan 2026 00:00:10 GMT").unwrap();
        let lifetime = lifetime(StatusCode::OK, &headers(lines), now)?;
        Some(lifetime.fresh.map(|fresh| fresh.as_secs()))
    }

    #[test]
    fn an_answer_says_how_long_it_is_fresh() {
        assert_eq!(fresh(&[]), Some(None), "nothing is said");
        assert_eq!(fresh(&[("cache-control", "max-age=60")]), Some(Some(60)));
        assert_eq!(fresh(&[("cache-control", "public, Max-Age=\"60\", s-maxage=10")]), Some(Some(10)));
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("age", "20")]), Some(Some(40)));
        assert_eq!(fresh(&[("cache-control", "max-age=soon")]), Some(Some(0)));
        assert_eq!(fresh(&[("cache-control", "max-age=+1")]), Some(Some(0)));
        for endless in ["max-age=2147483649", "max-age=18446744073709551615", "s-maxage=99999999999999999999999"] {
            assert_eq!(fresh(&[("cache-control", endless)]), Some(Some(1 << 31)), "{endless}");
        }
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("age", "99999999999999999999999")]), Some(Some(0)));
        let expires = ("expires", "Thu, 01 Jan 2026 00:01:00 GMT");
        assert_eq!(fresh(&[expires]), Some(Some(50)));
        assert_eq!(fresh(&[expires, ("date", "Thu, 01 Jan 2026 00:00:30 GMT")]), Some(Some(30)));
        assert_eq!(fresh(&[expires, ("cache-control", "max-age=5")]), Some(Some(5)));
        assert_eq!(fresh(&[("expires", "0")]), Some(Some(0)));
    }

    #[test]
    fn what_is_somebodys_own_or_forbidden_is_not_kept() {
        for directive in ["no-store", "private", "no-cache", "max-age=60, private", "NO-STORE"] {
            assert_eq!(fresh(&[("cache-control", directive)]), None, "{directive}");
        }
        assert_eq!(fresh(&[("vary", "accept, *")]), None);
        assert_eq!(fresh(&[("set-cookie", "a=b")]), None);
        let max_age = headers(&[("cache-control", "max-age=60")]);
        assert_eq!(lifetime(StatusCode::INTERNAL_SERVER_ERROR, &max_age, SystemTime::now()), None);
        assert_eq!(lifetime(StatusCode::PARTIAL_CONTENT, &max_age, SystemTime::now()), None);
    }

    #[test]
    fn an_answer_says_whether_it_may_be_served_when_it_is_old() {
        let stale = |value| {
            let headers = headers(&[("cache-control", value)]);
            lifetime(StatusCode::OK, &headers, SystemTime::now()).unwrap().stale.map(|stale| stale.as_secs())
        };
        assert_eq!(stale("max-age=1"), None, "as the cache has it");
        assert_eq!(stale("max-age=1, stale-if-error=30"), Some(30));
        assert_eq!(stale("max-age=1, stale-if-error=30, must-revalidate"), Some(0));
        assert_eq!(stale("s-maxage=1"), Some(0), "RFC 9111, section 5.2.2.10");
    }

    #[test]
    fn a_request_of_its_own_is_not_shared() {
        let may = |lines: &[(&'static str, &'static str)]| {
            let mut request = Request::get("/").body(()).unwrap();
            *request.headers_mut() = headers(lines);
            may_share(&request)
        };
        assert!(may(&[("accept", "application/json")]));
        for own in [
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("range", "bytes=0-1"),
            ("if-none-match", "\"a\""),
            ("cache-control", "no-store"),
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
        ] {
            assert!(!may(&[own]), "{own:?}");
        }
        assert!(!may_share(&Request::post("/").body(()).unwrap()));
    }

    #[test]
    fn an_answer_fits_requests_with_the_same_values_in_what_it_varies_by() {
        let request = headers(&[("accept", "text/plain"), ("accept-language", "de")]);
        let varies = varies(&headers(&[("vary", "Accept, accept-encoding")]), &request);
        assert!(fits(&varies, &headers(&[("accept", "text/plain"), ("accept-language", "fr")])));
        assert!(!fits(&varies, &headers(&[("accept", "application/json")])));
        assert!(!fits(&varies, &headers(&[("accept", "text/plain"), ("accept-encoding", "gzip")])));
    }
}
