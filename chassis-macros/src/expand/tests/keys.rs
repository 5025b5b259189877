//! What is told of wrong keys.

use super::{mistakes::check, *};

/// The messages of one route with these keys.
fn check_keys(keys: &TokenStream, expected: &[&str]) {
    check(
        quote!(
            #[get("/a", #keys)]
            async fn a(&self) {}
        ),
        expected,
    );
}

#[test]
fn a_key_must_be_known() {
    check_keys(&quote!(timeut = "2s"), &["found the key `timeut`, did you mean `timeout`? Write `timeout = \"2s\"`"]);
    check_keys(&quote!(body_limt = 5), &["did you mean `body_limit`?"]);
    check_keys(
        &quote!(priority = "high"),
        &["found the key `priority`, expected `timeout`, `concurrency`, `body_limit`"],
    );
    check_keys(&quote!("2s"), &["expected a key, such as `timeout = \"2s\"`"]);
    check_keys(&quote!(timeout = "2s", timeout = "3s"), &["`timeout` is given twice"]);
    check_keys(&quote!(timeout = "2s",), &[]);
}

#[test]
fn a_key_has_a_value_or_is_a_flag() {
    check_keys(&quote!(timeout), &["`timeout` needs a value: write `timeout = \"2s\"`"]);
    check_keys(&quote!(timeout = ), &["`timeout` takes its value after `=`"]);
    check_keys(&quote!(timeout("2s")), &["`timeout` takes its value after `=`: write `timeout = \"2s\"`"]);
    check_keys(&quote!(idempotent = true), &["`idempotent` takes no value: write `idempotent` alone"]);
    check_keys(&quote!(timeout = "2s" idempotent), &["expected a comma after the value of `timeout`"]);
    check_keys(&quote!(idempotent), &[]);
}

#[test]
fn a_value_must_fit_its_key() {
    check_keys(&quote!(timeout = "2"), &["found \"2\", expected a duration in quotes"]);
    check_keys(&quote!(timeout = 2), &["found `2`, expected a duration in quotes, such as \"250ms\""]);
    check_keys(&quote!(timeout = "0s"), &["found no time at all"]);
    check_keys(&quote!(concurrency = 0), &["found 0, expected at least 1"]);
    check_keys(&quote!(concurrency = "10"), &["found `\"10\"`, expected a whole number from 1 to 4294967295"]);
    check_keys(&quote!(concurrency = -1), &["expected a whole number"]);
    check_keys(&quote!(body_limit = "64kb"), &["found \"64kb\", expected a size, such as \"64KiB\""]);
    check_keys(&quote!(body_limit = true), &["found `true`, expected a size"]);
    check_keys(&quote!(body_limit = 0), &["found no bytes at all"]);
    check_keys(&quote!(body_limit = 65_536), &[]);
    check_keys(&quote!(tags = "a"), &["found `\"a\"`, expected a list of texts, such as [\"orders\", \"search\"]"]);
    check_keys(&quote!(tags = []), &["found nothing in the list"]);
    check_keys(&quote!(tags = ["a", 1]), &["expected a list of texts"]);
}

#[test]
fn a_date_must_exist_and_come_in_order() {
    check_keys(&quote!(deprecated = 2026), &["found `2026`, expected a date in quotes, such as \"2026-06-30\""]);
    check_keys(&quote!(deprecated = "30.06.2026"), &["found \"30.06.2026\", expected a date"]);
    check_keys(&quote!(deprecated = "2026-06-31"), &["found \"2026-06-31\", but that month ends on day 30"]);
    check_keys(&quote!(sunset = "2027-01-01"), &["add `deprecated = \"…\"`"]);
    check_keys(
        &quote!(deprecated = "2026-06-30", sunset = "2026-06-29"),
        &["found \"2026-06-29\", which is before `deprecated = \"2026-06-30\"`"],
    );
    check_keys(&quote!(deprecated = "2026-06-30", sunset = "2026-06-30"), &[]);
    // A date that is wrong is not told again as one that is missing.
    check_keys(&quote!(deprecated = "2026", sunset = "2027-01-01"), &["found \"2026\", expected a date"]);
}

#[test]
fn every_wrong_key_is_told() {
    check_keys(
        &quote!(timeot = "2s", concurrency = 0, idempotent = 1, body_limit),
        &["`timeot`", "found 0", "takes no value", "needs a value"],
    );
}

/// The messages of a block with these keys, whose handler is right.
fn check_block(keys: TokenStream, expected: &[&str]) {
    let expanded = service(
        keys,
        quote! {
            impl Orders {
                #[get("/healthy")]
                async fn healthy(&self) {}
            }
        },
    );
    tells(&expanded, expected);
}

#[test]
fn a_key_of_the_service_must_be_known_and_right() {
    for (path, expected) in [
        ("shop", "found \"shop\", expected a path that starts with a slash: write \"/shop\""),
        ("/shop/", "found \"/shop/\", expected no slash at the end, for every route brings its own: write \"/shop\""),
        ("/", "found \"/\", which adds nothing: remove `path`"),
        ("/{*all}", "the rest of a path cannot come before the routes' own paths"),
        ("/{tenant", "expected a brace at both ends"),
        ("/{tenant}", "no handler takes `{tenant}`: add `tenant: …` to each that has a route"),
        ("/a//b", "found two slashes in a row in \"/a//b\": write \"/a/b\""),
    ] {
        check_block(quote!(path = #path), &[expected]);
    }
    check_block(
        quote!(version = "/v1"),
        &["found \"/v1\", expected one segment of a path, without slashes: write \"v1\""],
    );
    check_block(quote!(version = "v1/beta"), &["expected one segment of a path"]);
    check_block(quote!(version = 1), &["found `1`, expected a text in quotes"]);
    check_block(quote!(version = "v1", path = "/v1/shop"), &["`version` puts \"v1\" in front already"]);
    check_block(quote!(prefix = "/shop"), &["found the key `prefix`, expected `path`, `version`, `tag` or `grpc`"]);
    check_block(quote!(tags = "a"), &["found the key `tags`, did you mean `tag`? Write `tag = \"orders\"`"]);
    check_block(quote!(timeout = "2s"), &["found the key `timeout`, expected `path`"]);
    check_block(quote!(grpc = Orders), &["found `Orders`, expected the trait that tonic generates, with its module"]);
    check_block(quote!(grpc = "a::B"), &["expected the trait that tonic generates, with its module"]);
    check_block(quote!(grpc = a::b_server::B), &["no method of this block is an rpc: mark one with `#[rpc]`"]);
    check_block(quote!(path = "/shop", version = "v1", tag = "shop"), &[]);
}

#[test]
fn a_parameter_of_the_service_is_an_argument_of_every_route() {
    let expanded = service(
        quote!(path = "/tenants/{tenant}"),
        quote! {
            impl Orders {
                #[get("/a")]
                async fn a(&self, tenant: String) {}
                #[get("/b")]
                async fn b(&self) {}
                #[get("/{tenant}")]
                async fn c(&self, tenant: String) {}
            }
        },
    );
    assert_eq!(
        mistakes_in(&expanded),
        [
            "`{tenant}` in the path of the service has no argument here: add `tenant: …` to `b`",
            "`{tenant}` is in the path of the service already: name it otherwise",
        ]
    );
    assert!(expanded.to_string().contains("\"/tenants/{tenant}/a\""), "{expanded}");
}
