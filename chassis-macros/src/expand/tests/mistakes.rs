//! What is told of a wrong service.

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "`quote!` at each call makes a value")]
/// The messages for one method, whose siblings keep their wiring and which itself is kept as written.
pub(super) fn check(method: TokenStream, expected: &[&str]) {
    let expanded = expand(quote! {
        impl Orders {
            #method

            #[get("/healthy")]
            async fn healthy(&self) {}
        }
    });
    tells(&expanded, expected);
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
        &["found `impl Into<String>`, expected a type with a name"],
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
fn an_argument_is_marked_with_what_there_is() {
    for (arguments, expected) in [
        (quote!(#[path] id: u64), &["found `#[path]`: an argument that the path names"] as &[_]),
        (quote!(id: u64, #[query] page: Page), &["found `#[query]`: on GET"]),
        (quote!(id: u64, #[extarct] page: Page), &["found `#[extarct]`: an argument takes `#[extract]`"]),
        (quote!(id: u64, #[extract = 1] page: Page), &["`#[extract]` stands alone"]),
        (quote!(id: u64, #[cfg(a)] page: Page), &["put `#[cfg]` on the handler"]),
        (quote!(#[allow(unused)] id: u64), &[]),
        (
            quote!(id: u64, Query(page): Query<Page>),
            &["found `Query(page)`: the query is taken by itself, write `query: Page`"],
        ),
        (
            quote!(id: u64, State(db): State<Db>),
            &["found `State(db)`: what a handler shares is `self`, keep the `Db` in a field and write `self.db`"],
        ),
        (quote!(id: u64, #[extract] State(db): State<Db>), &[]),
        (quote!(id: Cow<'_, str>), &["found `Cow<'_, str>`, expected a value of its own"]),
        (quote!(id: Cow<'static, str>), &[]),
    ] {
        check(
            quote!(
                #[get("/a/{id}")]
                async fn a(&self, #arguments) {}
            ),
            expected,
        );
    }
}

#[test]
fn a_name_that_is_nearly_the_parameters_is_asked_about() {
    check(
        quote!(
            #[get("/a/{order_id}")]
            async fn a(&self, id: u64) {}
        ),
        &["`id` is not in the path \"/a/{order_id}\", did you mean `order_id`?"],
    );
    // Whichever of two plain arguments it is.
    for arguments in [quote!(custmer: u64, order: Order), quote!(order: Order, custmer: u64)] {
        check(
            quote!(
                #[post("/a/{customer}")]
                async fn a(&self, #arguments) {}
            ),
            &["`custmer` is not in the path \"/a/{customer}\", did you mean `customer`?"],
        );
    }
}

#[test]
fn a_route_goes_on_a_method() {
    check(
        quote!(
            #[get("/a")]
            const A: u8 = 1;
        ),
        &["`#[get]` goes on a method"],
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
