//! Which names have values that must never be written.

/// The usual names of credentials.
pub(crate) const DEFAULT_NAMES: [&str; 12] = [
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "cookie",
    "set-cookie",
    "api_key",
    "apikey",
    "access_token",
    "refresh_token",
    "client_secret",
];

/// What stands in place of a secret.
pub(crate) const HIDDEN: &str = "***";

/// Decides by a field's name whether its value is hidden.
#[derive(Debug)]
pub(crate) struct Redactor {
    /// Lower case, `-` written as `_`.
    names: Vec<Box<[u8]>>,
    /// Whether some name ends in this byte; most field names are done with here.
    last: [bool; 256],
}

impl Redactor {
    pub(crate) fn new(names: &[String]) -> Self {
        let names = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        let names: Vec<Box<[u8]>> = names.map(|name| name.bytes().map(fold).collect()).collect();
        let mut last = [false; 256];
        for name in &names {
            last[name[name.len() - 1] as usize] = true;
        }
        Self { names, last }
    }

    /// Whether `name` is one of the names, or ends in one behind `_`, `-` or `.`.
    #[inline]
    pub(crate) fn hides(&self, name: &str) -> bool {
        let name = name.as_bytes();
        name.last().is_some_and(|byte| self.last[fold(*byte) as usize]) && self.names.iter().any(|s| ends_in(name, s))
    }

    /// The same for the name of a query parameter, as it stands in the query: percent-encoded, perhaps
    /// `user[password]`.
    pub(crate) fn hides_parameter(&self, name: &str) -> bool {
        let name = if name.contains('%') { &decode(name) } else { name };
        let name = name.trim_end_matches(']');
        self.hides(name) || name.rsplit_once('[').is_some_and(|(_, inner)| self.hides(inner))
    }
}

fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

fn ends_in(name: &[u8], secret: &[u8]) -> bool {
    let Some(start) = name.len().checked_sub(secret.len()) else { return false };
    let separated = start == 0 || matches!(name[start - 1], b'_' | b'-' | b'.');
    separated && name[start..].iter().zip(secret).all(|(a, b)| fold(*a) == *b)
}

fn decode(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| name.get(at + 1..at + 3)).flatten();
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], hidden: bool) {
        let redactor = Redactor::new(&DEFAULT_NAMES.map(str::to_owned));
        for name in names {
            assert_eq!(redactor.hides(name), hidden, "{name}");
        }
    }

    #[test]
    fn names_of_secrets_are_hidden_whole_or_behind_a_separator() {
        check(&["password", "PassWord", "db_password", "user.token", "x-api-key", "Set-Cookie", "csrf-token"], true);
        check(&["", "tokens", "max_tokens", "broken", "passwords", "tokenizer", "password_changed", "order_id"], false);
    }

    #[test]
    fn parameters_are_hidden_however_they_are_spelled() {
        let redactor = Redactor::new(&DEFAULT_NAMES.map(str::to_owned));
        for name in ["token", "pass%77ord", "user[password]", "user%5Bpassword%5D", "%74oken"] {
            assert!(redactor.hides_parameter(name), "{name}");
        }
        for name in ["page", "%zz", "%", "%é", "a[b]"] {
            assert!(!redactor.hides_parameter(name), "{name}");
        }
    }

    #[test]
    fn an_empty_list_hides_nothing() {
        assert!(!Redactor::new(&[]).hides("password"));
    }
}
