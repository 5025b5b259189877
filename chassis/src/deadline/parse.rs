use std::time::Duration;

/// Reads a `grpc-timeout` value: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
///
/// `None` when it is malformed; gRPC servers then answer as if no timeout was sent.
#[must_use]
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.len() > 8 {
        return None;
    }
    let number = decimal(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Reads the HTTP timeout header: a whole number of milliseconds, at most ten digits. `None` when it is malformed.
#[must_use]
pub fn http_timeout(value: &[u8]) -> Option<Duration> {
    if value.len() > 10 { None } else { decimal(value).map(Duration::from_millis) }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_read_in_all_units() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("10u", Duration::from_micros(10)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(grpc_timeout(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_malformed_timeout_is_no_timeout() {
        for text in ["", "S", "1", "1s", "-1S", "1.5S", "999999999S", " 1S", "1S "] {
            assert_eq!(grpc_timeout(text.as_bytes()), None, "{text}");
        }
        for text in ["", "1s", "-1", "1.5", "99999999999"] {
            assert_eq!(http_timeout(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_http_timeout_is_milliseconds() {
        assert_eq!(http_timeout(b"250"), Some(Duration::from_millis(250)));
        assert_eq!(http_timeout(b"0"), Some(Duration::ZERO));
    }
}
