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
    adding_a_layer "docs/how-to/adding-a-layer.md"
    clients "docs/how-to/clients.md"
    configuration "docs/how-to/configuration.md"
    discovery "docs/how-to/discovery.md"
    handlers "docs/how-to/handlers.md"
    health "docs/explanation/health.md"
    leader "docs/how-to/leader.md"
    openapi "docs/how-to/openapi.md"
    operating "docs/how-to/operating.md"
    breaker_and_retry "docs/explanation/breaker-and-retry.md"
    drain "docs/explanation/drain.md"
    request_path "docs/explanation/request-path.md"
    resilience "docs/explanation/resilience.md"
    quickstart "docs/tutorials/quickstart.md"
    testing "docs/how-to/testing.md"
    background "docs/how-to/background.md"
    deploying "docs/how-to/deploying.md"
    own_layers "docs/how-to/own-layers.md"
    telemetry "docs/how-to/telemetry.md"
    adopt "docs/how-to/adopt.md"
    leave "docs/how-to/leave.md"
}
