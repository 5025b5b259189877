//! `#[derive(Problem)]`: which problem each variant of an error is.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Expr, Field, Fields, Ident, LitStr, Member, Token, Type, parse::ParseStream};

use crate::{
    attr::{doc, duration, expand_duration, listed, text},
    fallback::Mistakes,
    paths::{self, IntoProblem, Probe, Problem, ProblemInfo},
};

/// The kinds: the constructors of `chassis::problem::Problem`.
const KINDS: [&str; 15] = [
    "invalid",
    "unauthenticated",
    "forbidden",
    "not_found",
    "conflict",
    "already_exists",
    "gone",
    "precondition_failed",
    "payload_too_large",
    "unprocessable",
    "too_many_requests",
    "internal",
    "not_implemented",
    "unavailable",
    "timeout",
];

const KEYS: [&str; 5] = ["code", "type", "title", "retry_after", "retry_safe"];

/// The members of every problem, which a public field cannot be named as.
const MEMBERS: [&str; 10] =
    ["type", "title", "status", "detail", "instance", "code", "trace_id", "retry_after", "retry_safe", "violations"];

/// `#[derive(Problem)]`.
pub(crate) fn derive(item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let Some(input) = mistakes.note(syn::parse2::<DeriveInput>(item)) else {
        return mistakes.into_tokens();
    };
    let name = &input.ident;
    let cases: Vec<(TokenStream, TokenStream)> = match &input.data {
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let name = &variant.ident;
                Case { name, pattern: quote!(Self::#name), attributes: &variant.attrs, fields: &variant.fields }
            })
            .filter_map(|case| case.expand(&mut mistakes))
            .collect(),
        Data::Struct(data) => {
            let case = Case { name, pattern: quote!(Self), attributes: &input.attrs, fields: &data.fields };
            case.expand(&mut mistakes).into_iter().collect()
        }
        Data::Union(data) => {
            mistakes.on(data.union_token, "a union cannot be a problem: write an enum");
            Vec::new()
        }
    };
    let (arms, infos): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let body = match (mistakes.is_empty(), arms.is_empty()) {
        (true, false) => quote!(match self { #(#arms)* }),
        (true, true) => quote!(match self {}),
        // Nothing else that uses the type is to complain about it.
        (false, _) => quote!(::core::unreachable!()),
    };
    let descriptions = paths::descriptions();
    let (generics, arguments, condition) = input.generics.split_for_impl();
    let mistakes = mistakes.into_tokens();
    quote! {
        #[automatically_derived]
        impl #generics #IntoProblem for #name #arguments #condition {
            fn into_problem(self) -> #Problem {
                #body
            }

            fn describe() -> ::std::vec::Vec<#ProblemInfo> {
                #[allow(unused_imports)]
                use #descriptions;
                let mut infos = ::std::vec::Vec::new();
                #(#infos)*
                infos
            }
        }
        #mistakes
    }
}

/// A variant, or the struct.
struct Case<'a> {
    name: &'a Ident,
    pattern: TokenStream,
    attributes: &'a [Attribute],
    fields: &'a Fields,
}

impl Case<'_> {
    /// How the case becomes a problem, and what is known of it beforehand.
    fn expand(&self, mistakes: &mut Mistakes) -> Option<(TokenStream, TokenStream)> {
        let mut attributes = self.attributes.iter().filter(|attribute| attribute.path().is_ident("problem"));
        let Some(attribute) = attributes.next() else {
            mistakes.on(
                self.name,
                format!(
                    "`{}` does not say which problem it is: add `#[problem(not_found)]`, or another of {}",
                    self.name,
                    listed(KINDS)
                ),
            );
            return None;
        };
        if let Some(second) = attributes.next() {
            mistakes.on(second, format!("`{}` says twice which problem it is", self.name));
        }
        let mut own = Mistakes::default();
        let says = own.note(attribute.parse_args_with(|input: ParseStream<'_>| Says::read(input, mistakes)));
        mistakes.extend(own);
        match says? {
            Says::Transparent(word) => self.transparent(&word, mistakes),
            Says::Kind { kind, keys } => Some(self.kind(&kind, &keys, mistakes)),
        }
    }

    fn transparent(&self, word: &Ident, mistakes: &mut Mistakes) -> Option<(TokenStream, TokenStream)> {
        let mut fields = self.fields.members();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            mistakes.on(
                word,
                format!("`transparent` hands over to the one field, and `{}` has {}", self.name, self.fields.len()),
            );
            return None;
        };
        let pattern = &self.pattern;
        let describe = self.fields.iter().map(|Field { ty, .. }| quote!(<#ty as #IntoProblem>::describe()));
        Some((
            quote!(#pattern { #field: inner } => #IntoProblem::into_problem(inner),),
            quote!(infos.extend(#(#describe)*);),
        ))
    }

    fn kind(&self, kind: &Ident, keys: &Keys, mistakes: &mut Mistakes) -> (TokenStream, TokenStream) {
        let public: Vec<(Member, LitStr, &Type)> = self
            .fields
            .members()
            .zip(self.fields)
            .filter_map(|(member, field)| Some((member, public_name(field, mistakes)?, &field.ty)))
            .collect();
        let bindings: Vec<Ident> = (0..public.len()).map(|n| format_ident!("member{n}")).collect();
        let members = public.iter().map(|(member, ..)| member);
        let names: Vec<&LitStr> = public.iter().map(|(_, name, _)| name).collect();
        let shown = public.iter().map(|(_, name, ty)| quote!(.member(#name, (&&#Probe::<#ty>::new()).__schema())));
        let code =
            keys.code.clone().unwrap_or_else(|| LitStr::new(&snake_case(&self.name.to_string()), self.name.span()));
        let type_uri = keys.type_uri.iter();
        let title = keys.title.iter();
        let retry_after = keys.retry_after.map(expand_duration).into_iter();
        let retry_safe = keys.retry_safe.then(|| quote!(.retry_safe(true)));
        let pattern = &self.pattern;
        let fixed = quote!(#Problem::#kind(#code) #(.type_uri(#type_uri))* #(.title(#title))*);
        let doc = doc(self.attributes);
        let doc = (!doc.value().is_empty()).then(|| quote!(.doc(#doc)));
        let arm = quote! {
            ref error @ #pattern { #(#members: ref #bindings,)* .. } => #fixed
                #(.retry_after(#retry_after))*
                #retry_safe
                #(.with(#names, #bindings))*
                .explained_by(error),
        };
        let info = quote! {
            infos.push(#ProblemInfo::of(&#fixed) #doc #(#shown)*);
        };
        (arm, info)
    }
}

/// What a variant's attribute says.
enum Says {
    Transparent(Ident),
    Kind { kind: Ident, keys: Keys },
}

#[derive(Default)]
struct Keys {
    code: Option<LitStr>,
    type_uri: Option<LitStr>,
    title: Option<LitStr>,
    retry_after: Option<Duration>,
    retry_safe: bool,
}

impl Says {
    fn read(input: ParseStream<'_>, mistakes: &mut Mistakes) -> syn::Result<Self> {
        let kind: Ident = input.parse().map_err(|error| {
            syn::Error::new(error.span(), format!("expected the kind of problem: {}", listed(KINDS)))
        })?;
        if kind == "transparent" {
            return if input.is_empty() {
                Ok(Self::Transparent(kind))
            } else {
                Err(input.error("`transparent` takes no keys"))
            };
        }
        if !KINDS.iter().any(|known| kind == known) {
            mistakes.on(
                &kind,
                format!(
                    "found the kind `{kind}`, expected {} or `transparent`",
                    KINDS.map(|k| format!("`{k}`")).join(", ")
                ),
            );
        }
        let mut keys = Keys::default();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if !input.is_empty() {
                keys.read(input, mistakes)?;
            }
        }
        Ok(Self::Kind { kind, keys })
    }
}

impl Keys {
    fn read(&mut self, input: ParseStream<'_>, mistakes: &mut Mistakes) -> syn::Result<()> {
        // `type` is a keyword, and a fine name for the key.
        let key: Ident = input.call(syn::ext::IdentExt::parse_any)?;
        if key == "retry_safe" {
            self.retry_safe = true;
            return Ok(());
        }
        if !KEYS.iter().any(|known| key == known) {
            mistakes.on(&key, format!("found the key `{key}`, expected {}", listed(KEYS)));
            if input.peek(Token![=]) {
                input.parse::<Token![=]>()?;
                input.parse::<Expr>()?;
            }
            return Ok(());
        }
        input.parse::<Token![=]>()?;
        let value: Expr = input.parse()?;
        match key.to_string().as_str() {
            "code" => self.code = mistakes.note(text(&value).and_then(word)),
            "type" => self.type_uri = mistakes.note(text(&value)),
            "title" => self.title = mistakes.note(text(&value)),
            _ => self.retry_after = mistakes.note(duration(&value)),
        }
        Ok(())
    }
}

/// A code is a word that programs compare and metrics count.
fn word(code: LitStr) -> syn::Result<LitStr> {
    let text = code.value();
    let is_word = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && text.len() <= 63;
    if is_word {
        Ok(code)
    } else {
        Err(syn::Error::new_spanned(
            &code,
            format!("found {text:?}, expected a word such as \"order_unknown\": a-z, 0-9 and _, at most 63"),
        ))
    }
}

/// The name that a field marked `#[problem(public)]` is shown under.
fn public_name(field: &Field, mistakes: &mut Mistakes) -> Option<LitStr> {
    let attribute = field.attrs.iter().find(|attribute| attribute.path().is_ident("problem"))?;
    let mut name =
        field.ident.as_ref().map(|ident| LitStr::new(&syn::ext::IdentExt::unraw(ident).to_string(), ident.span()));
    let mut is_public = false;
    mistakes.note(attribute.parse_nested_meta(|meta| {
        if !meta.path.is_ident("public") {
            return Err(meta.error("expected `public`: the field is shown to the caller"));
        }
        is_public = true;
        if meta.input.peek(Token![=]) {
            name = Some(meta.value()?.parse()?);
        }
        Ok(())
    }))?;
    if !is_public {
        mistakes.on(attribute, "expected `#[problem(public)]`: the field is shown to the caller");
        return None;
    }
    match name {
        None => {
            mistakes.on(attribute, "a field without a name needs one to be shown: write `#[problem(public = \"id\")]`");
        }
        Some(name) if MEMBERS.contains(&&*name.value()) => {
            mistakes.on(
                &name,
                format!(
                    "every problem has its own `{0}`: write `#[problem(public = \"…\")]` with another name",
                    name.value()
                ),
            );
        }
        name => return name,
    }
    None
}

/// `OrderUnknown` is `order_unknown`, `HTTPError` is `http_error`.
fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.trim_start_matches("r#").chars().collect();
    let mut snake = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && !letters[at - 1].is_uppercase() && letters[at - 1] != '_';
        let before_lower =
            at > 0 && letters[at - 1] != '_' && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || before_lower) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expand::tests::{golden, mistakes_in};

    #[test]
    fn variants_without_a_code_are_named_in_snake_case() {
        for (name, snake) in [
            ("Unknown", "unknown"),
            ("SoldOut", "sold_out"),
            ("HTTPError", "http_error"),
            ("NoIPv6", "no_i_pv6"),
            ("Already_Gone", "already_gone"),
        ] {
            assert_eq!(snake_case(name), snake);
        }
    }

    #[test]
    fn a_problem_says_what_each_variant_is() {
        golden(
            "problem",
            &derive(quote! {
                enum OrderError {
                    #[problem(not_found, code = "order_unknown", type = "https://example.com/unknown")]
                    Unknown {
                        #[problem(public)]
                        id: OrderId,
                        inner: Secret,
                    },
                    #[problem(unavailable, retry_after = "1500ms", retry_safe)]
                    Store(StoreError),
                    #[problem(conflict, title = "Nothing left")]
                    SoldOut,
                    #[problem(transparent)]
                    Payment(PaymentError),
                }
            }),
        );
    }

    fn check(item: TokenStream, expected: &[&str]) {
        let expanded = derive(item);
        let mistakes = mistakes_in(&expanded);
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for (found, expected) in mistakes.iter().zip(expected) {
            assert!(found.contains(expected), "found {found:?}, expected {expected:?}");
        }
        assert!(expanded.to_string().contains("IntoProblem for"), "nothing that uses the type complains: {expanded}");
    }

    #[test]
    fn a_variant_that_says_nothing_is_told_what_to_type() {
        check(
            quote!(
                enum E {
                    A,
                    #[problem(gone)]
                    B,
                    C(u8),
                }
            ),
            &["`A` does not say which problem it is: add `#[problem(not_found)]`", "`C` does not say"],
        );
    }

    #[test]
    fn every_mistake_of_a_problem_is_told() {
        check(
            quote!(
                enum E {
                    #[problem(bad_request)]
                    A,
                }
            ),
            &["found the kind `bad_request`, expected `invalid`, "],
        );
        check(
            quote!(
                enum E {
                    #[problem]
                    A,
                }
            ),
            &["expected attribute arguments in parentheses"],
        );
        check(
            quote!(
                enum E {
                    #[problem()]
                    A,
                }
            ),
            &["expected the kind of problem: `invalid`"],
        );
        check(
            quote!(
                enum E {
                    #[problem(gone, cod = "x", retry_after = "2")]
                    A,
                    #[problem(gone, code = "Not A Word")]
                    B,
                }
            ),
            &[
                "found the key `cod`, expected `code`, `type`",
                "found \"2\", expected a duration",
                "found \"Not A Word\", expected a word",
            ],
        );
        check(
            quote!(
                enum E {
                    #[problem(transparent)]
                    A(u8, u8),
                }
            ),
            &["hands over to the one field, and `A` has 2"],
        );
        check(
            quote!(
                enum E {
                    #[problem(gone)]
                    A(#[problem(public)] u8),
                }
            ),
            &["needs one to be shown"],
        );
        check(
            quote!(
                enum E {
                    #[problem(gone)]
                    A {
                        #[problem(public)]
                        status: u8,
                    },
                }
            ),
            &["every problem has its own `status`"],
        );
        check(
            quote!(
                enum E {
                    #[problem(gone)]
                    #[problem(invalid)]
                    A,
                }
            ),
            &["`A` says twice"],
        );
        check(quote!(union U { a: u8 }), &["a union cannot be a problem"]);
    }
}
