//! The keys of `#[chassis::client]`, and of a call's route.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::{
    Attribute, Expr, LitStr, Meta, Token,
    parse::{ParseStream, Parser},
};

use crate::{fallback::Mistakes, value, words::listed};

/// The keys of a route that mean something to a client.
const KEYS: [&str; 2] = ["timeout", "idempotent"];
/// Those that are the service's affair.
const SERVICE_KEYS: [&str; 5] = ["concurrency", "body_limit", "deprecated", "sunset", "tags"];
/// The keys of the trait.
const TRAIT_KEYS: [&str; 2] = ["version", "path"];
const SERVICE_TRAIT_KEYS: [&str; 2] = ["tag", "grpc"];

/// A route attribute, as a client reads it.
pub(super) struct Route {
    pub(super) verb: Ident,
    /// As written, for the place of a mistake, and with the prefix.
    pub(super) template: LitStr,
    pub(super) full: LitStr,
    pub(super) timeout: Option<Duration>,
    pub(super) idempotent: bool,
}

impl Route {
    pub(super) fn takes_query(&self) -> bool {
        self.verb == "get" || self.verb == "head" || self.verb == "delete"
    }

    pub(super) fn method(&self) -> Ident {
        Ident::new(&self.verb.to_string().to_uppercase(), self.verb.span())
    }

    pub(super) fn read(attribute: &Attribute, prefix: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let verb = attribute.path().segments.last()?.ident.clone();
        let no_path = format!("a route needs its path: write `#[{verb}(\"/orders/{{id}}\")]`");
        let Meta::List(list) = &attribute.meta else {
            mistakes.on(attribute, no_path);
            return None;
        };
        if list.tokens.is_empty() {
            mistakes.on(attribute, no_path);
            return None;
        }
        let read = |input: ParseStream<'_>| {
            if !input.peek(LitStr) {
                return Err(syn::Error::new(input.span(), &no_path));
            }
            let template: LitStr = input.parse()?;
            let own = template.value();
            // `#[get("/")]` under a prefix is the prefix itself, as it is for a service.
            let own = if own == "/" && !prefix.is_empty() { "" } else { &own };
            let full = LitStr::new(&format!("{prefix}{own}"), template.span());
            let mut route = Self { verb, template, full, timeout: None, idempotent: false };
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
            read_keys(input, mistakes, &mut |key, value, mistakes| match (&*key.to_string(), value) {
                ("timeout", Some(value)) => {
                    route.timeout = mistakes.note(value::duration(&value.to_token_stream()));
                }
                ("timeout", None) => mistakes.on(key, "`timeout` needs a value: write `timeout = \"2s\"`"),
                ("idempotent", None) => route.idempotent = true,
                ("idempotent", Some(value)) => mistakes.on(value, "`idempotent` has no value: write it alone"),
                (name, _) if SERVICE_KEYS.contains(&name) => {
                    mistakes
                        .on(key, format!("`{name}` is the service's affair, a client has {}: remove it", both(&KEYS)));
                }
                (name, _) => mistakes.on(key, format!("found the key `{name}`, expected {}", listed(KEYS))),
            })?;
            Ok(route)
        };
        let result = read.parse2(list.tokens.clone());
        mistakes.note(result)
    }
}

fn both(names: &[&str; 2]) -> String {
    format!("`{}` and `{}`", names[0], names[1])
}

type Take<'a> = dyn FnMut(&Ident, Option<Expr>, &mut Mistakes) + 'a;

/// Keys with or without a value, each of them once.
fn read_keys(input: ParseStream<'_>, mistakes: &mut Mistakes, take: &mut Take<'_>) -> syn::Result<()> {
    let mut seen: Vec<Ident> = Vec::new();
    while !input.is_empty() {
        let key: Ident = input.parse()?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Some(input.parse()?)
        } else {
            None
        };
        if seen.contains(&key) {
            mistakes.on(&key, format!("`{key}` is given twice"));
        } else {
            take(&key, value, mistakes);
        }
        seen.push(key);
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

/// What the keys of the trait put before every path: `/v1/shop`.
pub(super) fn prefix(keys: &TokenStream, mistakes: &mut Mistakes) -> String {
    let (mut version, mut path) = (String::new(), String::new());
    let mut found = Mistakes::default();
    let read = |input: ParseStream<'_>| {
        read_keys(input, &mut found, &mut |key, value, mistakes| {
            let text = value.as_ref().map(|value| value::text(&value.to_token_stream()));
            match (&*key.to_string(), text) {
                ("version", Some(Ok(text))) => {
                    let value = text.value();
                    let is_segment = !value.is_empty()
                        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
                    if is_segment {
                        version = format!("/{value}");
                    } else {
                        mistakes.on(text, format!("found {value:?}, expected one segment of a path, such as \"v1\""));
                    }
                }
                ("path", Some(Ok(text))) => {
                    let value = text.value();
                    if value.len() > 1 && value.starts_with('/') && !value.ends_with('/') {
                        path = value;
                    } else {
                        mistakes.on(
                            text,
                            format!(
                                "found {value:?}, expected a path that starts with a slash and ends without: \"/shop\""
                            ),
                        );
                    }
                }
                (name, Some(Err(error))) if TRAIT_KEYS.contains(&name) => {
                    mistakes.note::<()>(Err(error));
                }
                (name, None) if TRAIT_KEYS.contains(&name) => {
                    mistakes.on(key, format!("`{name}` needs a value: write `{name} = \"…\"`"));
                }
                (name, _) if SERVICE_TRAIT_KEYS.contains(&name) => {
                    let message =
                        format!("`{name}` is the service's affair, a client has {}: remove it", both(&TRAIT_KEYS));
                    mistakes.on(key, message);
                }
                (name, _) => mistakes.on(key, format!("found the key `{name}`, expected {}", listed(TRAIT_KEYS))),
            }
        })
    };
    let result = read.parse2(keys.clone());
    mistakes.extend(found);
    mistakes.note(result);
    version + &path
}
