//! `7.0` where a whole number is wanted.
//!
//! JSON has one kind of number, and to JSON Schema, and so to the OpenAPI document, `7.0` and `7e0` are whole numbers like
//! `7`. serde tells them apart by how they are written. Callers whose language has only floating point write them so.

use serde::Deserialize;

use super::by_name;

/// Reads a body once more with such numbers written plainly, when it was one of them that did not fit.
///
/// Only a request that would be refused pays for it, and all that the first reading refuses else, the second refuses too.
#[cold]
pub(super) fn read<T: for<'de> Deserialize<'de>>(body: &str, error: &serde_json::Error) -> Option<T> {
    if !error.is_data() || !error.to_string().contains("floating point") {
        return None;
    }
    let body = plain(body.as_bytes());
    by_name::read(std::str::from_utf8(&body).ok()?).ok()
}

/// The same JSON with every whole number written without point and exponent. The body is JSON already.
fn plain(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            b'"' => string(rest),
            b'-' | b'0'..=b'9' => {
                let length =
                    rest.iter().take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
                let length = length.count();
                match whole(&rest[..length]) {
                    Some(number) => text.extend_from_slice(number.to_string().as_bytes()),
                    None => text.extend_from_slice(&rest[..length]),
                }
                rest = &rest[length..];
                continue;
            }
            _ => 1,
        };
        text.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
    }
    text
}

/// From the opening quote to behind the closing one.
fn string(text: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn whole(number: &[u8]) -> Option<i64> {
    if !number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return None;
    }
    let number: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    // From 2^53 on a floating point number may be the neighbour of what was written (RFC 8259 §6): not taken for it.
    (number.fract() == 0.0 && number.abs() < 2.0_f64.powi(53)).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_twice<T: for<'de> Deserialize<'de>>(body: &str) -> Result<T, String> {
        serde_json::from_str(body).or_else(|error| read(body, &error).ok_or_else(|| error.to_string()))
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point_or_an_exponent() {
        assert_eq!(read_twice::<Vec<u32>>("[7.0, 1e3, 70E-1, 0.0, 8]"), Ok(vec![7, 1000, 7, 0, 8]));
        assert_eq!(read_twice::<Vec<i64>>("[-7.0, -0.0]"), Ok(vec![-7, 0]));
        assert_eq!(read_twice::<(u8, f64, String)>(r#"[1.0, 2.5, "a\"7.0"]"#), Ok((1, 2.5, "a\"7.0".to_owned())));
    }

    #[test]
    fn what_is_no_whole_number_of_the_type_stays_refused() {
        for body in ["7.5", "256.0", "-1.0", "1e300", "[7.0]", "7.0 7.0"] {
            assert!(read_twice::<u8>(body).is_err(), "{body}");
        }
        assert!(read_twice::<u64>("9007199254740993.0").is_err(), "it would be taken for 9007199254740992");
    }
}
