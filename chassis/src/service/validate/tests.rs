use std::collections::BTreeMap;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
struct Order {
    unit_price: Price,
    order_lines: Vec<Line>,
    by_name: BTreeMap<String, Line>,
    lists: Lists,
    maybe: Option<Line>,
    #[serde(rename = "kind")]
    r#type: u32,
    payment: Payment,
}

#[derive(Deserialize)]
struct Price(#[allow(dead_code)] u32);

#[derive(Deserialize)]
struct Lists(#[allow(dead_code)] Vec<Line>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    #[allow(dead_code)]
    item_count: u32,
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Payment {
    Card { card_number: String },
}

fn place(text: &str) -> Vec<Step> {
    let step = |step: &str| match step.strip_prefix('#') {
        Some(index) => Step::Index(index.to_owned()),
        None => Step::Name(step.to_owned()),
    };
    text.split('/').filter(|part| !part.is_empty()).map(step).collect()
}

fn told_as(names: Names, text: &str) -> String {
    let mut pointer = String::new();
    for Step::Name(step) | Step::Index(step) in in_callers_names::<Order>(&place(text), names) {
        push_step(&mut pointer, &step);
    }
    pointer
}

#[test]
fn places_are_told_in_the_names_that_serde_reads() {
    for (garde, pointer) in [
        ("unit_price/#0", "/unitPrice"),
        ("order_lines/#3/item_count", "/orderLines/3/item-count"),
        ("order_lines", "/orderLines"),
        ("by_name/a.b\u{1}/item_count", "/byName/a.b\u{1}/item-count"),
        ("lists/#0/#2/item_count", "/lists/2/item-count"),
        // With `#[garde(transparent)]` on the newtype.
        ("lists/#2/item_count", "/lists/2/item-count"),
        ("maybe/item_count", "/maybe/item-count"),
        // Renamed one by one: nobody knows both names.
        ("type", "/type"),
        ("payment/card_number", "/payment/card_number"),
        ("", ""),
    ] {
        assert_eq!(told_as(Names::Serde, garde), pointer, "{garde}");
    }
}

#[test]
fn places_in_a_message_keep_their_names_without_the_step_of_a_newtype() {
    for (garde, pointer) in
        [("unit_price/#0", "/unit_price"), ("order_lines/#3/item_count", "/order_lines/3/item_count")]
    {
        assert_eq!(told_as(Names::Rust, garde), pointer, "{garde}");
    }
}

struct Even(u32);

impl Validate for Even {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut Report) {
        if self.0 % 2 == 1 {
            report.append(parent().join("half"), garde::Error::new("is odd"));
        }
    }
}

#[test]
fn a_value_is_checked_by_hand_as_the_macro_does_it() {
    assert_eq!(validate(&Even(2)), Ok(()));
    let problem = validate(&Even(3)).expect_err("three is odd");
    assert_eq!((problem.status().as_u16(), problem.code()), (422, "invalid_request"));
    assert_eq!(problem.to_string(), "invalid_request: the body is not valid: /half: is odd");
}

#[test]
#[allow(clippy::needless_borrow, reason = "the call is the one that the macro writes")]
fn only_a_type_with_rules_is_checked() {
    let by_rpc = |value: u32| (&&Probe::of(&Even(value))).__check().rpc(&Even(value), "number");
    assert_eq!(by_rpc(2), Ok(()));
    assert_eq!(
        by_rpc(3).expect_err("three is odd").to_string(),
        "invalid_request: the message is not valid: number.half: is odd"
    );
    assert_eq!((&&Probe::of(&3)).__check().rpc(&3, "number"), Ok(()));
    assert!((&&Probe::of(&Even(3))).__check().http(&Even(3), Source::Path, "id").is_err());
    assert!((&&Probe::of(&vec![Even(2)])).__check().http(&vec![Even(2)], Source::Body, "all").is_ok());
    assert!((&&Probe::of(&"no rules")).__check().http(&"no rules", Source::Query, "query").is_ok());
}

struct Rules(usize);

impl Validate for Rules {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut Report) {
        for index in 0..self.0 {
            report.append(parent().join(index).join("k".repeat(5000)), garde::Error::new("x".repeat(5000)));
        }
    }
}

#[tokio::test]
async fn broken_rules_are_told_up_to_a_number_and_a_length() {
    for source in [Source::Body, Source::Message, Source::Query, Source::Path] {
        let told = |rules| told(&broken(&Rules(rules).validate().expect_err("broken")), source, "rules");
        let (some, many) = (told(20).to_string(), told(1000).to_string());
        assert!(many.ends_with(" (20 of 1000 mistakes are listed)") && !some.contains("listed"), "{many}");
        let body = axum::response::IntoResponse::into_response(told(1000)).into_body();
        let body = axum::body::to_bytes(body, 30_000).await.expect("a short body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("a problem is JSON");
        assert_eq!(body["violations"].as_array().map(Vec::len), Some(20), "{body}");
    }
}
