//! `#[fallback(method)]`: what answers in place of a call that has failed.

use std::collections::HashMap;

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::{Attribute, FnArg, Meta, ReturnType, Signature, Token, Type, parse::Parser};

use super::{TraitItem, read_signature};
use crate::{
    fallback::Mistakes,
    model::{self, Item},
    paths::falls_back,
    words::{nearest, plain},
};

const NAME: &str = "fallback";
const EXPECTED: &str = "name the method that answers when the call fails: `#[fallback(unknown)]`";

/// The method that answers in place of a call.
pub(super) struct StandIn {
    name: Ident,
    /// Whether it is told the error.
    takes_error: bool,
}

/// The call that it stands in for, as tokens.
pub(super) struct Answered<'a> {
    pub(super) this: Token![self],
    /// Its method and template, for people.
    pub(super) method: &'a str,
    /// Gives what came of it.
    pub(super) send: &'a TokenStream,
    /// Makes that the call's own type.
    pub(super) told: &'a Ident,
    pub(super) output: &'a Type,
    pub(super) arguments: &'a [Ident],
}

/// Whether an attribute that was written is a fallback.
pub(super) fn is_written(attribute: &[TokenTree; 2]) -> bool {
    model::attribute_name(&attribute[1]).is_some_and(|name| name == NAME)
}

pub(super) fn is_fallback(attribute: &Attribute) -> bool {
    attribute.path().is_ident(NAME)
}

impl StandIn {
    /// What a call's attributes say; whether the method is there and fits is for [`check`].
    pub(super) fn read(attributes: &[Attribute], call: &Ident, mistakes: &mut Mistakes) -> Option<Self> {
        if let Some(second) = attributes.get(1) {
            mistakes.on(second, "a call has one fallback: give that one a route and a fallback of its own");
        }
        let attribute = attributes.first()?;
        let name = match &attribute.meta {
            Meta::List(list) => syn::parse2::<Ident>(list.tokens.clone()).ok(),
            _ => None,
        };
        let Some(name) = name else {
            mistakes.on(attribute, EXPECTED);
            return None;
        };
        if name == *call {
            mistakes.on(&name, format!("`{call}` cannot stand in for itself: name another method"));
            return None;
        }
        Some(Self { name, takes_error: false })
    }

    /// What a call ends with: its answer, or that of the fallback.
    pub(super) fn ending(&self, of: &Ident, call: &Answered<'_>) -> TokenStream {
        let Answered { this, method, send, told, output, arguments } = call;
        let Self { name, takes_error } = self;
        let text = name.to_string();
        let error = takes_error.then(|| quote!(&error,));
        // An error about what the fallback takes and gives belongs to its name.
        let call = quote_spanned!(name.span()=> {
            let answer: #output = <Self as #of>::#name(#this, #(#arguments,)* #error).await;
            answer
        });
        quote! {
            match #send {
                ::core::result::Result::Err(error) if #falls_back(&#this.client, &error, #method, #text) => #call,
                result => #told(result),
            }
        }
    }
}

/// Finds the methods that fallbacks name, and tells those that are not there or do not fit.
pub(super) fn check(written: &[Item], items: &mut [TraitItem], of: &Ident, mistakes: &mut Mistakes) {
    let signatures: Vec<Signature> =
        written.iter().filter_map(|item| read_signature.parse2(item.signature()?).ok()).collect();
    let find = |name: &Ident| signatures.iter().find(|signature| signature.ident == *name);
    let next: HashMap<String, String> = items
        .iter()
        .filter_map(|item| match item {
            TraitItem::Call(call) => Some((call.signature.ident.to_string(), call.fallback.as_ref()?.name.to_string())),
            _ => None,
        })
        .collect();
    for item in items {
        let TraitItem::Call(call) = item else { continue };
        let Some(fallback) = &mut call.fallback else { continue };
        let Some(signature) = find(&fallback.name) else {
            let others: Vec<String> = signatures.iter().map(|signature| signature.ident.to_string()).collect();
            let others = others.iter().map(String::as_str).filter(|name| call.signature.ident != name);
            let name = &fallback.name;
            let meant = match nearest(&name.to_string(), others) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("write it with a body: `async fn {name}`"),
            };
            mistakes.on(name, format!("`{of}` has no method `{name}`: {meant}"));
            call.fallback = None;
            continue;
        };
        if comes_back(&call.signature.ident.to_string(), &next) {
            mistakes.on(
                &fallback.name,
                format!("the fallbacks of `{}` lead back to it: end them with a body", call.signature.ident),
            );
            call.fallback = None;
            continue;
        }
        match fit(&call.signature, signature, mistakes) {
            Some(takes_error) => fallback.takes_error = takes_error,
            None => call.fallback = None,
        }
    }
}

/// Whether a call is its own fallback's fallback.
fn comes_back(start: &str, next: &HashMap<String, String>) -> bool {
    let mut at = next.get(start);
    // As many steps as there are fallbacks reach all of them.
    for _ in 0..next.len() {
        match at {
            Some(name) if name == start => return true,
            Some(name) => at = next.get(name),
            None => return false,
        }
    }
    false
}

/// Whether the method can stand in for the call, as far as its shape goes: the types are for the compiler to compare. Gives
/// whether it takes the error.
fn fit(call: &Signature, method: &Signature, mistakes: &mut Mistakes) -> Option<bool> {
    let (call_name, name) = (&call.ident, &method.ident);
    let mut own = Mistakes::default();
    let gives_future = matches!(&method.output, ReturnType::Type(_, ty) if matches!(**ty, Type::ImplTrait(_)));
    if method.asyncness.is_none() && !gives_future {
        own.on(
            method.fn_token,
            format!("`{name}` stands in for the call `{call_name}`, so it must be async: add `async` before `fn`"),
        );
    }
    let is_shared = matches!(method.inputs.first(), Some(FnArg::Receiver(receiver)) if receiver.reference.is_some() && receiver.mutability.is_none());
    if !is_shared {
        own.on(
            name,
            format!("`{name}` stands in for the call `{call_name}`, so it needs `&self` as its first argument"),
        );
    }
    let count =
        |signature: &Signature| signature.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_))).count();
    let (wanted, found) = (count(call), count(method));
    if found != wanted && found != wanted + 1 {
        let names: Vec<String> = call
            .inputs
            .iter()
            .filter_map(|input| match input {
                FnArg::Typed(input) => Some(plain(input)),
                FnArg::Receiver(_) => None,
            })
            .collect();
        let names = if names.is_empty() { "none".to_owned() } else { format!("`{}`", names.join(", ")) };
        own.on(
            &method.inputs,
            format!(
                "`{name}` stands in for the call `{call_name}`, so it takes the same arguments: {names}, and `error: &CallError` \
                 after them if it wants to know"
            ),
        );
    }
    let fits = own.is_empty();
    mistakes.extend(own);
    fits.then_some(found == wanted + 1)
}
