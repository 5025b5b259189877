//! Whether a caller takes the one media type that a route answers with (RFC 9110, section 12.5.1).

use http::{HeaderMap, header::ACCEPT};

/// Whether `accept` admits `media`, `type/subtype` in lower case.
///
/// A caller that says nothing takes everything, and so does one whose list cannot be read. The most specific range that
/// fits decides. Parameters of a range other than `q` do not matter: `application/json; charset=utf-8` asks for JSON.
pub(super) fn admits(headers: &HeaderMap, media: &str) -> bool {
    let mut lines = headers.get_all(ACCEPT).iter();
    let Some(first) = lines.next() else { return true };
    if first.as_bytes() == b"*/*" || first.as_bytes() == media.as_bytes() {
        return true;
    }
    weigh(std::iter::once(first).chain(lines).filter_map(|line| line.to_str().ok()), media)
}

/// How closely a range names the media type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Anything,
    Kind,
    Exact,
}

fn weigh<'a>(lines: impl Iterator<Item = &'a str>, media: &str) -> bool {
    let mut readable = false;
    let mut best: Option<(Fit, bool)> = None;
    for range in lines.flat_map(ranges) {
        let mut parts = range.split(';');
        let Some((kind, subtype)) = parts.next().and_then(|name| name.trim().split_once('/')) else { continue };
        readable = true;
        let Some(fit) = fit(kind, subtype, media) else { continue };
        let taken = !parts.any(is_zero_weight);
        best = Some(match best {
            Some((known, _)) if known > fit => continue,
            Some((known, before)) if known == fit => (fit, before || taken),
            _ => (fit, taken),
        });
    }
    !readable || best.is_some_and(|(_, taken)| taken)
}

fn fit(kind: &str, subtype: &str, media: &str) -> Option<Fit> {
    let (own_kind, own_subtype) = media.split_once('/')?;
    match (kind, subtype) {
        ("*", "*") => Some(Fit::Anything),
        (kind, _) if !kind.eq_ignore_ascii_case(own_kind) => None,
        (_, "*") => Some(Fit::Kind),
        (_, subtype) => subtype.eq_ignore_ascii_case(own_subtype).then_some(Fit::Exact),
    }
}

/// `q=0`, `q=0.000`: never. A weight that cannot be read is no weight.
fn is_zero_weight(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|weight| weight == 0.0)
}

/// The elements of a list; a comma inside of quotes is no separator.
fn ranges(list: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn admitted(accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).expect("a header"));
        admits(&headers, "application/json")
    }

    #[test]
    fn a_caller_that_says_nothing_takes_everything() {
        assert!(admits(&HeaderMap::new(), "application/json"));
        for nothing in ["", " ", ",", "nonsense", ";q=0"] {
            assert!(admitted(nothing), "{nothing:?}");
        }
    }

    #[test]
    fn ranges_admit_what_they_name() {
        for accept in [
            "*/*",
            "application/*",
            "application/json",
            "Application/JSON;charset=utf-8",
            "text/html, application/xml;q=0.9, */*;q=0.8",
            "text/html,application/json;q=0.001",
            "text/plain;note=\"a, b\", application/json",
            "application/json;q=much",
        ] {
            assert!(admitted(accept), "{accept}");
        }
        for accept in [
            "text/html",
            "text/*",
            "text/event-stream",
            "application/problem+json",
            "text/plain;note=\",application/json,\"",
            "text/plain;note=\"\\\",application/json,\"",
        ] {
            assert!(!admitted(accept), "{accept}");
        }
    }

    #[test]
    fn a_weight_of_zero_excludes_and_the_closest_range_decides() {
        for (accept, admits) in [
            ("application/json;q=0", false),
            ("application/json; Q=0.000, */*", false),
            ("*/*, application/json;q=0", false),
            ("application/*;q=0, */*", false),
            ("application/json, application/*;q=0", true),
            ("*/*;q=0, application/json;q=0.1", true),
            ("application/json;version=2;q=0, application/json", true),
            ("*/*;q=0", false),
        ] {
            assert_eq!(admitted(accept), admits, "{accept}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/html"));
        assert!(!admits(&headers, "application/json"));
        headers.append(ACCEPT, HeaderValue::from_static("application/json"));
        assert!(admits(&headers, "application/json"));
    }
}
