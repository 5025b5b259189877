use ::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    problem::{Problem, ProblemInfo},
    service::{AnswerInfo, AnswerKind, ArgumentInfo, Content, Deprecation, RoutePolicy, Source, TypeInfo},
};

fn get(path: &'static str, handler: &'static str) -> RouteInfo {
    RouteInfo::new(Method::GET, path, handler)
}

fn made(routes: &[RouteInfo]) -> Value {
    document("orders", "1.0.0", routes).as_json().clone()
}

fn argument<T: JsonSchema>(source: Source, name: &'static str) -> ArgumentInfo {
    ArgumentInfo::new(source, name, TypeInfo::of::<T>())
}

fn json<T: JsonSchema>() -> AnswerInfo {
    AnswerInfo::new(AnswerKind::new(StatusCode::OK, Content::Json), TypeInfo::of::<T>())
}

/// Every reference of the document leads somewhere.
fn assert_no_dangling_reference(document: &Value) {
    let text = document.to_string();
    for piece in text.split("\"$ref\":\"#").skip(1) {
        let pointer = piece.split('"').next().expect("a pointer");
        assert!(document.pointer(pointer).is_some(), "{pointer} in {document:#}");
    }
}

mod first {
    #[derive(schemars::JsonSchema, serde::Serialize)]
    pub(super) struct Order {
        pub(super) id: u32,
    }
}

mod second {
    #[derive(schemars::JsonSchema, serde::Serialize)]
    pub(super) struct Order {
        pub(super) name: String,
    }
}

#[test]
fn rpcs_are_not_in_the_document() {
    let document = made(&[RouteInfo::rpc("orders.v1.Orders", "GetOrder", "order"), get("/orders", "list")]);
    assert_eq!(document["paths"].as_object().map(Map::len), Some(1));
}

#[test]
fn two_types_of_one_short_name_do_not_collide() {
    let routes = [get("/a", "a").answer(json::<first::Order>()), get("/b", "b").answer(json::<second::Order>())];
    let document = made(&routes);
    assert_no_dangling_reference(&document);
    let schema = |path: &str| {
        let reference =
            &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        document.pointer(&reference.as_str().expect("a reference")[1..]).expect("a component")
    };
    assert!(schema("/a")["properties"]["id"].is_object());
    assert!(schema("/b")["properties"]["name"].is_object());
    assert!(first::Order { id: 1 }.id == 1 && second::Order { name: String::new() }.name.is_empty());
}

#[derive(JsonSchema, Serialize, Deserialize)]
struct Note {
    text: String,
    #[serde(default)]
    stars: u8,
    author: Author,
}

#[derive(JsonSchema, Serialize, Deserialize)]
struct Author {
    name: String,
}

#[derive(JsonSchema, Serialize, Deserialize)]
struct Shelf {
    notes: Vec<Note>,
}

#[test]
fn a_type_that_is_read_and_written_alike_is_one_component_and_else_two() {
    let route = RouteInfo::new(Method::POST, "/shelves", "keep")
        .argument(argument::<Shelf>(Source::Body, "shelf"))
        .answer(json::<Shelf>());
    let document = made(&[route]);
    assert_no_dangling_reference(&document);
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Note-Input"]["required"], json!(["text", "author"]));
    assert_eq!(schemas["Note-Output"]["required"], json!(["text", "stars", "author"]));
    // What refers to the two is two as well.
    assert_eq!(schemas["Shelf-Output"]["properties"]["notes"]["items"]["$ref"], "#/components/schemas/Note-Output");
    assert!(schemas["Author"].is_object() && schemas["Author-Input"].is_null(), "{schemas:#}");
}

#[test]
fn a_type_named_problem_does_not_take_the_place_of_the_problem() {
    mod own {
        #[derive(schemars::JsonSchema)]
        pub(super) struct Problem {
            #[expect(dead_code, reason = "described only")]
            puzzle: String,
        }
    }
    let document = made(&[get("/puzzle", "puzzle").answer(json::<own::Problem>())]);
    let answer =
        &document["paths"]["/puzzle"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(answer, "#/components/schemas/Problem2");
    assert!(document["components"]["schemas"]["Problem2"]["properties"]["puzzle"].is_object());
    let members = &document["components"]["schemas"]["Problem"]["properties"];
    assert!(members["trace_id"].is_object());
    // It is true of an idempotent request that was acted upon, too.
    assert_eq!(members["retry_safe"]["description"], "Whether to send the same request again does no harm.");
}

#[test]
fn whole_numbers_carry_the_bounds_of_their_type() {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "described only")]
    struct Numbers {
        a: u8,
        b: i32,
        c: u64,
        d: Option<i64>,
        #[schemars(range(min = 3, max = 5))]
        e: u32,
        f: Vec<u32>,
    }
    let document = made(&[get("/numbers", "numbers").answer(json::<Numbers>())]);
    let numbers = &document["components"]["schemas"]["Numbers"]["properties"];
    let bounds = |schema: &Value| (schema["minimum"].clone(), schema["maximum"].clone());
    for (name, least, most) in [
        ("a", json!(0), json!(255)),
        ("b", json!(i32::MIN), json!(i32::MAX)),
        ("c", json!(0), json!(u64::MAX)),
        ("d", json!(i64::MIN), json!(i64::MAX)),
        ("e", json!(3), json!(5)),
    ] {
        assert_eq!(bounds(&numbers[name]), (least, most), "{name}");
    }
    assert_eq!(bounds(&numbers["f"]["items"]), (json!(0), json!(u32::MAX)));
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "described only")]
struct Page {
    /// How many.
    limit: u8,
    after: Option<u32>,
    state: Option<State>,
    #[serde(default)]
    deep: bool,
    #[serde(flatten)]
    order: Sort,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "described only")]
enum State {
    Open,
    Closed,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "described only")]
struct Sort {
    by: String,
}

#[test]
fn each_field_of_a_query_is_a_parameter() {
    let document = made(&[get("/orders", "list").argument(argument::<Page>(Source::Query, "page"))]);
    assert_no_dangling_reference(&document);
    let parameters = document["paths"]["/orders"]["get"]["parameters"].as_array().expect("parameters");
    let parameter = |name: &str| parameters.iter().find(|parameter| parameter["name"] == name).expect(name);
    assert_eq!(parameters.len(), 5, "{parameters:#?}");
    assert_eq!(
        (&parameter("limit")["required"], &parameter("limit")["description"]),
        (&json!(true), &json!("How many."))
    );
    // There is no way to write null in a query.
    let after = &parameter("after")["schema"];
    assert_eq!((&after["type"], &after["maximum"]), (&json!("integer"), &json!(u32::MAX)));
    assert_eq!(parameter("state")["schema"], json!({ "$ref": "#/components/schemas/State" }));
    assert_eq!(parameter("deep")["schema"]["default"], false);
    assert_eq!(parameter("by")["required"], true);
    for optional in ["after", "state", "deep"] {
        assert!(parameter(optional)["required"].is_null(), "{optional}");
    }
    assert!(document["components"]["schemas"]["Page"].is_null(), "nothing refers to the whole");
}

#[test]
fn a_query_of_any_names_is_one_parameter_that_stands_for_all() {
    type Any = std::collections::BTreeMap<String, String>;
    let document = made(&[get("/orders", "list").argument(argument::<Any>(Source::Query, "filter"))]);
    let parameter = &document["paths"]["/orders"]["get"]["parameters"][0];
    assert_eq!((&parameter["style"], &parameter["explode"]), (&json!("form"), &json!(true)));
    assert_eq!(parameter["schema"]["additionalProperties"]["type"], "string");
}

#[test]
fn every_parameter_of_a_path_is_there_and_a_text_is_not_empty() {
    let route = get("/shops/{shop}/files/{*rest}", "file").argument(argument::<String>(Source::Path, "shop"));
    let document = made(&[route]);
    let parameters = &document["paths"]["/shops/{shop}/files/{rest}"]["get"]["parameters"];
    for (index, name) in ["shop", "rest"].into_iter().enumerate() {
        let parameter = &parameters[index];
        assert_eq!((&parameter["name"], &parameter["required"]), (&json!(name), &json!(true)));
        assert_eq!(parameter["schema"], json!({ "type": "string", "minLength": 1 }));
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let of = |service: &'static str, path: &'static str, handler: &'static str| {
        let mut route = get(path, handler);
        route.service = service;
        route
    };
    let document = made(&[
        of("shop::Orders<shop::Store>", "/orders", "list"),
        of("shop::Users", "/users", "list"),
        of("shop::v2::Users", "/v2/users", "list"),
        of("shop::Users", "/users/{id}", "user"),
        get("/by-hand", "by_hand"),
    ]);
    let id = |path: &str| document["paths"][path]["get"]["operationId"].clone();
    let ids = ["/orders", "/users", "/v2/users", "/users/{id}", "/by-hand"].map(id);
    assert_eq!(ids, ["Orders_list", "Users_list", "Users_list_2", "user", "by_hand"]);
}

#[test]
fn a_type_without_a_schema_is_any_value_and_is_told() {
    struct Secretive;
    let answer = AnswerInfo::new(AnswerKind::new(StatusCode::OK, Content::Json), TypeInfo::unknown::<Secretive>());
    let document = document("orders", "1.0.0", &[get("/secret", "secret").answer(answer)]);
    let schema =
        &document.as_json()["paths"]["/secret"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(
        schema["description"].as_str().is_some_and(|text| text.contains("derive `schemars::JsonSchema`")),
        "{schema}"
    );
    assert!(matches!(document.undescribed(), [one] if one.contains("Secretive (answer of GET /secret)")));
}

#[test]
fn an_answer_that_the_handler_chooses_is_said_to_be_unknown() {
    let document = made(&[get("/raw", "raw")]);
    let responses = &document["paths"]["/raw"]["get"]["responses"];
    assert!(responses["default"]["description"].as_str().is_some_and(|text| text.contains("handler chooses")));
    assert!(responses["200"].is_null());
}

#[test]
fn the_items_of_a_stream_are_described() {
    for (content, media) in [(Content::Events, "text/event-stream"), (Content::JsonLines, "application/x-ndjson")] {
        let answer = AnswerInfo::new(AnswerKind::new(StatusCode::OK, content), TypeInfo::of::<Author>());
        let document = made(&[get("/stream", "stream").answer(answer)]);
        assert_no_dangling_reference(&document);
        let media = &document["paths"]["/stream"]["get"]["responses"]["200"]["content"][media];
        assert_eq!(media["x-item-schema"]["$ref"], "#/components/schemas/Author");
    }
}

fn codes(response: &Value) -> Vec<&str> {
    let code = &response["content"]["application/problem+json"]["schema"]["properties"]["code"];
    assert_eq!(code["type"], "string", "{response:#}");
    code["const"]
        .as_str()
        .into_iter()
        .chain(code["enum"].as_array().into_iter().flatten().filter_map(Value::as_str))
        .collect()
}

#[test]
fn problems_of_one_status_stand_together_those_of_the_chassis_with_them() {
    let sold_out = ProblemInfo::of(&Problem::unprocessable("sold_out")).doc("Nothing is left.");
    let route = RouteInfo::new(Method::POST, "/orders", "place")
        .argument(argument::<Author>(Source::Body, "order"))
        .problems(vec![sold_out.clone(), ProblemInfo::of(&Problem::unprocessable("too_many"))]);
    let document = made(&[route]);
    let responses = &document["paths"]["/orders"]["post"]["responses"];
    assert_eq!(codes(&responses["422"]), ["invalid_request", "sold_out", "too_many"]);
    assert!(
        responses["422"]["description"].as_str().is_some_and(|text| text.contains("- `sold_out`: Nothing is left."))
    );
    for shared in ["400", "408", "413", "415", "500", "504"] {
        assert!(responses[shared]["$ref"].is_string(), "{shared}");
    }
    assert!(responses["404"].is_null() && responses["default"].is_object(), "the route is not known to answer");
    assert_no_dangling_reference(&document);
}

#[test]
fn members_of_a_problem_are_described_under_its_code() {
    let unknown = ProblemInfo::of(&Problem::not_found("unknown")).member("id", TypeInfo::of::<u32>());
    let gone = ProblemInfo::of(&Problem::not_found("gone").type_uri("https://example.com/gone"));
    let again = ProblemInfo::of(&Problem::not_found("unknown"))
        .member("id", TypeInfo::of::<u32>())
        .member("hint", TypeInfo::of::<String>());
    let document = made(&[get("/orders/{id}", "order").answer(json::<Author>()).problems(vec![unknown, gone, again])]);
    let response = &document["paths"]["/orders/{id}"]["get"]["responses"]["404"];
    assert_eq!(codes(response), ["gone", "unknown"]);
    let schema = &response["content"]["application/problem+json"]["schema"];
    assert_eq!(schema["required"], json!(["type", "title", "status", "code"]), "not every problem has an id");
    assert!(schema["properties"]["hint"].is_object() && schema["properties"]["id"].is_object());
    let text = schema["description"].as_str().unwrap_or_default();
    assert!(text.contains("`id` comes with `unknown`."), "{text}");
}

#[test]
fn a_member_of_every_problem_is_required() {
    let no = |code| ProblemInfo::of(&Problem::conflict(code).type_uri("https://example.com/no"));
    let number = no("number").member("id", TypeInfo::of::<u32>());
    let alone = made(&[get("/a", "a").answer(json::<Author>()).problems(vec![number.clone()])]);
    let schema = |document: &Value| {
        document["paths"]["/a"]["get"]["responses"]["409"]["content"]["application/problem+json"]["schema"].clone()
    };
    assert_eq!(schema(&alone)["required"], json!(["type", "title", "status", "code", "id"]));
    assert_eq!(schema(&alone)["properties"]["type"]["const"], "https://example.com/no");
    let text = no("text").member("id", TypeInfo::of::<String>());
    let both = schema(&made(&[get("/a", "a").answer(json::<Author>()).problems(vec![number, text])]));
    assert_eq!(both["properties"]["id"]["anyOf"].as_array().map(Vec::len), Some(2), "{both:#}");
    assert_eq!(both["properties"]["status"]["const"], 409);
}

/// What generators of clients refuse or lose: a part that narrows another, and parts that overlap.
#[test]
fn no_problem_is_made_of_parts() {
    let unknown = ProblemInfo::of(&Problem::not_found("unknown")).member("id", TypeInfo::of::<u32>());
    let gone = ProblemInfo::of(&Problem::not_found("gone"));
    let document = made(&[get("/orders/{id}", "order").answer(json::<Author>()).problems(vec![unknown, gone])]);
    let shared = document["components"]["responses"].as_object().expect("responses").values();
    let own = document["paths"]["/orders/{id}"]["get"]["responses"].as_object().expect("responses").values();
    for response in shared.chain(own) {
        let schema = &response["content"]["application/problem+json"]["schema"];
        assert!(schema["allOf"].is_null() && schema["oneOf"].is_null(), "{schema:#}");
    }
}

#[test]
fn problems_that_are_not_described_are_said_to_be_possible() {
    use crate::problem::IntoProblem;

    let open = get("/a", "a").answer(json::<Author>()).problems(<Problem as IntoProblem>::describe());
    let closed =
        get("/b", "b").answer(json::<Author>()).problems(<std::convert::Infallible as IntoProblem>::describe());
    let document = made(&[open, closed]);
    let other = |path: &str| document["paths"][path]["get"]["responses"]["default"].clone();
    assert!(other("/a")["content"]["application/problem+json"].is_object());
    assert!(other("/b").is_null());
}

#[test]
fn a_policy_is_told_where_a_caller_profits() {
    let policy = RoutePolicy::new()
        .idempotent()
        .concurrency(3)
        .timeout(std::time::Duration::from_secs(2))
        .body_limit(1024)
        .deprecated(Deprecation::since(1_782_777_600).sunset(1_814_313_600));
    let document = made(&[
        get("/old", "old").answer(json::<Author>()).policy(policy).tags(&["b", "a"]),
        get("/new", "new").tags(&["a"]),
    ]);
    let old = &document["paths"]["/old"]["get"];
    assert_eq!(
        (&old["deprecated"], &old["x-deprecated-since"], &old["x-sunset"]),
        (&json!(true), &json!("2026-06-30"), &json!("2027-06-30"))
    );
    assert_eq!(
        (&old["x-idempotent"], &old["x-timeout"], &old["x-body-limit"]),
        (&json!(true), &json!("2s"), &json!(1024))
    );
    for status in ["200", "503", "504"] {
        assert!(old["responses"][status]["headers"]["Sunset"].is_object(), "{status}");
    }
    assert_eq!(codes(&old["responses"]["503"]), ["bulkhead_full"]);
    assert_eq!(document["tags"], json!([{ "name": "b" }, { "name": "a" }]));
    assert!(document["paths"]["/new"]["get"]["responses"]["503"].is_null());
    assert_no_dangling_reference(&document);
}

#[test]
fn the_text_does_not_change_with_the_order_of_declaration() {
    let routes = [
        get("/b", "b").answer(json::<Author>()),
        get("/a", "a").answer(json::<Shelf>()),
        RouteInfo::new(Method::POST, "/a", "c").argument(argument::<Note>(Source::Body, "note")),
    ];
    let text = document("orders", "1.0.0", &routes).to_string();
    let mut turned = routes;
    turned.reverse();
    assert_eq!(document("orders", "1.0.0", &turned).to_string(), text);
}

#[test]
fn differences_name_their_places() {
    let one = document("orders", "1.0.0", &[get("/a", "a")]);
    let other = document("orders", "1.0.1", &[get("/b", "b")]);
    assert_eq!(one.differences(one.as_json()), Vec::<String>::new());
    let lines = one.differences(other.as_json());
    for line in ["- /info/version: \"1.0.1\"", "+ /info/version: \"1.0.0\"", "- /paths/~1b: {", "+ /paths/~1a: {"] {
        assert!(lines.iter().any(|found| found.starts_with(line)), "{line} in {lines:#?}");
    }
}
