//! What is told of a wrong rpc.

use super::{mistakes::check, *};

/// The messages of a block with an rpc that is right, and this method.
#[allow(clippy::needless_pass_by_value, reason = "`quote!` at each call makes a value")]
fn check_rpc(method: TokenStream, expected: &[&str]) {
    let expanded = service(
        quote!(grpc = proto::orders_server::Orders),
        quote! {
            impl Orders {
                #[rpc(Check)]
                async fn healthy(&self) {}

                #method
            }
        },
    );
    tells(&expanded, expected);
}

#[test]
fn an_rpc_may_have_any_name_that_a_proto_allows() {
    for (attribute, name, method) in [
        (quote!(rpc(GetOrder)), "GetOrder", "get_order"),
        (quote!(rpc(getOrder)), "getOrder", "get_order"),
        (quote!(rpc(get_order)), "get_order", "get_order"),
        (quote!(rpc(Get_Order)), "Get_Order", "get_order"),
        (quote!(rpc(GET_ORDER)), "GET_ORDER", "get_order"),
        (quote!(rpc(Move)), "Move", "r#move"),
        (quote!(rpc(move)), "move", "r#move"),
        (quote!(rpc(r#move)), "move", "r#move"),
        (quote!(rpc(Super)), "Super", "super_"),
        (quote!(rpc(_1st)), "_1st", "_1st"),
        (quote!(rpc(__)), "__", "__"),
    ] {
        let block = quote! {
            impl Orders {
                #[#attribute]
                async fn order(&self) {}
            }
        };
        let expanded = service(quote!(grpc = proto::orders_server::Orders), block);
        assert_eq!(mistakes_in(&expanded), [""; 0], "{attribute}");
        let expanded = expanded.to_string();
        assert!(expanded.contains(&format!("> :: {method})")), "{attribute}: no {method} in {expanded}");
        assert!(expanded.contains(&format!("\"{name}\"")), "{attribute}: no {name} in {expanded}");
    }
}

#[test]
fn an_rpc_must_be_well_formed() {
    for (attribute, expected) in [
        (
            quote!(rpc("GetOrder")),
            "found `\"GetOrder\"`, expected the name of the rpc as a plain word: write `#[rpc(GetOrder)]`",
        ),
        (quote!(rpc(_)), "found `_`, expected the name of the rpc as a plain word"),
        (quote!(rpc("/orders.v1.Orders/GetOrder")), "write `#[rpc(GetOrder)]`"),
        (quote!(rpc = "GetOrder"), "the name stands in parentheses: write `#[rpc(GetOrder)]`"),
        (quote!(rpc(GetOrder, timeot = "2s")), "did you mean `timeout`?"),
        (quote!(rpc(Check)), "`healthy` is the rpc `Check` already"),
    ] {
        check_rpc(
            quote!(
                #[#attribute]
                async fn order(&self) {}
            ),
            &[expected],
        );
    }
    for attribute in
        [quote!(rpc), quote!(rpc(GetOrder)), quote!(rpc(timeout = "2s")), quote!(rpc(GetOrder, idempotent))]
    {
        check_rpc(
            quote!(
                #[#attribute]
                async fn order(&self) {}
            ),
            &[],
        );
    }
    check_rpc(
        quote!(
            #[rpc]
            #[rpc(B)]
            async fn a(&self) {}
        ),
        &["a handler is one rpc"],
    );
    check_rpc(
        quote!(
            #[get("/a", timeout = "2s")]
            #[rpc(A, timeout = "3s")]
            async fn a(&self) {}
        ),
        &["the keys of the route hold for the rpc too: move this one there"],
    );
    check_rpc(
        quote!(
            #[rpc]
            fn a(self) {}
        ),
        &["must be async", "found `self`"],
    );
}

#[test]
fn an_argument_of_an_rpc_comes_from_its_message() {
    for (arguments, expected) in [
        (quote!(#[extract] headers: HeaderMap), "an rpc has no HTTP request to extract from"),
        (quote!(Page { limit }: Page), "and `Page { limit }` is no name: write a name, or mark it with `#[message]`"),
        (quote!(#[message] a: A, #[message] b: B), "an rpc has one message"),
    ] {
        check_rpc(
            quote!(
                #[rpc]
                async fn a(&self, #arguments) {}
            ),
            &[expected],
        );
    }
    check_rpc(
        quote!(
            #[put("/a/{id}")]
            #[rpc]
            async fn a(&self, #[message] id: u64) {}
        ),
        &["`id` is a parameter of the path, and so the message's field `id`: remove `#[message]`"],
    );
    check_rpc(
        quote!(
            #[post("/a")]
            async fn a(&self, #[message] a: A) {}
        ),
        &["`#[message]` takes the request message of an rpc: add `#[rpc]`"],
    );
    check_rpc(
        quote!(
            #[rpc]
            async fn a(&self, #[message] Whole { a }: Whole, id: u64) {}
        ),
        &[],
    );
}

#[test]
fn an_rpc_needs_the_trait() {
    check(
        quote! {
            #[rpc] async fn a(&self) {}
            #[rpc] async fn b(&self) {}
        },
        &["`#[rpc]` needs the trait that tonic generates: write `#[service(grpc = proto::orders_server::Orders)]`"],
    );
}
