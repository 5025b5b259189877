//! The types of arguments, as far as their tokens tell.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Ident, Pat, PatType, PathArguments, Type};

use crate::{fallback::Mistakes, words::plain};

/// Whether a type can be made from a request at all.
pub(super) fn check_type(argument: &PatType, mistakes: &mut Mistakes) {
    if let Some((pattern, wrapper)) = axum_pattern(argument) {
        let inner = inner(wrapper);
        let (what, write) = match wrapper.ident.to_string().as_str() {
            "Json" => ("the body is taken as JSON by itself", format!("write `body: {inner}`")),
            "Path" => ("what the path names is taken by its name", format!("write `id: {inner}` for `{{id}}`")),
            "Query" => ("the query is taken by itself", format!("write `query: {inner}`")),
            "State" => {
                let name = pattern_inner(pattern);
                ("what a handler shares is `self`", format!("keep the `{inner}` in a field and write `self.{name}`"))
            }
            _ => ("it is an axum extractor", "mark it with `#[extract]`".to_owned()),
        };
        mistakes.on(argument, format!("found `{}`: {what}, {write}", plain(pattern)));
        return;
    }
    match &*argument.ty {
        Type::Reference(reference) => {
            let owned = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
                Type::Slice(slice) => format!("Vec<{}>", plain(&slice.elem)),
                other => plain(other),
            };
            mistakes
                .on(reference, format!("found `{}`, expected a value of its own: write `{owned}`", plain(reference)));
        }
        Type::ImplTrait(ty) => {
            mistakes.on(ty, format!("found `{}`, expected a type with a name: a request cannot choose one", plain(ty)));
        }
        ty if borrows(ty.to_token_stream()) => mistakes.on(
            ty,
            format!(
                "found `{}`, expected a value of its own, without a lifetime: `'static` or an owned type",
                plain(ty)
            ),
        ),
        _ => {}
    }
}

/// Whether a type has a lifetime that ends.
fn borrows(ty: TokenStream) -> bool {
    let mut after_tick = false;
    ty.into_iter().any(|token| match token {
        TokenTree::Group(group) => borrows(group.stream()),
        TokenTree::Punct(punct) => {
            after_tick = punct.as_char() == '\'';
            false
        }
        TokenTree::Ident(name) => std::mem::take(&mut after_tick) && name != "static",
        TokenTree::Literal(_) => false,
    })
}

/// Whether an argument is taken apart as axum's extractors are: `Json(order): Json<Order>`.
pub(super) fn is_axum_pattern(argument: &PatType) -> bool {
    axum_pattern(argument).is_some()
}

/// A type of the user's own may have one of these names, but hardly one with a parameter that is taken apart at once.
fn axum_pattern(argument: &PatType) -> Option<(&Pat, &syn::PathSegment)> {
    const NAMES: [&str; 6] = ["Extension", "Form", "Json", "Path", "Query", "State"];
    let Pat::TupleStruct(pattern) = &*argument.pat else { return None };
    let Type::Path(ty) = &*argument.ty else { return None };
    let segment = ty.path.segments.last()?;
    let same = |name: &Ident| pattern.path.segments.last().is_some_and(|last| last.ident == *name);
    let is_one = NAMES.iter().any(|name| segment.ident == name) && !segment.arguments.is_none() && same(&segment.ident);
    let is_marked = argument.attrs.iter().any(|attribute| attribute.path().is_ident("extract"));
    (is_one && !is_marked).then_some((&*argument.pat, segment))
}

/// `db` of `State(db)`.
fn pattern_inner(pattern: &Pat) -> String {
    let Pat::TupleStruct(pattern) = pattern else { return "state".to_owned() };
    match pattern.elems.first() {
        Some(Pat::Ident(name)) => name.ident.to_string(),
        _ => "state".to_owned(),
    }
}

fn inner(segment: &syn::PathSegment) -> String {
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => plain(&arguments.args),
        _ => "T".to_owned(),
    }
}

/// Whether a type is surely one value, so that no query can become it.
pub(crate) fn is_single_value(ty: &Type) -> bool {
    const NAMES: [&str; 16] = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "usize",
        "String",
    ];
    matches!(ty, Type::Path(path) if NAMES.iter().any(|name| path.path.is_ident(name)))
}
