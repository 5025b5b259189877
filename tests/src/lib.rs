//! Integration tests live in `it/`. The Rust of the README and the guides is compiled here, as doc tests.

#[cfg(doctest)]
macro_rules! pages {
    ($($name:ident $path:literal)*) => {
        $(#[doc = include_str!(concat!("../../", $path))] mod $name {})*
    };
}

#[cfg(doctest)]
pages! {
    readme "README.md"
    adding_a_layer "docs/adding-a-layer.md"
    clients "docs/clients.md"
    configuration "docs/configuration.md"
    discovery "docs/discovery.md"
    handlers "docs/handlers.md"
    health "docs/health.md"
    leader "docs/leader.md"
    openapi "docs/openapi.md"
    operating "docs/operating.md"
    request_path "docs/request-path.md"
    resilience "docs/resilience.md"
    telemetry "docs/telemetry.md"
}
