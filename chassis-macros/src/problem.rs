//! `#[derive(Problem)]`: which problem each variant of an error is.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput, Field, Fields, Ident, LitStr, Member, Meta, Token, Type, spanned::Spanned};

use crate::{
    fallback::Mistakes,
    keys::{
        self, Key,
        Set::{Flag, Value},
    },
    paths::{self, IntoProblem, Probe, Problem, ProblemInfo},
    value::{doc, duration, expand_duration, text},
    words::{listed, nearest, snake_case},
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

const KEYS: [Key<Keys>; 5] = [
    Key {
        name: "code",
        example: "code = \"order_unknown\"",
        set: Value(|keys, value| text(value).and_then(word).map(|code| keys.code = Some(code))),
    },
    Key {
        name: "type",
        example: "type = \"https://example.com/order-unknown\"",
        set: Value(|keys, value| text(value).map(|uri| keys.type_uri = Some(uri))),
    },
    Key {
        name: "title",
        example: "title = \"There is no such order\"",
        set: Value(|keys, value| text(value).map(|title| keys.title = Some(title))),
    },
    Key {
        name: "retry_after",
        example: "retry_after = \"2s\"",
        set: Value(|keys, value| duration(value).map(|after| keys.retry_after = Some(after))),
    },
    Key { name: "retry_safe", example: "retry_safe", set: Flag(|keys| keys.retry_safe = true) },
];

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
    let (arms, mut infos): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let body = match (mistakes.is_empty(), arms.is_empty()) {
        (true, false) => quote!(match self { #(#arms)* }),
        (true, true) => quote!(match self {}),
        // Nothing else that uses the type is to complain about it.
        (false, _) => {
            infos.clear();
            quote!(::core::unreachable!())
        }
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
                #[allow(unused_mut)]
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
        match Says::read(attribute, mistakes)? {
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
        // All of it has the place of the type: one that is no problem is told once.
        let inner = |ty: &Type| {
            let into_problem = paths::at(ty.span(), IntoProblem);
            quote_spanned!(ty.span()=> <#ty as #into_problem>)
        };
        let types = || self.fields.iter().map(|field| (inner(&field.ty), field.ty.span()));
        let handed = types().map(|(inner, span)| quote_spanned!(span=> #inner::into_problem(inner)));
        let describe = types().map(|(inner, span)| quote_spanned!(span=> #inner::describe()));
        Some((quote!(#pattern { #field: inner } => #(#handed)*,), quote!(infos.extend(#(#describe)*);)))
    }

    fn kind(&self, kind: &Ident, keys: &Keys, mistakes: &mut Mistakes) -> (TokenStream, TokenStream) {
        let public: Vec<(Member, LitStr, &Type)> = self
            .fields
            .members()
            .zip(self.fields)
            .filter_map(|(member, field)| Some((member, public_name(field, mistakes)?, &field.ty)))
            .collect();
        // What is wrong with a member's type is told there, and that it is no error at its name.
        let bindings: Vec<Ident> =
            public.iter().enumerate().map(|(n, (.., ty))| format_ident!("member{n}", span = ty.span())).collect();
        let error = Ident::new("error", self.name.span());
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
            ref #error @ #pattern { #(#members: ref #bindings,)* .. } => #fixed
                #(.retry_after(#retry_after))*
                #retry_safe
                #(.with(#names, #bindings))*
                .explained_by(#error),
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
    /// What stands in `#[problem(…)]`.
    fn read(attribute: &Attribute, mistakes: &mut Mistakes) -> Option<Self> {
        let mut entries = match &attribute.meta {
            Meta::List(list) => keys::entries(list.tokens.clone()),
            _ => Vec::new(),
        };
        let first = if entries.is_empty() { TokenStream::new() } else { entries.remove(0) };
        let Ok(kind) = syn::parse2::<Ident>(first.clone()) else {
            let expected = format!(
                "expected the kind of problem first: write `#[problem(not_found)]`, or another of {}",
                listed(KINDS)
            );
            if first.is_empty() {
                mistakes.on(attribute, expected);
            } else {
                mistakes.on(first, expected);
            }
            return None;
        };
        if kind == "transparent" {
            if let Some(key) = entries.first() {
                mistakes.on(key, "`transparent` takes no keys: the inner problem says it all");
            }
            return Some(Self::Transparent(kind));
        }
        if !KINDS.iter().any(|known| kind == known) {
            mistakes.on(&kind, unknown_kind(&kind.to_string()));
        }
        let mut keys = Keys::default();
        keys::read(entries, &KEYS, &mut keys, mistakes);
        Some(Self::Kind { kind, keys })
    }
}

fn unknown_kind(found: &str) -> String {
    match nearest(found, KINDS.into_iter().chain(["transparent"])) {
        Some(meant) => format!("found the kind `{found}`, did you mean `{meant}`?"),
        None => {
            format!(
                "found the kind `{found}`, expected {} or `transparent`",
                KINDS.map(|k| format!("`{k}`")).join(", ")
            )
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expand::tests::{golden, mistakes_in};

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
            &["expected the kind of problem first: write `#[problem(not_found)]`"],
        );
        check(
            quote!(
                enum E {
                    #[problem()]
                    A,
                }
            ),
            &["expected the kind of problem first: write `#[problem(not_found)]`"],
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
                "found the key `cod`, did you mean `code`?",
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
