use super::*;
use crate::expand::tests::{golden, mistakes_in};

fn expand(item: TokenStream) -> TokenStream {
    client(&TokenStream::new(), item)
}

#[allow(clippy::needless_pass_by_value, reason = "`quote!` at each call makes a value")]
/// The messages for one method, whose sibling keeps its call.
fn check(method: TokenStream, expected: &[&str]) {
    let expanded = told(&method, expected);
    assert!(expanded.contains("\"/healthy\""), "a sibling lost its call: {expanded}");
    assert!(expanded.contains("impl OrdersApi for OrdersApiClient"), "the client is gone: {expanded}");
}

/// The messages for one item of a trait, and the expansion.
fn told(item: &TokenStream, expected: &[&str]) -> String {
    let expanded = expand(quote! {
        trait OrdersApi {
            #item

            #[get("/healthy")]
            async fn healthy(&self) -> Result<(), CallError>;
        }
    });
    let mistakes = mistakes_in(&expanded);
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (found, expected) in mistakes.iter().zip(expected) {
        assert!(found.contains(expected), "found {found:?}, expected {expected:?}");
    }
    let expanded = expanded.to_string();
    assert!(expanded.contains("trait OrdersApi") && expanded.contains("struct OrdersApiClient"), "{expanded}");
    expanded
}

#[test]
fn a_call_takes_its_arguments_as_the_handler_does() {
    golden(
        "client",
        &client(
            &quote!(version = "v1", path = "/shop"),
            quote! {
                /// The orders service.
                pub(crate) trait OrdersApi: Send + Sync {
                    /// Look one order up.
                    #[get("/orders/{id}", timeout = "2s")]
                    async fn order(&self, id: OrderId) -> Result<Order, CallError>;

                    #[put("/orders/{id}/items")]
                    #[cfg(feature = "write")]
                    async fn add(&self, items: &[Item], id: OrderId) -> Result<(), ShopError>;

                    #[post("/search", idempotent)]
                    async fn search<'a>(&self, query: Query<'a>) -> orders::Result<Vec<Order>>;
                }
            },
        ),
    );
}

#[test]
fn a_query_may_be_borrowed_and_a_default_method_stays() {
    golden(
        "client_query",
        &expand(quote! {
            trait Search {
                #[get("/orders")]
                async fn search(&self, page: &Page) -> Result<Created<Order>, CallError>;

                async fn first(&self) -> Option<Order> {
                    self.search(&Page::first()).await.ok()
                }
            }
        }),
    );
}

#[test]
fn a_half_typed_body_is_kept() {
    let expanded = expand(quote!(
        trait A {
            async fn first(&self) -> Order {
                self.
            }
        }
    ));
    assert_eq!(mistakes_in(&expanded), [] as [&str; 0]);
    assert!(expanded.to_string().contains("async fn first (& self) -> Order { self . }"), "{expanded}");
}

#[test]
fn what_is_no_trait_is_kept_as_written() {
    for item in [
        quote!(
            struct Orders;
        ),
        quote!(
            impl Orders {}
        ),
    ] {
        let expanded = expand(item.clone());
        assert_eq!(mistakes_in(&expanded).len(), 1, "{expanded}");
        assert!(expanded.to_string().starts_with(&item.to_string()), "{expanded}");
    }
}

#[test]
fn a_trait_of_calls_has_methods_only() {
    told(
        &quote!(
            type Error;
        ),
        &["a client has methods only"],
    );
    told(
        &quote!(
            const LIMIT: u8 = 3;
        ),
        &["a client has methods only"],
    );
}

#[test]
fn a_method_needs_one_route_or_a_body() {
    check(
        quote!(
            async fn a(&self) -> Result<(), E>;
        ),
        &["`a` has no route: write `#[get(\"/orders/{id}\")]` above it"],
    );
    check(
        quote!(
            #[get("/a")]
            #[put("/a")]
            async fn a(&self) -> Result<(), E>;
        ),
        &["a call has one route"],
    );
    check(
        quote!(
            #[get("/a")]
            async fn a(&self) -> Result<(), E> {
                todo!()
            }
        ),
        &["`a` has a route and a body: end it with `;`"],
    );
}

#[test]
fn a_call_is_async_shared_and_not_generic() {
    check(
        quote!(
            #[get("/a")]
            fn a<T>(&mut self) -> Result<T, E>;
        ),
        &["call `a` must be async", "call `a` must not be generic", "found `&mut self`, expected `&self`"],
    );
    check(
        quote!(
            #[get("/a")]
            async fn a() -> Result<(), E>;
        ),
        &["call `a` needs `&self`"],
    );
    check(
        quote!(
            #[post("/a")]
            async fn a(&self, x: impl Serialize) -> Result<(), E>;
        ),
        &["an argument needs a type of its own"],
    );
}

#[test]
fn a_call_returns_a_result() {
    for (output, found) in [
        (quote!(), "a call may fail: return `Result<…, CallError>`; `Result<(), CallError>`"),
        (quote!(-> u64), "found `u64`, and a call may fail"),
        (quote!(-> Option<Order>), "found `Option<Order>`, and a call may fail"),
        (quote!(-> (A, B)), "and a call may fail: return"),
    ] {
        check(quote!(#[get("/a")] async fn a(&self) #output;), &[found]);
    }
}

#[test]
fn every_argument_has_its_place() {
    check(
        quote!(
            #[get("/a/{x}")]
            async fn a(&self, y: &str) -> Result<(), E>;
        ),
        &["`y` is not in the path \"/a/{x}\", and a query has names", "`{x}` has no argument: add `x: …` to `a`"],
    );
    check(
        quote!(
            #[post("/a")]
            async fn a(&self, x: A, y: B) -> Result<(), E>;
        ),
        &["`x` is the body already, and `y` is not in the path \"/a\""],
    );
    check(
        quote!(
            #[get("/a")]
            async fn a(&self, #[extract] headers: HeaderMap) -> Result<(), E>;
        ),
        &["a client has nothing to extract from"],
    );
}

#[test]
fn a_key_must_mean_something_to_a_client() {
    check(
        quote!(
            #[get("/a", concurrency = 3, tags = ["a"], timeut = "2s")]
            async fn a(&self) -> Result<(), E>;
        ),
        &[
            "`concurrency` is the service's affair, a client has `timeout` and `idempotent`: remove it",
            "`tags` is the service's affair",
            "found the key `timeut`, did you mean `timeout`? Write `timeout = \"2s\"`",
        ],
    );
    check(
        quote!(
            #[get("/a", timeout, idempotent = true)]
            async fn a(&self) -> Result<(), E>;
        ),
        &["`timeout` needs a value", "`idempotent` takes no value: write `idempotent` alone"],
    );
    check(
        quote!(
            #[get("/a", timeout = "2", timeout = "3s")]
            async fn a(&self) -> Result<(), E>;
        ),
        &["found \"2\", expected a duration", "`timeout` is given twice"],
    );
    for attribute in [quote!(#[get]), quote!(#[get()]), quote!(#[get(timeout = "2s")])] {
        check(quote!(#attribute async fn a(&self) -> Result<(), E>;), &["a route needs its path"]);
    }
    check(
        quote!(
            #[get("a")]
            async fn a(&self) -> Result<(), E>;
        ),
        &["found \"a\", expected a path that starts with a slash"],
    );
}

#[test]
fn a_key_of_the_trait_must_be_known_and_right() {
    for (keys, expected) in [
        (quote!(version = "v/1"), "found \"v/1\", expected one segment"),
        (quote!(path = "shop"), "found \"shop\", expected a path that starts with a slash"),
        (quote!(path = "/"), "found \"/\", which adds nothing"),
        (quote!(path), "`path` needs a value"),
        (quote!(version = 1), "expected a text in quotes"),
        (quote!(grpc = a::B), "`grpc` is the service's affair"),
        (quote!(vers = "v1"), "found the key `vers`, expected `path` or `version`"),
    ] {
        let expanded = client(
            &keys,
            quote!(
                trait A {}
            ),
        );
        let mistakes = mistakes_in(&expanded);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(expected), "found {:?}, expected {expected:?}", mistakes[0]);
        assert!(expanded.to_string().contains("struct AClient"), "{expanded}");
    }
}

#[test]
fn a_fallback_answers_with_the_arguments_of_the_call() {
    golden(
        "client_fallback",
        &expand(quote! {
            trait StockApi {
                /// How many there are.
                #[get("/stock/{sku}")]
                #[fallback(unknown)]
                async fn stock(&self, sku: &str) -> Result<Stock, CallError>;

                #[get("/near/{sku}")]
                #[fallback(stock)]
                async fn near(&self, sku: &str) -> Result<Stock, CallError>;

                async fn unknown(&self, sku: &str, error: &CallError) -> Result<Stock, CallError> {
                    Ok(Stock::unknown(sku))
                }
            }
        }),
    );
}

#[test]
fn a_fallback_names_another_method_that_is_there() {
    let sibling = "`OrdersApi` has no method `b`: write it with a body: `async fn b`";
    for (attribute, expected) in [
        (quote!(#[fallback]), "name the method that answers when the call fails: `#[fallback(unknown)]`"),
        (quote!(#[fallback("b")]), "name the method that answers"),
        (quote!(#[fallback(b, c)]), "name the method that answers"),
        (quote!(#[fallback(a)]), "`a` cannot stand in for itself"),
        (quote!(#[fallback(b)]), sibling),
        (quote!(#[fallback(helthy)]), "`OrdersApi` has no method `helthy`: did you mean `healthy`?"),
        (quote!(#[fallback(healthy)] #[fallback(healthy)]), "a call has one fallback"),
    ] {
        check(quote!(#[get("/a")] #attribute async fn a(&self) -> Result<(), E>;), &[expected]);
    }
    check(
        quote!(
            #[fallback(healthy)]
            async fn a(&self) -> Result<(), E> {
                Ok(())
            }
        ),
        &["a fallback belongs to a call: put it on a method that has a route"],
    );
}

#[test]
fn a_fallback_has_the_shape_of_its_call() {
    for (method, expected) in [
        (
            quote!(
                fn b(&self, x: u8) -> Result<(), E> {
                    Ok(())
                }
            ),
            "so it must be async: add `async` before `fn`",
        ),
        (
            quote!(
                async fn b(x: u8) -> Result<(), E> {
                    Ok(())
                }
            ),
            "so it needs `&self` as its first argument",
        ),
        (
            quote!(
                async fn b(&self) -> Result<(), E> {
                    Ok(())
                }
            ),
            "so it takes the same arguments: `x: u8`, and `error: &CallError` after them",
        ),
        (
            quote!(
                async fn b(&self, x: u8, y: u8, z: u8) -> Result<(), E> {
                    Ok(())
                }
            ),
            "so it takes the same arguments",
        ),
    ] {
        check(quote!(#[get("/a/{x}")] #[fallback(b)] async fn a(&self, x: u8) -> Result<(), E>; #method), &[expected]);
    }
    check(
        quote!(
            #[get("/a")]
            #[fallback(b)]
            async fn a(&self) -> Result<(), E>;
            fn b(&self) -> impl Future<Output = Result<(), E>> {
                async { Ok(()) }
            }
        ),
        &[],
    );
}

#[test]
fn fallbacks_that_lead_back_are_told() {
    check(
        quote!(
            #[get("/a")]
            #[fallback(b)]
            async fn a(&self) -> Result<(), E>;

            #[get("/b")]
            #[fallback(a)]
            async fn b(&self) -> Result<(), E>;
        ),
        &["the fallbacks of `a` lead back to it", "the fallbacks of `b` lead back to it"],
    );
}
