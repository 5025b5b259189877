//! Names: how they are listed, compared and written in another case.

use quote::ToTokens;

/// Names for an "expected" of a message: `` `a`, `b` or `c` ``.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// The known name that was most likely meant, if any is near: a third of the letters may differ, of the longer one. Names of
/// one or two letters are near to nothing else.
pub(crate) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(&flat(found), &flat(name)), name))
        .filter(|(distance, name)| *distance <= found.chars().count().max(name.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Whether one name was likely written for the other: nearly the same letters, or `order_id` for `id`.
pub(crate) fn alike(a: &str, b: &str) -> bool {
    let ends_with = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('_'));
    nearest(a, [b]).is_some() || ends_with(a, b) || ends_with(b, a)
}

/// `orderId` and `order_id` differ in nothing that a person means.
fn flat(name: &str) -> String {
    name.replace(['_', '-'], "").to_lowercase()
}

/// How many letters have to be put in, taken out, replaced, or swapped with the next one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i.max(j)
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swapped = if is_swap { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                replaced.min(swapped).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

/// `GetOrder` is `get_order`, `HTTPError` is `http_error`: the rule by which prost names the methods of a service (heck's).
/// `service/descriptors.rs` of the chassis has it, too.
pub(crate) fn snake_case(name: &str) -> String {
    let name = name.trim_start_matches("r#");
    let mut snake = String::new();
    for word in name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !snake.is_empty() {
            snake.push('_');
        }
        // Of the letter before; a digit belongs to it.
        let mut was_upper = None;
        let mut letters = word.chars().peekable();
        while let Some(letter) = letters.next() {
            let next_is_lower = letters.peek().is_some_and(|next| next.is_lowercase());
            if letter.is_uppercase() && was_upper.is_some_and(|upper: bool| !upper || next_is_lower) {
                snake.push('_');
            }
            if letter.is_uppercase() || letter.is_lowercase() {
                was_upper = Some(letter.is_uppercase());
            }
            snake.extend(letter.to_lowercase());
        }
    }
    // Of underscores alone nothing would be left.
    if snake.is_empty() { name.to_owned() } else { snake }
}

/// `get_order` is `GetOrder`.
pub(crate) fn pascal_case(name: &str) -> String {
    let words = name.trim_start_matches("r#").split('_');
    let upper = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>())
    };
    words.filter_map(upper).collect()
}

/// Tokens as a person writes them.
pub(crate) fn plain(tokens: impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (spaced, close) in [
        ("& ", "&"),
        (" :: ", "::"),
        (" :", ":"),
        (" < ", "<"),
        ("< ", "<"),
        (" <", "<"),
        (" >", ">"),
        (" ,", ","),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
    ] {
        text = text.replace(spaced, close);
    }
    text
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["timeout", "concurrency", "body_limit", "idempotent", "tags"];
        for (found, expected) in [
            ("timeut", Some("timeout")),
            ("tiemout", Some("timeout")),
            ("bodyLimit", Some("body_limit")),
            ("body-limit", Some("body_limit")),
            ("tag", Some("tags")),
            ("idempotence", Some("idempotent")),
            ("priority", None),
            ("x", None),
            ("tax", None),
            ("foo", None),
        ] {
            assert_eq!(nearest(found, known), expected, "{found}");
        }
    }

    #[test]
    fn names_for_the_same_thing_are_alike() {
        for (a, b) in [("id", "order_id"), ("order_id", "id"), ("orderId", "order_id"), ("custmer", "customer")] {
            assert!(alike(a, b), "{a} {b}");
        }
        for (a, b) in [("id", "order"), ("page", "id"), ("tenant", "customer"), ("id", "ip"), ("a", "b")] {
            assert!(!alike(a, b), "{a} {b}");
        }
    }

    #[test]
    fn names_change_their_case_as_prost_does_it() {
        for (name, snake) in [
            ("Unknown", "unknown"),
            ("SoldOut", "sold_out"),
            ("GetOrder", "get_order"),
            ("HTTPError", "http_error"),
            ("HTTPCode", "http_code"),
            ("GetHTTPOrder", "get_http_order"),
            ("orderId", "order_id"),
            ("orderIDList", "order_id_list"),
            ("NoIPv6", "no_i_pv6"),
            ("GetV2Order", "get_v2_order"),
            ("V2ID", "v2id"),
            ("Get2Orders", "get2_orders"),
            ("line_1A", "line_1a"),
            ("Already_Gone", "already_gone"),
            ("_id", "id"),
            ("id_", "id"),
            ("a__b", "a_b"),
        ] {
            assert_eq!(snake_case(name), snake);
        }
        for (name, pascal) in [("order", "Order"), ("get_order", "GetOrder"), ("r#move", "Move"), ("a__b_", "AB")] {
            assert_eq!(pascal_case(name), pascal);
        }
    }

    #[test]
    fn tokens_are_shown_as_a_person_writes_them() {
        for (tokens, text) in [
            (quote!(&mut self), "&mut self"),
            (quote!(self: Arc<Self>), "self: Arc<Self>"),
            (quote!(&[Order]), "&[Order]"),
            (quote!(std::borrow::Cow<'_, str>), "std::borrow::Cow<'_, str>"),
        ] {
            assert_eq!(plain(tokens), text);
        }
    }
}
