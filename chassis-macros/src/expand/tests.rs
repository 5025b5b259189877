use std::{env, fs, path::Path};

use super::*;

mod keys;
mod mistakes;
mod rpc;

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

/// The messages in an expansion are these, and the handler `healthy` beside them keeps its wiring.
fn tells(expanded: &TokenStream, expected: &[&str]) {
    let mistakes = mistakes_in(expanded);
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (found, expected) in mistakes.iter().zip(expected) {
        assert!(found.contains(expected), "found {found:?}, expected {expected:?}");
    }
    assert!(expanded.to_string().contains("Self :: healthy"), "a sibling lost its wiring: {expanded}");
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
    service(TokenStream::new(), item)
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
fn what_is_asked_of_a_route_is_in_its_description() {
    golden(
        "keys",
        &service(
            quote!(path = "/tenants/{tenant}", version = "v2", tag = "shop"),
            quote! {
                impl Orders {
                    #[get(
                        "/",
                        timeout = "250ms",
                        concurrency = 10,
                        body_limit = "64KiB",
                        idempotent,
                        deprecated = "2026-06-30",
                        sunset = "2027-06-30",
                        tags = ["orders", "search"],
                    )]
                    async fn orders(&self, tenant: Tenant) {}
                }
            },
        ),
    );
}

#[test]
fn an_rpc_takes_the_fields_of_its_message() {
    golden(
        "rpc",
        &service(
            quote!(grpc = proto::orders_server::Orders),
            quote! {
                impl Orders {
                    /// Look one order up.
                    #[rpc(GetOrder, timeout = "2s")]
                    #[cfg(feature = "read")]
                    async fn order(&self, id: OrderId, r#type: Kind) -> Result<Order, OrderError> {
                        todo!()
                    }

                    #[rpc]
                    async fn ping(&self) {}
                }
            },
        ),
    );
}

#[test]
fn a_handler_may_be_a_route_and_an_rpc() {
    golden(
        "route_and_rpc",
        &service(
            quote!(path = "/shop", grpc = proto::orders_server::Orders<WatchStream = Watch>),
            quote! {
                impl Orders {
                    #[post("/customers/{customer}/orders", concurrency = 5)]
                    #[rpc(PlaceOrder)]
                    async fn place(&self, customer: CustomerId, #[message] order: NewOrder) -> Created<Order> {
                        todo!()
                    }
                }
            },
        ),
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
