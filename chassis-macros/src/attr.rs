//! Attributes to values: `#[get("/orders/{id}", timeout = "2s")]`.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Attribute, Expr, ExprLit, Ident, Lit, LitStr, Meta, Token,
    parse::{ParseStream, Parser},
};

use crate::{
    fallback::Mistakes,
    paths::{Duration as DurationPath, RoutePolicy},
};

/// The methods a route can have, as the attribute has them, and as HTTP does.
const VERBS: [(&str, &str); 6] =
    [("get", "GET"), ("post", "POST"), ("put", "PUT"), ("patch", "PATCH"), ("delete", "DELETE"), ("head", "HEAD")];

type SetKey = fn(&mut Policy, &Expr) -> syn::Result<()>;

/// The policy keys: a new one is a row here, a field in [`Policy`], and a line in [`Policy::expand`].
const POLICY_KEYS: [(&str, SetKey); 1] =
    [("timeout", |policy, value| duration(value).map(|timeout| policy.timeout = Some(timeout)))];

/// What is asked of a route beyond its handler.
#[derive(Default)]
pub(crate) struct Policy {
    timeout: Option<Duration>,
}

impl Policy {
    /// The policy as a `RoutePolicy`.
    pub(crate) fn expand(&self) -> TokenStream {
        let timeout = self.timeout.map(|timeout| {
            let timeout = expand_duration(timeout);
            quote!(.timeout(#timeout))
        });
        quote!(#RoutePolicy::new() #timeout)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timeout.is_none()
    }
}

/// A route attribute.
pub(crate) struct RouteAttr {
    /// The attribute's name: `get`.
    pub(crate) verb: Ident,
    pub(crate) template: LitStr,
    pub(crate) policy: Policy,
}

impl RouteAttr {
    /// Whether an attribute of this name is a route.
    pub(crate) fn is_verb(name: &str) -> bool {
        VERBS.iter().any(|(verb, _)| *verb == name)
    }

    /// The HTTP method: `GET`.
    pub(crate) fn method(&self) -> Ident {
        let name = VERBS.iter().find(|(verb, _)| self.verb == verb).map_or("GET", |(_, method)| method);
        Ident::new(name, self.verb.span())
    }

    /// Whether the one plain argument of the handler is the query and not the body.
    pub(crate) fn takes_query(&self) -> bool {
        self.verb == "get" || self.verb == "head" || self.verb == "delete"
    }

    /// Reads the attribute; whatever is wrong with it is noted. Without a path there is no route.
    pub(crate) fn read(attribute: &Attribute, mistakes: &mut Mistakes) -> Option<Self> {
        let verb = attribute.path().get_ident()?.clone();
        let Meta::List(list) = &attribute.meta else {
            mistakes.on(attribute, no_path(&verb));
            return None;
        };
        let read = |input: ParseStream<'_>| {
            let template = if input.peek(LitStr) {
                input.parse::<LitStr>()?
            } else {
                return Err(syn::Error::new(input.span(), no_path(&verb)));
            };
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
            let mut policy = Policy::default();
            read_policy(input, &mut policy, mistakes)?;
            Ok((template, policy))
        };
        let (template, policy) = {
            let result = read.parse2(list.tokens.clone());
            match result {
                Ok(pair) => pair,
                // An error at the end of the attribute has no token of its own.
                Err(error) if list.tokens.is_empty() => {
                    mistakes.on(attribute, error);
                    return None;
                }
                Err(error) => {
                    mistakes.note::<()>(Err(error));
                    return None;
                }
            }
        };
        Some(Self { verb, template, policy })
    }
}

fn no_path(verb: &Ident) -> String {
    format!("a route needs its path: write `#[{verb}(\"/orders/{{id}}\")]`")
}

fn read_policy(input: ParseStream<'_>, policy: &mut Policy, mistakes: &mut Mistakes) -> syn::Result<()> {
    let mut seen: Vec<Ident> = Vec::new();
    while !input.is_empty() {
        let key: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        let value: Expr = input.parse()?;
        match POLICY_KEYS.iter().find(|(known, _)| key == known) {
            None => {
                mistakes.on(&key, format!("found the key `{key}`, expected {}", listed(POLICY_KEYS.map(|(k, _)| k))));
            }
            Some(_) if seen.contains(&key) => mistakes.on(&key, format!("`{key}` is given twice")),
            Some((_, set)) => {
                mistakes.note(set(policy, &value));
            }
        }
        seen.push(key);
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

/// Names for an "expected" of a message: `` `a`, `b` or `c` ``.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// A text, where a literal is expected.
pub(crate) fn text(value: &Expr) -> syn::Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        other => Err(syn::Error::new_spanned(other, "expected a text in quotes")),
    }
}

/// A span of time: `"250ms"`, `"1m30s"`. The units are those of the configuration.
pub(crate) fn duration(value: &Expr) -> syn::Result<Duration> {
    let expected = "expected a duration in quotes, such as \"250ms\", \"5s\" or \"1m30s\"";
    let Ok(literal) = text(value) else {
        return Err(syn::Error::new_spanned(value, expected));
    };
    let found = literal.value();
    match parse_duration(&found) {
        Some(duration) if duration.is_zero() => {
            Err(syn::Error::new_spanned(value, "found no time at all, expected more than zero"))
        }
        Some(duration) => Ok(duration),
        None => Err(syn::Error::new_spanned(value, format!("found {found:?}, {expected}"))),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = text.trim();
    let mut nanos: Option<u64> = None;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, tail) = tail.split_at(tail.bytes().take_while(u8::is_ascii_alphabetic).count());
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        nanos = Some(number.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(nanos.unwrap_or(0))?);
        rest = tail;
    }
    nanos.map(Duration::from_nanos)
}

/// The duration as a constant expression.
pub(crate) fn expand_duration(duration: Duration) -> TokenStream {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    quote!(#DurationPath::new(#seconds, #nanos))
}

/// The text of the doc comments, one line each, without the space that follows `///`.
pub(crate) fn doc(attributes: &[Attribute]) -> LitStr {
    let mut lines: Vec<String> = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let Meta::NameValue(pair) = &attribute.meta
            && let Ok(line) = text(&pair.value)
        {
            lines.extend(
                line.value().split('\n').map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()),
            );
        }
    }
    LitStr::new(lines.join("\n").trim(), Span::call_site())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_configuration_reads_them() {
        for (text, nanos) in
            [("250ms", 250_000_000), ("5s", 5_000_000_000), ("1m30s", 90_000_000_000), ("1h1us1ns", 3_600_000_001_001)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "s", "5x", "-1s", "1.5s", "99999999999999999999s", "9999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_doc_comment_is_read_as_written() {
        let method: syn::ItemFn = syn::parse_quote! {
            /// Look one order up.
            ///
            ///   indented
            fn order() {}
        };
        assert_eq!(doc(&method.attrs).value(), "Look one order up.\n\n  indented");
    }
}
