//! `key = value` lists of attributes, read by a table.

use proc_macro2::{Ident, TokenStream, TokenTree};

use crate::{
    fallback::Mistakes,
    words::{listed, nearest},
};

/// A key that an attribute takes.
pub(crate) struct Key<T> {
    pub(crate) name: &'static str,
    /// How it is written.
    pub(crate) example: &'static str,
    pub(crate) set: Set<T>,
}

/// What a key does.
pub(crate) enum Set<T> {
    /// It stands alone.
    Flag(fn(&mut T)),
    /// It has a value.
    Value(fn(&mut T, &TokenStream) -> syn::Result<()>),
}

/// Reads keys; each that is wrong is noted, and the others are read all the same.
pub(crate) fn read<T>(
    entries: impl IntoIterator<Item = TokenStream>,
    known: &[Key<T>],
    into: &mut T,
    mistakes: &mut Mistakes,
) {
    let mut seen: Vec<String> = Vec::new();
    for entry in entries {
        let mut tokens = entry.clone().into_iter();
        let Some(TokenTree::Ident(name)) = tokens.next() else {
            mistakes.on(&entry, format!("expected a key, such as `{}`", known.first().map_or("", |key| key.example)));
            continue;
        };
        let word = name.to_string();
        let Some(key) = known.iter().find(|key| key.name == word) else {
            mistakes.on(&name, unknown(&word, known));
            continue;
        };
        if seen.contains(&word) {
            mistakes.on(&name, format!("`{name}` is given twice: keep one"));
            continue;
        }
        seen.push(word);
        let equals = tokens.next();
        let value: TokenStream = tokens.collect();
        match (&key.set, equals) {
            (Set::Flag(set), None) => set(into),
            (Set::Flag(_), Some(_)) => {
                mistakes.on(&entry, format!("`{name}` takes no value: write `{name}` alone, or leave it out"));
            }
            (Set::Value(set), Some(TokenTree::Punct(sign))) if sign.as_char() == '=' && !value.is_empty() => {
                match one_value(&name, &value) {
                    Ok(()) => {
                        mistakes.note(set(into, &value));
                    }
                    error => {
                        mistakes.note(error);
                    }
                }
            }
            (Set::Value(_), None) => {
                mistakes.on(&name, format!("`{name}` needs a value: write `{}`", key.example));
            }
            (Set::Value(_), Some(_)) => {
                mistakes.on(&entry, format!("`{name}` takes its value after `=`: write `{}`", key.example));
            }
        }
    }
}

/// `timeout = "2s" idempotent`: a comma was forgotten.
fn one_value(name: &Ident, value: &TokenStream) -> syn::Result<()> {
    let mut tokens = value.clone().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Literal(_)), Some(next @ TokenTree::Ident(_))) => {
            Err(syn::Error::new_spanned(next, format!("expected a comma after the value of `{name}`")))
        }
        _ => Ok(()),
    }
}

fn unknown<T>(found: &str, known: &[Key<T>]) -> String {
    let names = || known.iter().map(|key| key.name);
    let meant = nearest(found, names()).and_then(|name| known.iter().find(|key| key.name == name));
    match meant {
        Some(key) => format!("found the key `{found}`, did you mean `{}`? Write `{}`", key.name, key.example),
        None => format!("found the key `{found}`, expected {}", listed(names())),
    }
}

/// What stands between the commas of an attribute; nothing for a comma at the end.
pub(crate) fn entries(tokens: TokenStream) -> Vec<TokenStream> {
    let mut entries = vec![TokenStream::new()];
    // A comma in `Orders<A, B>` is inside.
    let mut depth = 0_u32;
    let mut last = ' ';
    for token in tokens {
        let sign = match &token {
            TokenTree::Punct(punct) => punct.as_char(),
            _ => ' ',
        };
        match sign {
            '<' => depth += 1,
            '>' if !matches!(last, '-' | '=') => depth = depth.saturating_sub(1),
            _ => {}
        }
        last = sign;
        if sign == ',' && depth == 0 {
            entries.push(TokenStream::new());
        } else if let Some(entry) = entries.last_mut() {
            entry.extend([token]);
        }
    }
    entries.retain(|entry| !entry.is_empty());
    entries
}
