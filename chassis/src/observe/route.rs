//! What the observer knows of one route: its template, what its answers tell, and its series of metrics, resolved once.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Observer;
use crate::telemetry::metrics::{HttpSeries, METHODS, method_index};

/// RFC 9745.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// RFC 8594.
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// What a route's policy has its answers tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traits {
    /// Whether a second request with the same content does no harm.
    pub(crate) idempotent: bool,
    pub(crate) deprecated: Option<Deprecated>,
}

/// The headers on every answer of a deprecated route, made once.
#[derive(Debug, Clone)]
pub(crate) struct Deprecated {
    pub(crate) since: HeaderValue,
    pub(crate) sunset: Option<HeaderValue>,
}

/// One route template and, for each method, its series.
pub(crate) struct RouteStats {
    template: Box<str>,
    traits: Traits,
    quiet: bool,
    series: [OnceLock<HttpSeries>; METHODS.len()],
}

impl RouteStats {
    pub(crate) fn new(template: &str, traits: Traits, quiet: bool) -> Self {
        Self { template: template.into(), traits, quiet, series: Default::default() }
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.traits.idempotent
    }

    /// Adds to an answer what the route's callers have to know.
    #[inline]
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(deprecated) = &self.traits.deprecated {
            deprecated.tell(headers);
        }
    }

    pub(crate) fn template(&self) -> &str {
        &self.template
    }

    /// Whether a success is not worth an access line.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn series(&self, observer: &Observer, method: &Method) -> &HttpSeries {
        self.series[method_index(method)].get_or_init(|| observer.server_metrics().http_series(&self.template, method))
    }
}

impl std::fmt::Debug for RouteStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteStats").field("template", &self.template).finish_non_exhaustive()
    }
}

impl Deprecated {
    /// What the handler says itself counts more.
    #[cold]
    fn tell(&self, headers: &mut HeaderMap) {
        headers.entry(DEPRECATION).or_insert_with(|| self.since.clone());
        if let Some(sunset) = &self.sunset {
            headers.entry(SUNSET).or_insert_with(|| sunset.clone());
        }
    }
}
