use prost_types::{FieldDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto};

use super::*;
use crate::service::{AnswerInfo, Content, TypeInfo, descriptors::GapKind::*};

fn field(name: &str) -> FieldDescriptorProto {
    FieldDescriptorProto { name: Some(name.to_owned()), ..Default::default() }
}

fn method(name: &str, input: &str) -> MethodDescriptorProto {
    MethodDescriptorProto { name: Some(name.to_owned()), input_type: Some(input.to_owned()), ..Default::default() }
}

/// `shop.v1.Shop` with `Get(id)`, `Put(id, kind, optional note, oneof payment)`, and a stream `Watch`.
fn set() -> Vec<u8> {
    let of_oneof = |name: &str, index, proto3_optional| FieldDescriptorProto {
        oneof_index: Some(index),
        proto3_optional: Some(proto3_optional),
        ..field(name)
    };
    let oneof = |name: &str| OneofDescriptorProto { name: Some(name.to_owned()), ..Default::default() };
    let put = DescriptorProto {
        name: Some("Put".to_owned()),
        field: vec![
            field("id"),
            field("type"),
            of_oneof("note", 1, true),
            of_oneof("card", 0, false),
            of_oneof("bill", 0, false),
        ],
        oneof_decl: vec![oneof("payment"), oneof("_note")],
        ..Default::default()
    };
    let get = DescriptorProto { name: Some("Get".to_owned()), field: vec![field("orderId")], ..Default::default() };
    let outer = DescriptorProto { name: Some("Outer".to_owned()), nested_type: vec![get], ..Default::default() };
    let watch = MethodDescriptorProto { server_streaming: Some(true), ..method("Watch", ".shop.v1.Put") };
    let service = ServiceDescriptorProto {
        name: Some("Shop".to_owned()),
        method: vec![method("Get", ".shop.v1.Outer.Get"), method("Put", ".shop.v1.Put"), watch],
        ..Default::default()
    };
    let file = FileDescriptorProto {
        package: Some("shop.v1".to_owned()),
        message_type: vec![outer, put],
        service: vec![service],
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

fn rpc(method: &str, source: Source, names: &[&'static str]) -> RouteInfo {
    let info = RouteInfo::rpc("shop.v1.Shop", method, "handle");
    names.iter().fold(info, |info, name| info.argument(ArgumentInfo::new(source, name, TypeInfo::unknown::<()>())))
}

fn get() -> RouteInfo {
    rpc("Get", Source::Field, &["order_id"])
}

fn put() -> RouteInfo {
    rpc("Put", Source::Field, &["id", "r#type", "note", "payment"])
}

/// The gaps but for the stream, which `#[rpc]` cannot answer.
fn found(routes: &[RouteInfo]) -> Vec<Gap> {
    let mut gaps = gaps(&[b"no descriptors", &set()], routes);
    gaps.retain(|gap| !gap.place.ends_with("Watch"));
    gaps
}

#[test]
fn rpcs_that_take_every_field_leave_no_gap() {
    assert_eq!(found(&[get(), put()]), []);
    assert_eq!(found(&[get(), rpc("Put", Source::Message, &["order"])]), []);
}

#[test]
fn a_method_that_nothing_answers_is_told_with_what_to_write() {
    let gaps = gaps(&[&set()], &[get()]);
    let told: Vec<_> = gaps.iter().map(|gap| (gap.kind, &*gap.place)).collect();
    assert_eq!(told, [(Unanswered, "rpc shop.v1.Shop/Put"), (Unanswered, "rpc shop.v1.Shop/Watch")]);
    assert!(gaps[0].message.contains("`#[rpc(Put)]`"), "{gaps:?}");
    assert!(gaps[1].message.contains("unary") && gaps[1].message.contains("Chassis::grpc"), "{gaps:?}");
}

#[test]
fn an_rpc_that_the_proto_does_not_have_is_told_with_the_nearest_that_is_free() {
    let gaps = found(&[get(), rpc("Puts", Source::Field, &[])]);
    let unknown = gaps.iter().find(|gap| gap.kind == Unknown).expect("a gap");
    assert_eq!(unknown.place, "rpc shop.v1.Shop/Puts");
    assert!(unknown.message.contains("fn handle") && unknown.message.contains("`#[rpc(Put)]`"), "{unknown:?}");
}

#[test]
fn a_field_that_no_parameter_takes_and_a_parameter_without_a_field_are_told() {
    let gaps = found(&[get(), rpc("Put", Source::Field, &["id", "type", "note", "money"])]);
    assert_eq!(gaps.iter().map(|gap| gap.kind).collect::<Vec<_>>(), [Untaken, Unfed], "{gaps:?}");
    assert!(gaps[0].message.contains("the field `payment` of shop.v1.Put"), "{gaps:?}");
    assert!(gaps[1].message.contains("`money`") && gaps[1].message.contains("`payment`"), "{gaps:?}");
    let kind = AnswerKind::new(http::StatusCode::OK, Content::Json);
    let without = rpc("Get", Source::Field, &[]).answer(AnswerInfo::new(kind, TypeInfo::unknown::<()>()));
    let gaps = found(&[without, put()]);
    assert!(
        gaps[0].kind == Untaken && gaps[0].message.contains("`order_id`"),
        "a method without any parameter: {gaps:?}"
    );
}

#[test]
fn what_no_descriptor_describes_is_left_alone() {
    assert_eq!(gaps(&[], &[rpc("Nothing", Source::Field, &["a"])]), []);
    assert_eq!(gaps(&[&set()], &[RouteInfo::rpc("other.v1.Other", "Get", "get")]), []);
    assert_eq!(gaps(&[&set()], &[RouteInfo::new(http::Method::POST, "/shop.v1.Shop/Nothing", "get")]), []);
    assert_eq!(found(&[get(), rpc("Put", Source::Field, &[])]), [], "written by hand, and not described");
}

#[test]
fn fields_are_named_as_prost_does_it() {
    for (name, rust) in [
        ("Unknown", "unknown"),
        ("SoldOut", "sold_out"),
        ("GetOrder", "get_order"),
        ("HTTPError", "http_error"),
        ("HTTPCode", "http_code"),
        ("GetHTTPOrder", "get_http_order"),
        ("orderId", "order_id"),
        ("orderIDList", "order_id_list"),
        ("NoIPv6", "no_i_pv6"),
        ("GetV2Order", "get_v2_order"),
        ("V2ID", "v2id"),
        ("Get2Orders", "get2_orders"),
        ("line_1A", "line_1a"),
        ("Already_Gone", "already_gone"),
        ("_id", "id"),
        ("id_", "id"),
        ("a__b", "a_b"),
        ("self", "self_"),
        ("super", "super_"),
        ("crate", "crate_"),
        ("extern", "extern_"),
        ("type", "type"),
        ("_1st", "_1st"),
    ] {
        assert_eq!(rust_name(name), rust);
    }
}
