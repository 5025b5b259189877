//! The length of an answer's body, as its head announces it.
//!
//! The head is what the caller reads, so it decides: the answer is complete when the announced bytes were handed over, and
//! broken off when its body ends before (RFC 9112, section 6.3; RFC 9113, section 8.1.1). The head is corrected where it
//! contradicts itself or a body of known size, since the transports would then send what no caller can read.

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

/// How much body the transport has to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// None: the answer is whole with its head, whatever its body holds.
    NoBody,
    /// This many bytes, and no others.
    Announced(u64),
    /// As many as come before the body's own end.
    Open,
}

impl Length {
    /// Reads the length from an answer's head, and corrects the head.
    ///
    /// `size` is the body's size where it is known.
    pub(super) fn of(
        method: &Method,
        version: Version,
        status: StatusCode,
        headers: &mut HeaderMap,
        size: Option<u64>,
    ) -> Self {
        // RFC 9110, section 6.4.1.
        if *method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
            // HEAD says what GET would say. hyper takes the length of a body that it is not given for none.
            if *method == Method::HEAD
                && let Some(size) = size.filter(|size| *size > 0)
                && !headers.contains_key(TRANSFER_ENCODING)
            {
                headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(size));
            }
            return Self::NoBody;
        }
        let announced = announced(headers);
        // Chunks have their own lengths (RFC 9112, section 6.1); HTTP/2 has no such header.
        let chunked = version != Version::HTTP_2 && headers.contains_key(TRANSFER_ENCODING);
        let length = if chunked { size } else { size.or(announced) };
        let keep = match length {
            Some(length) if !chunked => Some(length),
            _ => None,
        };
        match keep {
            Some(length) if announced == Some(length) => {}
            // An answer of known size is whole: it goes out with the size that it has.
            Some(length) if headers.contains_key(CONTENT_LENGTH) => {
                tracing::warn!(length, "an answer announced another content-length than its body has; corrected");
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            Some(_) => {}
            None if headers.remove(CONTENT_LENGTH).is_some() => {
                tracing::warn!("an answer had a content-length that is none; taken out");
            }
            None => {}
        }
        length.map_or(Self::Open, Self::Announced)
    }
}

/// The one length that all `content-length` lines agree on.
fn announced(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(|value| {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u64>().ok())
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length, and the `content-length` that goes out.
    fn of(
        method: &Method,
        version: Version,
        status: u16,
        lines: &[(&'static str, &'static str)],
        size: Option<u64>,
    ) -> (Length, String) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let length = Length::of(method, version, status, &mut headers, size);
        let sent: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().expect("text")).collect();
        (length, sent.join(", "))
    }

    #[test]
    fn the_head_decides_how_long_a_body_is() {
        use Length::{Announced, NoBody, Open};
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        for version in [h1, h2] {
            for (method, status, lines, size, length, sent) in [
                (Method::GET, 200, &[("content-length", "10")][..], None, Announced(10), "10"),
                (Method::GET, 206, &[("content-length", "0")], None, Announced(0), "0"),
                (Method::GET, 200, &[], None, Open, ""),
                (Method::GET, 200, &[], Some(10), Announced(10), ""),
                (Method::GET, 200, &[("content-length", "10")], Some(10), Announced(10), "10"),
                // What is whole in memory is sent whole.
                (Method::GET, 200, &[("content-length", "30")], Some(10), Announced(10), "10"),
                (Method::GET, 200, &[("content-length", "30")], Some(0), Announced(0), "0"),
                (Method::GET, 200, &[("content-length", "ten")], None, Open, ""),
                (Method::GET, 200, &[("content-length", "+10")], None, Open, ""),
                (Method::GET, 200, &[("content-length", "10"), ("content-length", "11")], None, Open, ""),
                (
                    Method::GET,
                    200,
                    &[("content-length", "10"), ("content-length", "10")],
                    None,
                    Announced(10),
                    "10, 10",
                ),
                (Method::HEAD, 200, &[("content-length", "30")], Some(0), NoBody, "30"),
                (Method::HEAD, 200, &[], Some(30), NoBody, "30"),
                (Method::HEAD, 200, &[], None, NoBody, ""),
                (Method::GET, 304, &[("content-length", "30")], Some(0), NoBody, "30"),
                (Method::GET, 204, &[], Some(0), NoBody, ""),
            ] {
                let found = of(&method, version, status, lines, size);
                assert_eq!(found, (length, sent.to_owned()), "{method} {version:?} {status} {lines:?} {size:?}");
            }
        }
        let chunked = &[("content-length", "10"), ("transfer-encoding", "chunked")][..];
        assert_eq!(of(&Method::GET, h1, 200, chunked, None), (Open, String::new()));
        assert_eq!(of(&Method::GET, h2, 200, chunked, None), (Announced(10), "10".to_owned()));
    }
}
