//! Media types, as far as the content of a message is read by them.

const JSON_SUFFIX: &[u8] = b"+json";

/// Returns whether a content type is JSON: `application/json`, or `application/*+json` (RFC 6839, section 3.1).
///
/// Names are compared without regard to case (RFC 9110, section 8.3.1). Parameters have no effect: JSON has none, and a
/// `charset` changes nothing, because JSON between systems is UTF-8 (RFC 8259, sections 8.1 and 11).
pub(crate) fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let mut names = essence.splitn(2, |byte| *byte == b'/');
    let (Some(kind), Some(subtype)) = (names.next(), names.next()) else { return false };
    let suffix = subtype.len().checked_sub(JSON_SUFFIX.len()).map(|start| &subtype[start..]);
    kind.eq_ignore_ascii_case(b"application")
        && (subtype.eq_ignore_ascii_case(b"json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(JSON_SUFFIX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_parameter_has_an_effect_on_json() {
        for json in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=utf8",
            "application/json; charset=\"UTF-8\"; v=1",
            "application/json ; charset=latin1",
            "application/json; charset",
            "application/json;",
            "application/vnd.shop.v2+json; charset=utf8",
            "application/problem+json",
            "application/merge-patch+JSON",
        ] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in ["", ";", "application", "json", "text/json", "text/plain", "application/jsonp", "application/xml"]
        {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
        assert!(is_json(b"application/json; charset=\xff"), "a parameter that is no text");
    }
}
