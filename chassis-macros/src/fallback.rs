//! What is emitted when something is wrong: what the user wrote, so that nothing else breaks, and every mistake.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Mistakes(Vec<syn::Error>);

impl Mistakes {
    /// One mistake, on the user's own tokens.
    pub(crate) fn on(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.0.push(syn::Error::new_spanned(tokens, message));
    }

    /// One mistake at a place of the user's.
    pub(crate) fn at(&mut self, place: Span, message: impl Display) {
        self.0.push(syn::Error::new(place, message));
    }

    /// Takes a result apart; an error is one mistake more.
    pub(crate) fn note<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// Adds the mistakes found elsewhere.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One `compile_error!` for each.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.0.iter().map(syn::Error::to_compile_error).collect()
    }
}

/// An item that could not be understood at all, as it was written, and what is wrong with it.
pub(crate) fn as_written(mut item: TokenStream, mistakes: Mistakes) -> TokenStream {
    item.extend(mistakes.into_tokens());
    item
}
