pub(super) mod peer;

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tower_layer::Layer as _;

use super::*;

fn refused(uri: &str) -> String {
    Client::new(uri).expect_err("a mistake").to_string()
}

#[test]
fn an_address_is_a_scheme_a_host_and_perhaps_a_path() {
    for (uri, prefix) in [
        ("http://orders", ""),
        ("http://orders:8080/", ""),
        ("http://127.0.0.1:8080/shop/", "/shop"),
        ("http://[::1]:8080", ""),
    ] {
        assert_eq!(Base::read(uri).unwrap_or_else(|error| panic!("{uri}: {error}")).prefix, prefix, "{uri}");
    }
    for uri in ["", "orders", "orders:8080", "/orders", "ftp://orders", "http://", "http://orders?x=1"] {
        assert!(refused(uri).contains("expected the address of a service"), "{uri}: {}", refused(uri));
    }
}

#[test]
fn tls_settings_for_an_address_in_cleartext_are_refused() {
    let tls = TlsConfig { server_name: Some("orders".to_owned()), ..TlsConfig::default() };
    let error = Client::builder("http://orders").tls(tls).build().expect_err("a mistake").to_string();
    assert!(error.contains("expected https://"), "{error}");
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    for uri in ["http://me:hunter2@orders", "http://me:hunter2 @orders", "http://me:hunter2@", "//me:hunter2@orders"] {
        let message = refused(uri);
        assert!(message.contains("credentials") && !message.contains("hunter2"), "{message}");
    }
    assert_eq!(refused("http://me:hun ter2@x"), refused("http://me:hunter2@x"));
    assert!(Base::read("http://orders/@shop").is_ok());
}

/// A transport with layers, as a destination has it.
struct Layered(peer::Peer, AtomicUsize);

impl fmt::Debug for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layered")
    }
}

impl Transport for Layered {
    fn writes_context(&self) -> bool {
        true
    }

    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<axum::body::Body>, BoxError>> + Send>> {
        self.1.fetch_add(1, Relaxed);
        let answered = deadline::DeadlineLayer::new().layer(self.0.clone()).call(request);
        Box::pin(async move { Ok(answered.await?.map(axum::body::Body::new)) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_time_is_refused_by_the_layers_which_count_it() {
    let transport = Arc::new(Layered(peer::Peer::default(), AtomicUsize::new(0)));
    let base = Base::read("http://orders").unwrap();
    let client = Client::over(base, transport.clone(), &Client::builder(""));
    for timeout in [Duration::ZERO, Duration::from_micros(999)] {
        let error = client.call(Method::POST, "/").timeout(timeout).json::<u8>().await.unwrap_err();
        assert!(error.is_deadline_exceeded() && error.never_sent(), "{error:?}");
    }
    assert_eq!((transport.1.load(Relaxed), transport.0.calls()), (2, 0));
}
