//! The known name that a mistyped one most likely means.

use super::env::{PREFIX, SEPARATOR};

/// How many slips a suggestion bridges at most. Chosen: a name with more of them is another name.
const MOST_SLIPS: usize = 4;

/// The candidate that a mistyped name most likely means; none when all are too far.
///
/// Only the parts that differ are compared, and a third of their letters may be wrong. A prefix that all candidates share,
/// such as `CHASSIS_`, brings none of them nearer.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .filter_map(|candidate| Some((slips(word, candidate)?, candidate)))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, near)| near)
}

/// How many slips lie between the two; none when they are too many.
fn slips(word: &str, candidate: &str) -> Option<usize> {
    let (word, candidate) = (word.to_lowercase(), candidate.to_lowercase());
    let (mut these, mut those) = (parts(&word), parts(&candidate));
    while these.first().is_some_and(|first| those.first() == Some(first)) {
        these.remove(0);
        those.remove(0);
    }
    while these.last().is_some_and(|last| those.last() == Some(last)) {
        these.pop();
        those.pop();
    }
    let (these, those) = (these.join("."), those.join("."));
    let longest = these.chars().count().max(those.chars().count());
    let slips = strsim::damerau_levenshtein(&these, &those);
    (slips <= (longest / 3).min(MOST_SLIPS)).then_some(slips)
}

/// `http.address` and `chassis_http__address` in their parts.
fn parts(name: &str) -> Vec<&str> {
    let prefix = PREFIX.to_lowercase();
    let (first, rest) = match name.strip_prefix(&prefix) {
        Some(rest) => (Some(&name[..prefix.len()]), rest),
        None => (None, name),
    };
    let rest = rest.split('.').flat_map(|part| part.split(SEPARATOR)).filter(|part| !part.is_empty());
    first.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_a_near_name_is_suggested() {
        let keys = ["http.address", "http.body_limit", "log", "admin.token", "app.ttl"];
        for (word, expected) in [
            ("http.adress", Some("http.address")),
            ("htpp.address", Some("http.address")),
            ("http.bodylimit", Some("http.body_limit")),
            ("lgo", Some("log")),
            ("logg", Some("log")),
            ("foo", None),
            ("http.foo", None),
            ("http.x", None),
            ("app.tt", Some("app.ttl")),
            ("app.xy", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys.into_iter()), expected, "{word}");
        }
        let variables = ["CHASSIS_LOG", "CHASSIS_HTTP__ADDRESS", "CHASSIS_PROFILE"];
        for (word, expected) in [
            ("CHASSIS_FOO", None),
            ("CHASSIS_LOGS", Some("CHASSIS_LOG")),
            ("CHASSIS_HTTP_ADDRESS", Some("CHASSIS_HTTP__ADDRESS")),
            ("CHASSIS_HTTP__ADRESS", Some("CHASSIS_HTTP__ADDRESS")),
            ("CHASSIS_PROFIL", Some("CHASSIS_PROFILE")),
            ("CHASSIS_MODE", None),
        ] {
            assert_eq!(nearest(word, variables.into_iter()), expected, "{word}");
        }
    }
}
