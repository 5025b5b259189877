//! The macros of chassis-rs. Users reach them through the `chassis` crate, where they are documented and tested.
//!
//! Each macro reads only signatures and attributes, emits what the user wrote as it was written, and adds the wiring
//! beside it. All mistakes are reported at once, each on the user's own token.
//!
//! `#[service]` in five steps: `block` and `attr` read the attributes, `model` finds the handlers in the impl block,
//! `validate` decides what they mean or what is wrong with them, `expand` writes the wiring, `fallback` gathers the
//! mistakes. `policy` has the table of what can be asked of a route; `keys`, `value`, `template` and `words` are the tools.

use proc_macro::TokenStream;

mod attr;
mod block;
mod client;
mod entry;
mod expand;
mod fallback;
mod git;
mod keys;
mod misplaced;
mod model;
mod paths;
mod policy;
mod problem;
mod template;
mod validate;
mod value;
mod words;

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro_attribute]
pub fn service(keys: TokenStream, item: TokenStream) -> TokenStream {
    expand::service(keys.into(), item.into()).into()
}

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro_attribute]
pub fn client(keys: TokenStream, item: TokenStream) -> TokenStream {
    client::client(&keys.into(), item.into()).into()
}

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro_attribute]
pub fn main(keys: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(&keys.into(), item.into(), &entry::Build::from_environment()).into()
}

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro]
pub fn build_info(input: TokenStream) -> TokenStream {
    entry::build_info(&input.into(), &entry::Build::from_environment()).into()
}

#[allow(missing_docs, reason = "documented where `chassis` exports it, so that its examples are tested")]
#[proc_macro_derive(Problem, attributes(problem))]
pub fn problem(item: TokenStream) -> TokenStream {
    problem::derive(item.into()).into()
}

/// The attributes that `#[service]` reads and takes away. Whoever meets one as a macro has put it elsewhere.
macro_rules! misplaced {
    ($($name:ident)+) => {
        $(
            #[allow(missing_docs, reason = "documented where `chassis` exports it")]
            #[proc_macro_attribute]
            pub fn $name(_: TokenStream, item: TokenStream) -> TokenStream {
                misplaced::attribute(stringify!($name), item.into()).into()
            }
        )+
    };
}

misplaced! { get post put patch delete head rpc }
