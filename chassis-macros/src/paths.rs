//! The one list of what generated code names. All of it is in `chassis::__private`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};

macro_rules! paths {
    ($($name:ident)+) => {
        $(
            #[allow(non_camel_case_types, reason = "named as the item it stands for")]
            pub(crate) struct $name;

            impl ToTokens for $name {
                fn to_tokens(&self, tokens: &mut TokenStream) {
                    tokens.extend(quote!(::chassis::__private::$name));
                }
            }
        )+
    };
}

paths! {
    AnswerInfo Arc ArgumentInfo Arguments BuildInfo Client Deprecation Duration ExitCode FieldProbe Fields GrpcRoutes IntoProblem
    IntoRoutes MessageProbe Method Outcome Probe Problem ProblemInfo Rejection Response RouteInfo RoutePolicy Router Routes Service
    Source State ended falls_back main never send shape
}

/// The traits whose methods choose how a handler is called over HTTP and answered, to be in scope without their names.
pub(crate) fn choices() -> TokenStream {
    quote!(::chassis::__private::{
        AsJson as _, AsNothing as _, AsReply as _, AsResponse as _, CannotFail as _, HasNamedRules as _, HasRules as _,
        MayFail as _, NoRules as _,
    })
}

/// The traits whose methods choose how a handler is called over gRPC and answered.
pub(crate) fn rpc_choices() -> TokenStream {
    quote!(::chassis::__private::{
        BecomesMessage as _, BecomesNothing as _, CannotFail as _, HasNamedRules as _, HasProblems as _, HasRules as _,
        HasSchema as _, HoldsMessage as _, MayFail as _, NoProblems as _, NoRules as _, NoSchema as _, TakesField as _,
        TakesLifted as _, TakesNothing as _, TakesRequired as _,
    })
}

/// The traits whose methods choose how a type is described.
pub(crate) fn descriptions() -> TokenStream {
    quote!(::chassis::__private::{
        AsJson as _, AsNothing as _, AsReply as _, AsResponse as _, CannotFail as _, HasProblems as _, HasSchema as _,
        MayFail as _, NoProblems as _, NoSchema as _,
    })
}

/// The traits whose methods choose how an answer is read.
pub(crate) fn readings() -> TokenStream {
    quote!(::chassis::__private::{AsAnswer as _, AsJsonAnswer as _, AsNoAnswer as _})
}

/// axum's function that routes a method, under the name of the attribute: `get`.
pub(crate) fn routing(verb: &syn::Ident) -> TokenStream {
    quote!(::chassis::__private::#verb)
}

/// A path that is blamed for an error at a place of the user's.
pub(crate) fn at(span: Span, path: impl ToTokens) -> TokenStream {
    let respan = |mut token: TokenTree| {
        token.set_span(span);
        token
    };
    path.into_token_stream().into_iter().map(respan).collect()
}
