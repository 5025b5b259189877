//! The cookies of a request as one field.

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// Joins several `cookie` fields to one, with `; ` between them.
///
/// HTTP/2 lets a caller send each cookie in a field of its own, which compresses better, and has them joined before an
/// application sees them (RFC 9113, section 8.2.3): most readers look at the first field. Over HTTP/1.1 a caller should send
/// one (RFC 6265, section 5.4); several are joined as well.
pub(super) fn join(headers: &mut HeaderMap) {
    // No name comes twice in most requests.
    if headers.len() > headers.keys_len() {
        join_several(headers);
    }
}

#[cold]
fn join_several(headers: &mut HeaderMap) {
    let fields: Vec<_> = headers.get_all(COOKIE).iter().collect();
    if fields.len() < 2 {
        return;
    }
    let is_sensitive = fields.iter().any(|field| field.is_sensitive());
    let pairs: Vec<_> =
        fields.iter().map(|field| field.as_bytes().trim_ascii()).filter(|field| !field.is_empty()).collect();
    // Pieces of valid values are a valid value.
    let Ok(mut joined) = HeaderValue::from_bytes(&pairs.join(&b"; "[..])) else { return };
    joined.set_sensitive(is_sensitive);
    headers.insert(COOKIE, joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(fields: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        headers.append("accept", HeaderValue::from_static("a/b"));
        headers.append("accept", HeaderValue::from_static("c/d"));
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_str(field).expect("a header"));
        }
        join(&mut headers);
        assert_eq!(headers.get_all("accept").iter().count(), 2, "other fields stay");
        headers.get_all(COOKIE).iter().map(|field| field.to_str().expect("a text").to_owned()).collect()
    }

    #[test]
    fn cookie_fields_become_one_in_their_order() {
        assert_eq!(joined(&[]), [""; 0]);
        assert_eq!(joined(&["a=1"]), ["a=1"]);
        assert_eq!(joined(&["a=1", "b=2; c=3", "a=4"]), ["a=1; b=2; c=3; a=4"]);
        assert_eq!(joined(&["a=1", "", "b=\"x, y\""]), ["a=1; b=\"x, y\""]);
    }
}
