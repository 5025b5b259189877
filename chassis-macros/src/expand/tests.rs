use std::{env, fs, path::Path};

use super::*;

/// Compares an expansion with the file of that name in `tests/expand`; `CHASSIS_BLESS=1` writes the file anew.
pub(crate) fn golden(name: &str, tokens: &TokenStream) {
    let file = syn::parse2(tokens.clone()).unwrap_or_else(|error| panic!("{error}: {tokens}"));
    let found = prettyplease::unparse(&file);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expand").join(name).with_extension("rs");
    if env::var_os("CHASSIS_BLESS").is_some() {
        fs::write(&path, &found).expect("the golden file can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} expands to something else; CHASSIS_BLESS=1 accepts it\n{found}");
}

/// The messages of the `compile_error!`s in an expansion.
pub(crate) fn mistakes_in(tokens: &TokenStream) -> Vec<String> {
    let mut tokens = tokens.clone().into_iter().peekable();
    let mut messages = Vec::new();
    while let Some(token) = tokens.next() {
        if token.to_string() == "compile_error" {
            tokens.next();
            if let Some(proc_macro2::TokenTree::Group(group)) = tokens.next() {
                messages.push(syn::parse2::<syn::LitStr>(group.stream()).expect("a message").value());
            }
        }
    }
    messages
}

fn expand(item: TokenStream) -> TokenStream {
    service(&TokenStream::new(), item)
}

#[allow(clippy::needless_pass_by_value, reason = "`quote!` at each call makes a value")]
/// The messages for one method, whose siblings keep their wiring and which itself is kept as written.
fn check(method: TokenStream, expected: &[&str]) {
    let expanded = expand(quote! {
        impl Orders {
            #method

            #[get("/healthy")]
            async fn healthy(&self) {}
        }
    });
    let mistakes = mistakes_in(&expanded);
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (found, expected) in mistakes.iter().zip(expected) {
        assert!(found.contains(expected), "found {found:?}, expected {expected:?}");
    }
    assert!(expanded.to_string().contains("Self :: healthy"), "a sibling lost its wiring: {expanded}");
}

#[test]
fn a_path_parameter_is_an_argument() {
    golden(
        "path",
        &expand(quote! {
            impl Orders {
                /// Look one order up.
                #[get("/orders/{id}")]
                pub(crate) async fn order(&self, id: OrderId) -> Result<Order, OrderError> {
                    self.store.order(id).await
                }
            }
        }),
    );
}

#[test]
fn a_plain_argument_of_post_is_the_body() {
    golden(
        "body_and_policy",
        &expand(quote! {
            impl<S: Store> Orders<S>
            where
                S: Send,
            {
                const LIMIT: Limit = Limit { items: 3 };

                #[post("/customers/{customer}/orders", timeout = "1m30s")]
                #[cfg(feature = "write")]
                async fn place(&self, order: NewOrder, customer: CustomerId) -> Created<Order> {
                    todo!()
                }

                fn helper(&self) {}
            }
        }),
    );
}

#[test]
fn a_plain_argument_of_get_is_the_query_and_extract_passes_anything() {
    golden(
        "query_and_extract",
        &expand(quote! {
            impl Orders {
                #[get("/orders")]
                async fn search(&self, #[extract] headers: HeaderMap, Page { limit, .. }: Page) {}
            }
        }),
    );
}

#[test]
fn a_half_typed_body_is_kept_and_wired() {
    let expanded = expand(quote! {
        impl Orders {
            #[get("/orders")]
            async fn orders(&self) -> Vec<Order> { self.store. }
        }
    });
    assert_eq!(mistakes_in(&expanded), [] as [&str; 0]);
    let text = expanded.to_string();
    assert!(text.contains("async fn orders (& self) -> Vec < Order > { self . store . }"), "{text}");
    assert!(text.contains("Self :: orders"), "{text}");
}

#[test]
fn a_signature_that_cannot_be_read_is_kept() {
    check(quote!(#[get("/orders")] async fn orders(&self, id: ) {}), &["expected"]);
}

#[test]
fn braces_in_types_and_values_do_not_end_an_item() {
    check(
        quote! {
            const A: [B; 1] = [B { c: 1 }];
            const D: B = B { c: 1 };
            const E: u8 = B { c: 1 }.c;
            fn f(&self) -> Foo<{ N }> { g() }
        },
        &[],
    );
}

#[test]
fn a_handler_must_be_async() {
    check(
        quote!(
            #[get("/a")]
            fn a(&self) {}
        ),
        &["handler `a` must be async: add `async` before `fn`"],
    );
}

#[test]
fn a_handler_must_take_self_shared() {
    check(
        quote!(
            #[get("/a")]
            async fn a() {}
        ),
        &["handler `a` needs `&self` as its first argument"],
    );
    check(
        quote!(
            #[get("/a")]
            async fn a(&mut self) {}
        ),
        &["found `&mut self`, expected `&self`"],
    );
    check(
        quote!(
            #[get("/a")]
            async fn a(self) {}
        ),
        &["found `self`, expected `&self`"],
    );
    check(
        quote!(
            #[get("/a")]
            async fn a(self: Arc<Self>) {}
        ),
        &["found `self: Arc<Self>`, expected `&self`"],
    );
}

#[test]
fn a_handler_must_not_be_generic() {
    check(
        quote!(
            #[get("/a")]
            async fn a<T>(&self) {}
        ),
        &["handler `a` must not be generic"],
    );
    check(
        quote!(
            #[post("/a")]
            async fn a(&self, x: impl Into<String>) {}
        ),
        &["an argument needs a type of its own"],
    );
    check(
        quote!(
            #[post("/a")]
            async fn a<'s>(&'s self) {}
        ),
        &[],
    );
}

#[test]
fn an_argument_must_be_owned() {
    check(
        quote!(
            #[get("/a/{x}")]
            async fn a(&self, x: &str) {}
        ),
        &["found `&str`, expected a value of its own: write `String`"],
    );
    check(
        quote!(
            #[post("/a")]
            async fn a(&self, x: &[Order]) {}
        ),
        &["found `&[Order]`, expected a value of its own: write `Vec<Order>`"],
    );
}

#[test]
fn a_path_parameter_needs_an_argument() {
    check(
        quote!(
            #[get("/a/{id}")]
            async fn a(&self) {}
        ),
        &["`{id}` has no argument: add `id: …` to `a`"],
    );
}

#[test]
fn an_argument_must_come_from_somewhere() {
    check(
        quote!(
            #[get("/a")]
            async fn a(&self, id: u64) {}
        ),
        &["`id` is not in the path \"/a\", and a query has names: add `{id}` to the path"],
    );
    check(
        quote!(
            #[get("/a")]
            async fn a(&self, p: Page, q: Filter) {}
        ),
        &["`p` is the query already, and `q` is not in the path \"/a\""],
    );
    check(
        quote!(
            #[put("/a/{id}")]
            async fn a(&self, id: u8, p: Page, q: Filter) {}
        ),
        &["`p` is the body already, and `q` is not in the path"],
    );
}

#[test]
fn a_path_must_be_well_formed() {
    for (path, expected) in [
        ("orders", "found \"orders\", expected a path that starts with a slash: write \"/orders\""),
        ("", "found \"\", expected a path that starts with a slash: write \"/\""),
        ("/orders/:id", "found `:id`, expected braces around a parameter: write `{id}`"),
        ("/files/*rest", "found `*rest`, expected braces around a parameter: write `{*rest}`"),
        ("/orders/{id", "found `{id`, expected a brace at both ends of a parameter: write `{name}`"),
        ("/orders/id}", "found `id}`, expected a brace at both ends of a parameter: write `{name}`"),
        ("/orders/{}", "found `{}`, expected the name of an argument in the braces: write `{id}`"),
        ("/orders/{1st}", "found `{1st}`, expected the name of an argument"),
        ("/orders/{id}.json", "found `{id}.json`, expected a parameter that fills its segment"),
        ("/orders?x=1", "found '?' in \"/orders?x=1\", expected a path alone"),
        ("/a b", "found ' ' in \"/a b\", expected a path alone"),
    ] {
        check(
            quote!(
                #[get(#path)]
                async fn a(&self) {}
            ),
            &[expected],
        );
    }
    check(
        quote!(
            #[get("/{a}/{a}")]
            async fn x(&self, a: u8) {}
        ),
        &["`{a}` is twice"],
    );
    check(
        quote!(
            #[get("/{*a}/b")]
            async fn x(&self, a: String) {}
        ),
        &["`{*a}` takes the rest of the path: it must be the last segment"],
    );
    check(
        quote!(
            #[get("/{*a}")]
            async fn x(&self, a: String) {}
        ),
        &[],
    );
}

#[test]
fn a_route_needs_its_path() {
    let expected = "a route needs its path: write `#[get(\"/orders/{id}\")]`";
    check(
        quote!(
            #[get]
            async fn a(&self) {}
        ),
        &[expected],
    );
    check(
        quote!(
            #[get()]
            async fn a(&self) {}
        ),
        &[expected],
    );
    check(
        quote!(
            #[get(timeout = "2s")]
            async fn a(&self) {}
        ),
        &[expected],
    );
}

#[test]
fn a_policy_key_must_be_known_and_right() {
    check(
        quote!(
            #[get("/a", timeut = "2s")]
            async fn a(&self) {}
        ),
        &["found the key `timeut`, expected `timeout`"],
    );
    check(
        quote!(
            #[get("/a", timeout = "2")]
            async fn a(&self) {}
        ),
        &["found \"2\", expected a duration in quotes"],
    );
    check(
        quote!(
            #[get("/a", timeout = 2)]
            async fn a(&self) {}
        ),
        &["expected a duration in quotes, such as \"250ms\""],
    );
    check(
        quote!(
            #[get("/a", timeout = "0s")]
            async fn a(&self) {}
        ),
        &["found no time at all"],
    );
    check(
        quote!(
            #[get("/a", timeout = "2s", timeout = "3s")]
            async fn a(&self) {}
        ),
        &["`timeout` is given twice"],
    );
}

#[test]
fn a_route_is_answered_once() {
    check(
        quote! {
            #[get("/a/{x}")] async fn a(&self, x: u8) {}
            #[get("/a/{x}")] async fn b(&self, x: u8) {}
        },
        &["`a` answers GET \"/a/{x}\" already"],
    );
    check(
        quote! {
            #[get("/a/{x}")] async fn a(&self, x: u8) {}
            #[put("/a/{y}")] async fn b(&self, y: u8) {}
        },
        &["found \"/a/{y}\", and \"/a/{x}\" for the same path before: name the parameters alike"],
    );
    check(
        quote! {
            #[get("/a")] async fn a(&self) {}
            #[put("/a")] async fn b(&self) {}
        },
        &[],
    );
    check(
        quote!(
            #[get("/a")]
            #[head("/b")]
            async fn a(&self) {}
        ),
        &["a handler has one route"],
    );
}

#[test]
fn several_mistakes_are_told_at_once() {
    check(
        quote! {
            #[get("orders/{id}", timout = "2s")] fn a(&self) {}
            #[post("/b")] async fn b(&mut self, x: A, y: B) {}
        },
        &[
            "found the key `timout`",
            "handler `a` must be async",
            "expected a path that starts with a slash",
            "found `&mut self`",
            "`x` is the body already",
        ],
    );
}

#[test]
fn what_is_no_impl_block_is_kept_as_written() {
    for item in [
        quote!(
            struct Orders;
        ),
        quote!(impl Service for Orders {}),
        quote!(
            fn orders() {}
        ),
    ] {
        let expanded = expand(item.clone());
        assert_eq!(mistakes_in(&expanded).len(), 1, "{expanded}");
        assert!(expanded.to_string().starts_with(&item.to_string()), "{expanded}");
    }
}

#[test]
fn service_takes_no_keys_yet() {
    let expanded = service(&quote!(path = "/v1"), quote!(impl Orders {}));
    assert_eq!(mistakes_in(&expanded).len(), 1);
}
