//! Which protocol a receiver speaks, asked when an export has failed.
//!
//! OTLP over gRPC is HTTP/2, OTLP over HTTP is HTTP/1.1 to almost every receiver, and to each of them the other one is
//! noise: what fails is "the connection". So the receiver is asked for a word in the protocol that was not tried.

use http::Uri;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Protocol;

/// What a client says first over HTTP/2 (RFC 9113, section 3.4), with settings that ask for nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// As much of an answer as tells the protocol: the head of a frame, or the word `HTTP/1.`.
const ENOUGH: usize = 9;

/// What to set, when the receiver speaks the other protocol; `None` when it does not, or does not answer.
pub(super) async fn other_protocol(url: &Uri, tried: Protocol, signal: &str) -> Option<String> {
    let host = url.host()?;
    let port = url.port_u16().unwrap_or(80);
    let question = match tried {
        Protocol::HttpProtobuf => PREFACE.to_vec(),
        Protocol::Grpc => format!("GET / HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n").into_bytes(),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((host, port)).await.ok()?;
    stream.write_all(&question).await.ok()?;
    let mut answer = Vec::with_capacity(ENOUGH);
    while answer.len() < ENOUGH && stream.read_buf(&mut answer).await.ok()? > 0 {}
    hint(&answer, tried, signal)
}

/// What the first bytes of an answer say, when they are of the protocol that was not tried.
fn hint(answer: &[u8], tried: Protocol, signal: &str) -> Option<String> {
    // A server's first frame is SETTINGS, on no stream.
    let http2 = answer.len() >= ENOUGH && answer[3] == 0x04 && answer[5..ENOUGH] == [0; 4];
    let http1 = answer.starts_with(b"HTTP/1.");
    let (speaks, tried, protocol) = match tried {
        Protocol::HttpProtobuf if http2 => ("HTTP/2, as OTLP over gRPC is", "OTLP over HTTP", "grpc"),
        Protocol::Grpc if http1 => ("HTTP/1.1, as OTLP over HTTP is", "OTLP over gRPC", "http/protobuf"),
        _ => return None,
    };
    Some(format!(
        "the receiver speaks {speaks}, and it was sent {tried}: set OTEL_EXPORTER_OTLP_PROTOCOL={protocol}, or \
         OTEL_EXPORTER_OTLP_{signal}_PROTOCOL where that is set, or the endpoint to the other port (gRPC has 4317, HTTP 4318)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0@\0";
        let says = |answer: &[u8], tried| hint(answer, tried, "TRACES");
        assert!(says(settings, Protocol::HttpProtobuf).is_some_and(|hint| hint.contains("PROTOCOL=grpc")));
        let bad_request = b"HTTP/1.1 400 Bad Request\r\n";
        assert!(says(bad_request, Protocol::Grpc).is_some_and(|hint| hint.contains("PROTOCOL=http/protobuf")));
        for (answer, tried) in [
            (&settings[..], Protocol::Grpc),
            (bad_request, Protocol::HttpProtobuf),
            (b"", Protocol::Grpc),
            (b"220 smtp.example ESMTP", Protocol::HttpProtobuf),
            (b"\x15\x03\x01\0\x02\x02\x0a\0\0", Protocol::HttpProtobuf),
        ] {
            assert_eq!(says(answer, tried), None, "{answer:?}");
        }
    }
}
