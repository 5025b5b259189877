//! The policies of all described routes, in the form in which they are enforced.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request};

use super::{
    accept,
    state::{Bulkhead, Permit},
};
use crate::{
    context::RequestContext,
    // floor: what the observer tells of a route on its answers comes from the route's policy
    observe::route::{Deprecated, Traits},
    // floor: policies come with the description of their routes
    service::{Content, Deprecation, RouteInfo, RouteKind},
};

/// The first second of the year 10000, which no HTTP date can write.
const END_OF_DATES: u64 = 253_402_300_800;

/// The policies of all described routes, by template and method.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    routes: HashMap<String, Vec<(Method, Policy)>>,
    bulkheads: Vec<Arc<Bulkhead>>,
}

impl Policies {
    /// What these routes ask for. The routes of one handler share one bulkhead.
    pub(crate) fn new(infos: &[RouteInfo]) -> Self {
        let mut policies = Self::default();
        let mut bulkheads: HashMap<(&str, &str), Arc<Bulkhead>> = HashMap::new();
        for info in infos {
            let bulkhead = info.policy.concurrency.map(|limit| {
                // Nothing says that two handlers of one name without a type are one.
                let owner = if info.service.is_empty() { &*info.path } else { info.service };
                let named = || Arc::new(Bulkhead::new(handler_name(info), limit));
                bulkheads.entry((owner, info.handler)).or_insert_with(named).clone()
            });
            if let Some(bulkhead) = &bulkhead
                && !policies.bulkheads.iter().any(|known| Arc::ptr_eq(known, bulkhead))
            {
                policies.bulkheads.push(bulkhead.clone());
            }
            let policy = Policy::new(info, bulkhead);
            policies.routes.entry(info.path.to_string()).or_default().push((info.method.clone(), policy));
        }
        policies
    }

    /// The policies of one template, by method.
    pub(super) fn of(&self, template: &str) -> &[(Method, Policy)] {
        self.routes.get(template).map_or(&[], Vec::as_slice)
    }

    /// Every concurrency limit, once.
    pub(crate) fn bulkheads(&self) -> &[Arc<Bulkhead>] {
        &self.bulkheads
    }
}

/// `orders::Orders::place`; a route that is described by hand is named by its method and path.
fn handler_name(info: &RouteInfo) -> String {
    match info.service {
        "" => format!("{} {}", info.method, info.path),
        service => format!("{service}::{}", info.handler),
    }
}

/// What one route asks for.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    timeout: Option<Duration>,
    media: Option<&'static str>,
    body_limit: Option<u64>,
    bulkhead: Option<Arc<Bulkhead>>,
    traits: Traits,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes on.
    Serve,
    /// It goes on with a body of at most so many bytes.
    Limit(u64),
    /// The caller excludes what the route answers with.
    NotAcceptable(&'static str),
    /// The announced body is larger than this.
    TooLarge(u64),
    /// As many as may be are being served.
    Full(u32),
}

impl Policy {
    fn new(info: &RouteInfo, bulkhead: Option<Arc<Bulkhead>>) -> Self {
        let policy = &info.policy;
        let media = match (info.kind, info.answer.kind.content) {
            (RouteKind::Http, Content::Json) => Some("application/json"),
            (RouteKind::Http, Content::Events) => Some("text/event-stream"),
            (RouteKind::Http, Content::JsonLines) => Some("application/x-ndjson"),
            _ => None,
        };
        Self {
            timeout: policy.timeout,
            media,
            // Of an rpc it is the limit of the message, which the codec keeps.
            body_limit: policy.body_limit.filter(|_| info.kind == RouteKind::Http),
            bulkhead,
            traits: Traits {
                idempotent: policy.idempotent,
                deprecated: policy.deprecated.as_ref().map(deprecated_headers),
            },
        }
    }

    pub(super) fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Holds a request to the policy; a permit goes to the request's context, which gives it back at the request's end.
    ///
    /// The order is written in the documentation of the module.
    pub(super) fn judge<B: http_body::Body>(&self, context: &RequestContext, request: &Request<B>) -> Verdict {
        if let Some(deadline) = self.timeout.and_then(|timeout| context.started().checked_add(timeout)) {
            context.limit(deadline);
        }
        if let Some(media) = self.media
            // Only routes of HTTP name one: a call that claims to be gRPC and is none is held to it, too.
            && !context.0.rpc
            && !accept::admits(request.headers(), media)
        {
            return Verdict::NotAcceptable(media);
        }
        let limit = self.body_limit.filter(|_| !request.body().is_end_stream());
        if let Some(limit) = limit
            && request.body().size_hint().lower().max(context.0.content_length) > limit
        {
            return Verdict::TooLarge(limit);
        }
        if let Some(bulkhead) = &self.bulkhead {
            let Some(permit) = bulkhead.try_acquire() else { return Verdict::Full(bulkhead.limit()) };
            context.0.permit.set(permit).unwrap_or_else(|permit: Permit| drop(permit));
        }
        limit.map_or(Verdict::Serve, Verdict::Limit)
    }
}

/// `Deprecation: @<seconds>` (RFC 9745, section 2.1) and `Sunset: <date>` (RFC 8594).
fn deprecated_headers(deprecation: &Deprecation) -> Deprecated {
    let since = HeaderValue::try_from(format!("@{}", deprecation.since));
    let sunset =
        deprecation.sunset.and_then(|sunset| u64::try_from(sunset).ok()).filter(|sunset| *sunset < END_OF_DATES);
    let date = |seconds| httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
    Deprecated {
        // A number behind an `@` is always a header value.
        since: since.unwrap_or(HeaderValue::from_static("@0")),
        sunset: sunset.and_then(|sunset| HeaderValue::try_from(date(sunset)).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::RoutePolicy;

    fn limited(info: RouteInfo, service: &'static str) -> RouteInfo {
        let mut info = info.policy(RoutePolicy::new().concurrency(3));
        info.service = service;
        info
    }

    #[test]
    fn the_routes_of_one_handler_share_a_bulkhead_and_others_do_not() {
        let http = |path: &'static str| RouteInfo::new(Method::GET, path, "order");
        let policies = Policies::new(&[
            limited(http("/orders/{id}"), "shop::Orders"),
            limited(RouteInfo::rpc("shop.v1.Orders", "GetOrder", "order"), "shop::Orders"),
            limited(http("/other/{id}"), "shop::Others"),
            limited(http("/by/hand"), ""),
            limited(http("/by/hand/too"), ""),
        ]);
        let names: Vec<_> = policies.bulkheads().iter().map(|bulkhead| bulkhead.handler().to_owned()).collect();
        assert_eq!(names, ["shop::Orders::order", "shop::Others::order", "GET /by/hand", "GET /by/hand/too"]);
        let bulkhead = |path| policies.of(path)[0].1.bulkhead.clone();
        let (http, rpc) = (bulkhead("/orders/{id}"), bulkhead("/shop.v1.Orders/GetOrder"));
        assert!(http.zip(rpc).is_some_and(|(http, rpc)| Arc::ptr_eq(&http, &rpc)));
    }

    #[test]
    fn the_headers_of_a_deprecation_are_those_of_the_standards() {
        let headers = deprecated_headers(&Deprecation::since(1_688_169_599).sunset(1_719_791_999));
        assert_eq!(headers.since, "@1688169599");
        assert_eq!(headers.sunset, Some(HeaderValue::from_static("Sun, 30 Jun 2024 23:59:59 GMT")));
        let beyond = deprecated_headers(&Deprecation::since(-1).sunset(i64::MAX));
        assert_eq!((beyond.since, beyond.sunset), (HeaderValue::from_static("@-1"), None));
    }
}
