//! The line that says where a service listens.

use crate::{
    chassis::{Bound, Chassis},
    openapi,
    server::BoundAddress,
    settings::Settings,
};

impl<S> Chassis<S> {
    /// Logs that the service serves, and where.
    pub(super) fn announce(&self, bound: &Bound, config: &Settings) {
        let identity = &self.core.identity;
        let (url, operators) = (bound.http.url(), bound.admin.as_ref().and_then(BoundAddress::url));
        let docs = url.as_ref().filter(|_| self.has_page(config)).map(|url| format!("{url}/docs"));
        // Addresses that a terminal makes a link of come first.
        tracing::info!(
            url,
            docs,
            operators,
            http = %bound.http,
            admin = bound.admin.as_ref().map(tracing::field::display),
            profile = identity.environment,
            version = identity.version,
            "serving"
        );
    }

    /// Returns whether `/docs` is the page of the document.
    fn has_page(&self, config: &Settings) -> bool {
        #[cfg(feature = "docs-page")]
        let page = config.openapi.page;
        #[cfg(not(feature = "docs-page"))]
        let page = false;
        let free = |path: &str| !self.routes.iter().any(|route| route.path == path);
        let described = openapi::described(&self.routes).next().is_some();
        page && config.openapi.enabled && described && free("/docs") && free("/openapi.json")
    }
}
