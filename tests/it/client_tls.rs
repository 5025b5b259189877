//! Calls over TLS: whom a client trusts, who it says it is, and which protocol the two agree on.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use chassis::{
    Chassis,
    client::{CallError, CallErrorKind, Client, Outcome},
    testing::TestService,
    tls::TlsConfig,
};
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use tokio_util::task::AbortOnDropHandle;

use crate::support::{dns::Dns, h2};

type Tls<'a> = Stream<'a, ServerConnection, TcpStream>;

/// An authority, its own certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

/// A certificate and its key, each in a file.
struct Identity {
    cert: PathBuf,
    key: PathBuf,
    der: (Vec<u8>, Vec<u8>),
}

/// A file that no other test writes.
fn file(test: &str, name: &str, text: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("client_tls").join(test);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

impl Authority {
    fn new(test: &str, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = file(test, &format!("{name}.pem"), &issuer.pem());
        Self { issuer, file }
    }

    fn identity(&self, test: &str, host: &str) -> Identity {
        self.identity_until(test, host, 4096)
    }

    /// A certificate that is good to the start of that year.
    fn identity_until(&self, test: &str, host: &str, year: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            cert: file(test, &format!("{host}.pem"), &cert.pem()),
            key: file(test, &format!("{host}.key"), &key.serialize_pem()),
            der: (cert.der().to_vec(), key.serialize_der()),
        }
    }
}

/// A server with this certificate; it wants one of this authority from its callers.
fn serve(identity: &Identity, callers: Option<&Authority>, talk: fn(&mut Tls<'_>)) -> SocketAddr {
    offering(&[b"h2", b"http/1.1"], identity, callers, talk)
}

/// The same, with these protocols to choose from (ALPN).
fn offering(
    protocols: &[&[u8]],
    identity: &Identity,
    callers: Option<&Authority>,
    talk: fn(&mut Tls<'_>),
) -> SocketAddr {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match callers {
        None => builder.with_no_client_auth(),
        Some(callers) => {
            let mut roots = RootCertStore::empty();
            roots.add(callers.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (cert, key) = identity.der.clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let mut config = builder.with_single_cert(vec![cert.into()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, mut tls) = (socket.unwrap(), ServerConnection::new(config.clone()).unwrap());
            talk(&mut Stream::new(&mut tls, &mut socket));
        }
    });
    address
}

/// One HTTP/1.1 request, one answer. A handshake that fails ends it.
fn http1(tls: &mut Tls<'_>) {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        match tls.read(&mut byte) {
            Ok(1) => read.push(byte[0]),
            _ => return,
        }
    }
    assert_eq!(tls.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let _ = tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
}

/// One HTTP/2 request, one answer.
fn http2(tls: &mut Tls<'_>) {
    let mut preface = [0; 24];
    tls.read_exact(&mut preface).unwrap();
    assert_eq!(tls.conn.alpn_protocol(), Some(&b"h2"[..]));
    tls.write_all(&h2::frame(h2::SETTINGS, 0, 0, &[])).unwrap();
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        tls.read_exact(&mut payload).unwrap();
        if head[3] == h2::HEADERS {
            break;
        }
    }
    // `:status: 204` of HPACK's static table.
    tls.write_all(&h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 1, &[0x89])).unwrap();
    let _ = tls.read(&mut [0; 64]);
}

async fn call(address: SocketAddr, tls: TlsConfig, http2: bool) -> Result<(), CallError> {
    let client = Client::builder(format!("https://localhost:{}", address.port())).tls(tls);
    let client = if http2 { client.http2() } else { client };
    client.build().unwrap().call(Method::GET, "/").answer().await
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig { ca: Some(authority.file.clone()), ..TlsConfig::default() }
}

/// Carries connections to this server once the gate is open, and counts them.
async fn gate(
    to: SocketAddr,
) -> (SocketAddr, tokio::sync::watch::Receiver<usize>, tokio::sync::watch::Sender<bool>, AbortOnDropHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (count, counted) = tokio::sync::watch::channel(0);
    let (open, opened) = tokio::sync::watch::channel(false);
    let carrying = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            count.send_modify(|count| *count += 1);
            let mut opened = opened.clone();
            connections.spawn(async move {
                opened.wait_for(|open| *open).await.unwrap();
                let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, counted, open, AbortOnDropHandle::new(carrying))
}

#[tokio::test]
async fn a_connection_outlives_the_call_that_began_it() {
    let authority = Authority::new("outlives", "ours");
    let identity = authority.identity("outlives", "localhost");
    for (talk, speaks_http2) in [(http1 as fn(&mut Tls<'_>), false), (http2, true)] {
        let (address, mut counted, open, _carrying) = gate(serve(&identity, None, talk)).await;
        let client = Client::builder(format!("https://localhost:{}", address.port())).tls(trusting(&authority));
        let client = if speaks_http2 { client.http2() } else { client }.build().unwrap();
        let call = |client: &Client| client.call(Method::POST, "/").answer::<()>();
        let impatient = AbortOnDropHandle::new(tokio::spawn(call(&client)));
        counted.wait_for(|count| *count == 1).await.unwrap();
        impatient.abort();
        assert!(impatient.await.is_err());
        let patient = AbortOnDropHandle::new(tokio::spawn(call(&client)));
        tokio::task::yield_now().await;
        open.send_replace(true);
        patient.await.unwrap().unwrap();
        assert_eq!(*counted.borrow(), 1, "the connection that the first call began");
    }
}

#[tokio::test]
async fn http2_is_not_spoken_unless_it_was_chosen() {
    let authority = Authority::new("chosen", "ours");
    let address = offering(&[], &authority.identity("chosen", "localhost"), None, |tls| {
        let _ = tls.read(&mut [0; 64]);
    });
    let text = refused(call(address, trusting(&authority), true).await.unwrap_err());
    assert!(text.contains("did not choose HTTP/2") && text.contains("protocol = \"http1\""), "{text}");
}

/// There was no connection, and the error says why.
fn refused(error: CallError) -> String {
    assert_eq!(error.kind(), CallErrorKind::NotSent, "{error:?}");
    // An operator may see no more than this.
    let text = error.to_string();
    assert_eq!(Outcome::of_error(&error.into()), Outcome::Unreachable);
    text
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_and_no_other_is() {
    let test = "authority";
    let (ours, other) = (Authority::new(test, "ours"), Authority::new(test, "other"));
    let address = serve(&ours.identity(test, "localhost"), None, http1);
    call(address, trusting(&ours), false).await.unwrap();
    let text = refused(call(address, trusting(&other), false).await.unwrap_err());
    assert!(text.contains("UnknownIssuer") && text.contains(other.file.to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_that_name_is_expected() {
    let test = "name";
    let ours = Authority::new(test, "ours");
    let address = serve(&ours.identity(test, "inventory.internal"), None, http1);
    let text = refused(call(address, trusting(&ours), false).await.unwrap_err());
    assert!(text.contains("expected a certificate for localhost") && text.contains("tls.server_name"), "{text}");
    let named = TlsConfig { server_name: Some("inventory.internal".to_owned()), ..trusting(&ours) };
    call(address, named, false).await.unwrap();
}

#[tokio::test]
async fn an_expired_certificate_is_named() {
    let test = "expired";
    let ours = Authority::new(test, "ours");
    let address = serve(&ours.identity_until(test, "localhost", 2020), None, http1);
    let text = refused(call(address, trusting(&ours), false).await.unwrap_err());
    assert!(text.contains("no connection") && text.contains("expired") && !text.contains('\n'), "{text}");
}

#[test]
fn a_key_that_cannot_be_used_says_why() {
    let test = "keys";
    let ours = Authority::new(test, "ours");
    let me = ours.identity(test, "me");
    let build = |key: PathBuf| {
        let tls = TlsConfig { cert: Some(me.cert.clone()), key: Some(key), ..trusting(&ours) };
        Client::builder("https://localhost").tls(tls).build().unwrap_err().to_string()
    };
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\nMIIB";
    for (name, text, expected) in [
        ("new.key", pem("ENCRYPTED PRIVATE KEY", "MIIB"), "encrypted with a passphrase"),
        ("old.key", pem("RSA PRIVATE KEY", old), "encrypted with a passphrase"),
        ("cert.key", fs::read_to_string(&me.cert).unwrap(), "it holds CERTIFICATE"),
        ("empty.key", String::new(), "it is empty"),
        ("der.key", "\u{30}\u{2}".to_owned(), "it is no PEM"),
    ] {
        let error = build(file(test, name, &text));
        assert!(error.starts_with("key: ") && error.contains(name) && error.contains(expected), "{error}");
        assert!(!error.contains("no items found"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_ours() {
    let test = "client";
    let ours = Authority::new(test, "ours");
    let address = serve(&ours.identity(test, "localhost"), Some(&ours), http1);
    let me = ours.identity(test, "caller");
    let known = TlsConfig { cert: Some(me.cert), key: Some(me.key), ..trusting(&ours) };
    call(address, known, false).await.unwrap();
    // The server's refusal comes after the handshake, as TLS 1.3 has it: the connection breaks.
    call(address, trusting(&ours), false).await.unwrap_err();
}

#[tokio::test]
async fn http2_is_agreed_on_by_alpn() {
    let test = "alpn";
    let ours = Authority::new(test, "ours");
    let address = serve(&ours.identity(test, "localhost"), None, http2);
    call(address, trusting(&ours), true).await.unwrap();
}

#[tokio::test]
async fn a_server_in_cleartext_is_told_as_such() {
    let test = "cleartext";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let _ = socket.read(&mut [0; 1024]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let text = refused(call(address, trusting(&Authority::new(test, "ours")), false).await.unwrap_err());
    assert!(text.contains("does not speak TLS"), "{text}");
}

#[test]
fn files_that_hold_no_certificate_are_named_with_what_was_expected() {
    let test = "files";
    let build = |tls: TlsConfig| Client::builder("https://localhost").tls(tls).build().unwrap_err().to_string();
    let empty = file(test, "empty.pem", "nothing here");
    let error = build(TlsConfig { ca: Some(empty.clone()), ..TlsConfig::default() });
    assert!(error.starts_with("ca: found no certificate in ") && error.contains("expected a PEM file"), "{error}");
    let missing = build(TlsConfig { ca: Some("no-such.pem".into()), ..TlsConfig::default() });
    assert!(missing.contains("no-such.pem cannot be read"), "{missing}");
    let ours = Authority::new(test, "ours");
    let me = ours.identity(test, "me");
    let half = build(TlsConfig { cert: Some(me.cert.clone()), ..trusting(&ours) });
    assert!(half.starts_with("cert: found ") && half.contains("in key too"), "{half}");
    let other = ours.identity(test, "other");
    let mixed = build(TlsConfig { cert: Some(me.cert), key: Some(other.key), ..trusting(&ours) });
    assert!(mixed.contains("does not belong to the certificate"), "{mixed}");
}

/// Fails unless it is called by this name, in TLS and in the request.
fn called_by_name(tls: &mut Tls<'_>) {
    let port = tls.sock.local_addr().unwrap().port();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let named =
        tls.conn.server_name() == Some("inventory.test") && head.contains(&format!("host: inventory.test:{port}"));
    let status = if named { "204 No Content" } else { "421 Misdirected Request" };
    let _ = write!(tls, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
}

#[tokio::test]
async fn instances_found_in_dns_prove_that_they_have_the_name_that_was_looked_up() {
    let test = "dns";
    let authority = Authority::new(test, "ours");
    let address = serve(&authority.identity(test, "inventory.test"), None, called_by_name);
    let server = Dns::with("inventory.test. 60 IN A 127.0.0.1").await;
    let (send, receive) = std::sync::mpsc::sync_channel(16);
    let target = format!("dns://{}/inventory.test:{}", server.address, address.port());
    let _service = TestService::builder()
        .set("clients.inventory.target", &target)
        .set("clients.inventory.tls.enabled", "true")
        .set("clients.inventory.tls.ca", authority.file.display().to_string())
        .start(|chassis: Chassis| {
            send.send(chassis.client("inventory").unwrap()).unwrap();
            chassis
        })
        .await
        .unwrap();
    receive.recv().unwrap().call(Method::GET, "/").answer::<()>().await.unwrap();
}
