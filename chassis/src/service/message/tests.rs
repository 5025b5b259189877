use std::collections::{BTreeMap, HashMap};

use prost::Message;
use tonic::Code;

use super::{Fields, probe::*};
use crate::{
    cause::{Cause, Refusal},
    problem::Problem,
    service::{Accepted, Created, NoContent, Shape},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sku(String);

impl TryFrom<String> for Sku {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Err("is empty") } else { Ok(Self(text)) }
    }
}

struct ItemMessage {
    sku: String,
    note: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Item {
    sku: Sku,
    note: Sku,
}

impl TryFrom<ItemMessage> for Item {
    type Error = Fields;
    fn try_from(message: ItemMessage) -> Result<Self, Fields> {
        let mut fields = Fields::new();
        let sku = fields.take("sku", message.sku);
        let note = fields.required("note", message.note);
        let (Some(sku), Some(note)) = (sku, note) else { return Err(fields) };
        Ok(Self { sku, note })
    }
}

/// What generated code writes for one field.
macro_rules! taken {
    ($field:expr => $parameter:ty, $fields:expr) => {{
        let field = $field;
        (&&&&FieldProbe::<_, $parameter>::of(&field)).__field().take("field", field, &mut $fields)
    }};
}

/// The parameter, or what the caller is told.
macro_rules! outcome {
    ($field:expr => $parameter:ty) => {{
        let mut fields = Fields::new();
        let value = taken!($field => $parameter, fields);
        assert_eq!(value.is_none(), !fields.is_empty(), "a value or a mistake");
        value.ok_or_else(|| fields.to_string())
    }};
}

fn sku(text: &str) -> Sku {
    Sku(text.to_owned())
}

#[test]
fn a_field_becomes_its_own_type_a_wider_one_or_one_that_tries() {
    assert_eq!(outcome!(7_u32 => u32), Ok(7));
    assert_eq!(outcome!(7_u32 => u64), Ok(7));
    assert_eq!(outcome!(-1_i32 => u32), Err("field: out of range integral type conversion attempted".to_owned()));
    assert_eq!(outcome!("a-1".to_owned() => Sku), Ok(sku("a-1")));
    assert_eq!(outcome!(String::new() => Sku), Err("field: is empty".to_owned()));
    assert_eq!(outcome!(vec![1_u8, 2] => Vec<u8>), Ok(vec![1, 2]));
    assert_eq!(outcome!(7_u32 => Option<u32>), Ok(Some(7)));
}

#[test]
fn a_field_that_may_be_absent_is_missing_for_a_parameter_that_may_not() {
    assert_eq!(outcome!(Some("a-1".to_owned()) => Sku), Ok(sku("a-1")));
    assert_eq!(outcome!(Some(7_u32) => u64), Ok(7));
    assert_eq!(outcome!(None::<String> => Sku), Err("field: is missing".to_owned()));
    assert_eq!(outcome!(Some(String::new()) => Sku), Err("field: is empty".to_owned()));
}

#[test]
fn an_optional_field_stays_optional() {
    assert_eq!(outcome!(Some("a-1".to_owned()) => Option<Sku>), Ok(Some(sku("a-1"))));
    assert_eq!(outcome!(None::<String> => Option<Sku>), Ok(None));
    assert_eq!(outcome!(None::<u32> => Option<u32>), Ok(None));
    assert_eq!(outcome!(Some(String::new()) => Option<Sku>), Err("field: is empty".to_owned()));
}

#[test]
fn repeated_and_map_fields_are_told_by_index_and_key() {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(outcome!(texts(&["a", "b"]) => Vec<Sku>), Ok(vec![sku("a"), sku("b")]));
    assert_eq!(
        outcome!(texts(&["a", "", "b", ""]) => Vec<Sku>),
        Err("field[1]: is empty; field[3]: is empty".to_owned())
    );
    let map = |text: &str| HashMap::from([("k/1".to_owned(), text.to_owned())]);
    assert_eq!(outcome!(map("a") => HashMap<String, Sku>), Ok(HashMap::from([("k/1".to_owned(), sku("a"))])));
    assert_eq!(outcome!(map("a") => BTreeMap<String, Sku>), Ok(BTreeMap::from([("k/1".to_owned(), sku("a"))])));
    assert_eq!(outcome!(map("") => HashMap<String, Sku>), Err("field.k/1: is empty".to_owned()));
}

#[test]
fn mistakes_inside_of_messages_have_their_whole_path() {
    let item = |sku: &str, note: Option<&str>| ItemMessage { sku: sku.to_owned(), note: note.map(str::to_owned) };
    assert_eq!(outcome!(vec![item("a", Some("b"))] => Vec<Item>).map(|items| items.len()), Ok(1));
    assert_eq!(
        outcome!(vec![item("a", Some("b")), item("", None)] => Vec<Item>),
        Err("field[1].sku: is empty; field[1].note: is missing".to_owned())
    );
    assert_eq!(outcome!(Some(item("", Some("b"))) => Item), Err("field.sku: is empty".to_owned()));
    let mut fields = Fields::new();
    assert_eq!(fields.message::<_, Item>(item("", Some("b"))), None);
    fields.violation("items[1].sku", "is unknown");
    fields.violation("", "is odd");
    assert_eq!(fields.to_string(), "sku: is empty; items[1].sku: is unknown; is odd");
}

#[test]
fn the_mistakes_of_all_fields_are_told_at_once_as_one_invalid_argument() {
    let mut fields = Fields::new();
    let first = taken!(String::new() => Sku, fields);
    let second = taken!(None::<u32> => u32, fields);
    let third = taken!(7_u32 => u32, fields);
    assert_eq!((first, second, third), (None, None, Some(7)));
    let problem = Problem::from(fields);
    assert_eq!((problem.grpc_code(), problem.code()), (Code::InvalidArgument, "invalid_request"));
    let response = problem.into_grpc();
    assert_eq!(response.extensions().get(), Some(&Refusal(Cause::InvalidRequest)));
    let status = tonic::Status::from_header_map(response.headers()).expect("a status");
    assert_eq!(status.message(), "field: is empty; field: is missing");
    assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.BadRequest"));
}

#[test]
fn a_message_full_of_mistakes_costs_no_more_than_a_hundred() {
    let mut fields = Fields::new();
    assert_eq!(fields.each::<_, Sku>("items", vec![String::new(); 1_000]), None);
    assert!(fields.to_string().ends_with("items[99]: is empty; and 900 more"), "{fields}");
    // What is not told is still a mistake.
    assert_eq!(fields.each::<_, Sku>("more", vec![String::new()]), None);
    let mut fields = Fields::new();
    fields.violation("text", "é".repeat(1_000));
    assert!(fields.to_string().len() < 300, "{fields}");
}

#[derive(Clone, PartialEq, Message)]
struct Reply {
    #[prost(uint32, tag = "1")]
    id: u32,
}

struct Order(u32);

impl From<Order> for Reply {
    fn from(order: Order) -> Self {
        Self { id: order.0 }
    }
}

/// What generated code writes for the answer of a method whose message is `Reply`.
macro_rules! written {
    ($value:expr) => {{
        let (value, types) = ($value, Shape::<(), Reply>::new());
        (&&&MessageProbe::of(&value, types)).__message().write(value)
    }};
}

#[test]
fn what_a_method_returns_becomes_the_message() {
    assert_eq!(written!(Order(7)), Reply { id: 7 });
    assert_eq!(written!(Reply { id: 7 }), Reply { id: 7 });
    assert_eq!(written!(Created::new(Order(7)).at("/orders/7")), Reply { id: 7 });
    assert_eq!(written!(Accepted(Order(7))), Reply { id: 7 });
    assert_eq!(written!(()), Reply::default());
    assert_eq!(written!(NoContent), Reply::default());
}
