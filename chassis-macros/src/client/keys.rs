//! The keys of `#[chassis::client]`, and of a call's route.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{Attribute, LitStr, Meta};

use crate::{
    attr,
    block::Block,
    fallback::Mistakes,
    keys::{
        self, Key,
        Set::{Flag, Value},
    },
    value,
};

/// The keys of a call: a new one is a row here, a field in [`Keys`], and a step of the call.
const CALL_KEYS: [Key<Keys>; 2] = [
    Key {
        name: "timeout",
        example: "timeout = \"2s\"",
        set: Value(|keys, value| value::duration(value).map(|timeout| keys.timeout = Some(timeout))),
    },
    Key { name: "idempotent", example: "idempotent", set: Flag(|keys| keys.idempotent = true) },
];
/// The keys of a route that mean something to its service only.
const SERVICE_KEYS: [&str; 5] = ["concurrency", "body_limit", "deprecated", "sunset", "tags"];

/// The keys of the trait.
const TRAIT_KEYS: [Key<Front>; 2] = [
    Key {
        name: "path",
        example: "path = \"/shop\"",
        set: Value(|front, value| value::text(value).map(|path| front.path = Some(path))),
    },
    Key {
        name: "version",
        example: "version = \"v1\"",
        set: Value(|front, value| value::text(value).map(|version| front.version = Some(version))),
    },
];
const SERVICE_BLOCK_KEYS: [&str; 2] = ["tag", "grpc"];

/// What is asked of a call.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) timeout: Option<Duration>,
    pub(super) idempotent: bool,
}

/// What stands in front of every path.
#[derive(Default)]
struct Front {
    path: Option<LitStr>,
    version: Option<LitStr>,
}

/// A route attribute, as a client reads it.
pub(super) struct Route {
    pub(super) verb: Ident,
    /// As written, for the place of a mistake.
    pub(super) template: LitStr,
    /// With what stands in front.
    pub(super) full: LitStr,
    pub(super) keys: Keys,
}

impl Route {
    pub(super) fn takes_query(&self) -> bool {
        self.verb == "get" || self.verb == "head" || self.verb == "delete"
    }

    pub(super) fn method(&self) -> Ident {
        Ident::new(&self.verb.to_string().to_uppercase(), self.verb.span())
    }

    pub(super) fn read(attribute: &Attribute, front: &Block, mistakes: &mut Mistakes) -> Option<Self> {
        let verb = attribute.path().segments.last()?.ident.clone();
        let mut entries = match &attribute.meta {
            Meta::List(list) => keys::entries(list.tokens.clone()),
            _ => Vec::new(),
        };
        if entries.first().is_none_or(attr::is_key) {
            mistakes.on(attribute, format!("a route needs its path: write `#[{verb}(\"/orders/{{id}}\")]`"));
            return None;
        }
        let template = attr::path(&entries.remove(0), &verb, mistakes);
        let mut keys = Keys::default();
        let entries = without_the_services(entries, &SERVICE_KEYS, &CALL_KEYS, mistakes);
        keys::read(entries, &CALL_KEYS, &mut keys, mistakes);
        let template = template?;
        Some(Self { verb, full: front.full_path(&template), template, keys })
    }
}

/// The keys of the trait.
pub(super) fn front(tokens: TokenStream, mistakes: &mut Mistakes) -> Block {
    let mut front = Front::default();
    let entries = without_the_services(keys::entries(tokens), &SERVICE_BLOCK_KEYS, &TRAIT_KEYS, mistakes);
    keys::read(entries, &TRAIT_KEYS, &mut front, mistakes);
    Block::in_front(front.path, front.version, mistakes)
}

/// The entries whose key is not the service's affair.
fn without_the_services<T>(
    entries: Vec<TokenStream>,
    services: &[&str],
    own: &[Key<T>],
    mistakes: &mut Mistakes,
) -> Vec<TokenStream> {
    let is_own = |entry: &TokenStream| match entry.clone().into_iter().next() {
        Some(TokenTree::Ident(name)) if services.iter().any(|service| name == service) => {
            let own: Vec<_> = own.iter().map(|key| format!("`{}`", key.name)).collect();
            let own = own.join(" and ");
            mistakes.on(&name, format!("`{name}` is the service's affair, a client has {own}: remove it"));
            false
        }
        _ => true,
    };
    entries.into_iter().filter(is_own).collect()
}
