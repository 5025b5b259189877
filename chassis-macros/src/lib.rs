//! The macros of chassis-rs. Users reach them through the `chassis` crate, where they are documented and tested.
//!
//! Each macro reads only signatures and attributes, emits what the user wrote as it was written, and adds the wiring
//! beside it. All mistakes are reported at once, each on the user's own token.
//!
//! `#[service]` in five steps: `attr` reads the attributes, `model` finds the handlers in the impl block, `validate`
//! decides what they mean or what is wrong with them, `expand` writes the wiring, `fallback` gathers the mistakes.

use proc_macro::TokenStream;

mod attr;
mod entry;
mod expand;
mod fallback;
mod git;
mod model;
mod paths;
mod problem;
mod validate;

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro_attribute]
pub fn service(keys: TokenStream, item: TokenStream) -> TokenStream {
    expand::service(&keys.into(), item.into()).into()
}

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro_attribute]
pub fn main(keys: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(&keys.into(), item.into(), &entry::Build::from_environment()).into()
}

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro_derive(Problem, attributes(problem))]
pub fn problem(item: TokenStream) -> TokenStream {
    problem::derive(item.into()).into()
}
