//! The attributes of a handler to values: `#[get("/orders/{id}", timeout = "2s")]`, `#[rpc(GetOrder)]`.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{Attribute, Ident, LitStr, Meta, ext::IdentExt, parse::Parser};

use crate::{
    fallback::Mistakes,
    keys,
    policy::{POLICY_KEYS, Policy},
    words::{pascal_case, snake_case},
};

/// The methods a route can have, as the attribute has them, and as HTTP does.
const VERBS: [(&str, &str); 6] =
    [("get", "GET"), ("post", "POST"), ("put", "PUT"), ("patch", "PATCH"), ("delete", "DELETE"), ("head", "HEAD")];

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
        let verb = attribute.path().segments.last()?.ident.clone();
        let mut entries = match &attribute.meta {
            Meta::List(list) => keys::entries(list.tokens.clone()),
            _ => Vec::new(),
        };
        let no_path = || format!("a route needs its path: write `#[{verb}(\"/orders/{{id}}\")]`");
        if entries.is_empty() {
            mistakes.on(attribute, no_path());
            return None;
        }
        let has_path = !is_key(&entries[0]);
        let template = if has_path { path(&entries.remove(0), &verb, mistakes) } else { None };
        if !has_path {
            mistakes.on(attribute, no_path());
        }
        let policy = read_policy(entries, mistakes);
        Some(Self { verb, template: template?, policy })
    }
}

/// `timeout = …`, and not a path.
pub(crate) fn is_key(entry: &TokenStream) -> bool {
    let mut tokens = entry.clone().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Ident(_)), Some(TokenTree::Punct(sign))) => sign.as_char() == '=',
        (Some(TokenTree::Ident(name)), None) => POLICY_KEYS.iter().any(|key| name == key.name),
        _ => false,
    }
}

pub(crate) fn path(entry: &TokenStream, verb: &Ident, mistakes: &mut Mistakes) -> Option<LitStr> {
    let mut tokens = entry.clone().into_iter();
    let first: TokenStream = tokens.next().into_iter().collect();
    let rest: TokenStream = tokens.collect();
    match syn::parse2::<LitStr>(first) {
        Ok(_) if !rest.is_empty() => mistakes.on(rest, "expected a comma after the path"),
        Ok(template) => return Some(template),
        Err(_) => mistakes.on(
            entry,
            format!(
                "found `{entry}`, expected the path itself in quotes, for the macro reads it: write \
                 `#[{verb}(\"/orders/{{id}}\")]`"
            ),
        ),
    }
    None
}

fn read_policy(entries: Vec<TokenStream>, mistakes: &mut Mistakes) -> Policy {
    let mut policy = Policy::default();
    let has_deprecated = entries.iter().any(|entry| entry.to_string().starts_with("deprecated"));
    keys::read(entries, &POLICY_KEYS, &mut policy, mistakes);
    policy.check(has_deprecated, mistakes);
    policy
}

/// The attribute of a method that is served over gRPC.
pub(crate) struct RpcAttr {
    /// The attribute's own name, for what has no better place.
    pub(crate) word: Ident,
    /// The method's name in the `.proto` file, if it is said.
    pub(crate) name: Option<Ident>,
    pub(crate) policy: Policy,
    /// The first of its keys.
    pub(crate) keys: Option<TokenStream>,
}

impl RpcAttr {
    /// Whether an attribute of this name is an rpc.
    pub(crate) fn is_rpc(name: &str) -> bool {
        name == "rpc"
    }

    /// Reads the attribute; whatever is wrong with it is noted.
    pub(crate) fn read(attribute: &Attribute, mistakes: &mut Mistakes) -> Option<Self> {
        let word = attribute.path().segments.last()?.ident.clone();
        let mut entries = match &attribute.meta {
            Meta::Path(_) => Vec::new(),
            Meta::List(list) => keys::entries(list.tokens.clone()),
            Meta::NameValue(pair) => {
                mistakes.on(&pair.value, "the name stands in parentheses: write `#[rpc(GetOrder)]`");
                return None;
            }
        };
        let name = match entries.first() {
            Some(first) if !is_key(first) => Some(rpc_name(&entries.remove(0), mistakes)?),
            _ => None,
        };
        let keys = entries.first().cloned();
        Some(Self { word, name, policy: read_policy(entries, mistakes), keys })
    }

    /// The method's name in the `.proto` file: `GetOrder`.
    pub(crate) fn name(&self, handler: &Ident) -> Ident {
        self.name.clone().unwrap_or_else(|| Ident::new(&pascal_case(&handler.to_string()), self.word.span()))
    }

    /// The method's name in the trait that tonic generates: `get_order`.
    pub(crate) fn method(name: &Ident) -> Ident {
        let method = snake_case(&name.to_string());
        match syn::parse_str::<Ident>(&method) {
            Ok(_) => Ident::new(&method, name.span()),
            // As prost does it: a keyword is raw, and what cannot be raw gets an underscore.
            Err(_) if matches!(&*method, "self" | "super" | "crate" | "extern") => {
                Ident::new(&format!("{method}_"), name.span())
            }
            Err(_) if method.starts_with(char::is_numeric) => Ident::new(&format!("_{method}"), name.span()),
            Err(_) => Ident::new_raw(&method, name.span()),
        }
    }
}

fn rpc_name(entry: &TokenStream, mistakes: &mut Mistakes) -> Option<Ident> {
    // A `.proto` may call it as it likes, a word of Rust's included; a style guide alone asks for `GetOrder`.
    match Ident::parse_any.parse2(entry.clone()) {
        Ok(name) if name != "_" => return Some(name.unraw()),
        _ => {}
    }
    let meant = syn::parse2::<LitStr>(entry.clone()).ok().map(|text| text.value());
    let meant = meant.map(|text| pascal_case(text.rsplit(['/', '.']).next().unwrap_or_default()));
    let meant = meant.filter(|name| syn::parse_str::<Ident>(name).is_ok()).unwrap_or_else(|| "GetOrder".to_owned());
    mistakes
        .on(entry, format!("found `{entry}`, expected the name of the rpc as a plain word: write `#[rpc({meant})]`"));
    None
}

/// What a handler's argument is marked with.
#[derive(Default)]
pub(crate) struct Marks {
    /// `#[extract]`
    pub(crate) extract: Option<Span>,
    /// `#[message]`
    pub(crate) message: Option<Span>,
}

/// Attributes of an argument that are the compiler's, and stay.
const FOREIGN: [&str; 7] = ["allow", "cfg", "cfg_attr", "deny", "expect", "forbid", "warn"];

impl Marks {
    /// Whether an attribute of this name on an argument is ours to read.
    pub(crate) fn is_ours(name: &str) -> bool {
        !FOREIGN.contains(&name)
    }

    /// Reads the attributes of an argument; whatever is wrong with them is noted.
    pub(crate) fn read(attributes: &[Attribute], mistakes: &mut Mistakes) -> Self {
        let mut marks = Self::default();
        for attribute in attributes {
            let Some(word) = attribute.path().segments.first().map(|segment| &segment.ident) else { continue };
            let place = match word.to_string().as_str() {
                "extract" => &mut marks.extract,
                "message" => &mut marks.message,
                "cfg" | "cfg_attr" => {
                    mistakes.on(
                        attribute,
                        "an argument is always there: put `#[cfg]` on the handler, and write a second handler for the \
                         other case",
                    );
                    continue;
                }
                name if Self::is_ours(name) => {
                    mistakes.on(attribute, unknown_mark(name));
                    continue;
                }
                _ => continue,
            };
            if !matches!(attribute.meta, Meta::Path(_)) {
                mistakes.on(attribute, format!("`#[{word}]` stands alone: write `#[{word}]`"));
            } else if place.is_some() {
                mistakes.on(attribute, format!("`#[{word}]` is given twice: keep one"));
            }
            *place = Some(word.span());
        }
        marks
    }
}

fn unknown_mark(found: &str) -> String {
    let rest = match found {
        "path" | "param" => "an argument that the path names comes from there: remove the attribute",
        "query" => "on GET, HEAD and DELETE the one further argument is the query: remove the attribute",
        "body" | "json" => "on POST, PUT and PATCH the one further argument is the JSON body: remove the attribute",
        "header" | "headers" | "state" | "extension" => {
            "take an axum extractor, such as `#[extract] headers: HeaderMap`"
        }
        _ => "an argument takes `#[extract]` for an axum extractor, or `#[message]` for the whole message of an rpc",
    };
    format!("found `#[{found}]`: {rest}")
}
