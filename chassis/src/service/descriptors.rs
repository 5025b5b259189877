//! Whether the rpcs that are served are those of the `.proto`: a pure comparison of its descriptors with the routes.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto};

use super::info::{AnswerKind, ArgumentInfo, RouteInfo, RouteKind, Source};
use crate::config::nearest;

/// A place where the service and its `.proto` do not say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// What kind of gap.
    pub(crate) kind: GapKind,
    /// The gRPC service: `orders.v1.Orders`.
    pub(crate) service: String,
    /// Where: `rpc orders.v1.Orders/GetOrder`.
    pub(crate) place: String,
    /// What was found and what to write instead.
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapKind {
    /// The `.proto` has a method that nothing answers: its callers hear UNIMPLEMENTED.
    Unanswered,
    /// An rpc that the `.proto` does not have: nobody will call it.
    Unknown,
    /// A field that no parameter takes: what callers put in is lost.
    Untaken,
    /// A parameter that no field feeds.
    Unfed,
}

/// Every gap between the rpcs among `routes` and the services of these encoded `FileDescriptorSet`s.
///
/// A service that no set describes is not looked at, nor one without any rpc, which a tonic server answers as a whole. Of an
/// rpc that was written by hand and is not described, fields are not looked at either. A set that cannot be read is nobody's here: the
/// reflection service refuses it.
pub(crate) fn gaps(sets: &[&[u8]], routes: &[RouteInfo]) -> Vec<Gap> {
    let files: Vec<_> =
        sets.iter().filter_map(|set| FileDescriptorSet::decode(*set).ok()).flat_map(|set| set.file).collect();
    let protos = Protos::of(&files);
    let mut served = BTreeMap::<&str, BTreeMap<&str, &RouteInfo>>::new();
    for route in routes.iter().filter(|route| route.kind == RouteKind::Rpc) {
        if let Some((service, method)) = route.path.trim_start_matches('/').split_once('/') {
            served.entry(service).or_default().insert(method, route);
        }
    }
    let mut gaps = Vec::new();
    for (service, rpcs) in served {
        let Some(methods) = protos.services.get(service) else { continue };
        for (name, route) in &rpcs {
            match methods.get(name) {
                Some(method) => fields(&protos, service, method, route, &mut gaps),
                None => gaps.push(unknown(service, name, route, methods, &rpcs)),
            }
        }
        let missing = methods.iter().filter(|(name, _)| !rpcs.contains_key(*name));
        gaps.extend(missing.map(|(name, method)| unanswered(service, name, method)));
    }
    gaps
}

/// What the descriptors describe, by full name.
struct Protos<'a> {
    services: BTreeMap<String, BTreeMap<&'a str, &'a MethodDescriptorProto>>,
    messages: BTreeMap<String, &'a DescriptorProto>,
}

impl<'a> Protos<'a> {
    fn of(files: &'a [FileDescriptorProto]) -> Self {
        let mut all = Self { services: BTreeMap::new(), messages: BTreeMap::new() };
        for file in files {
            for service in &file.service {
                let methods = service.method.iter().map(|method| (method.name(), method)).collect();
                all.services.insert(joined(file.package(), service.name()), methods);
            }
            for message in &file.message_type {
                all.add(file.package(), message);
            }
        }
        all
    }

    fn add(&mut self, parent: &str, message: &'a DescriptorProto) {
        let name = joined(parent, message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message);
    }
}

fn joined(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn gap(kind: GapKind, service: &str, method: &str, message: String) -> Gap {
    Gap { kind, service: service.to_owned(), place: format!("rpc {service}/{method}"), message }
}

fn unanswered(service: &str, name: &str, method: &MethodDescriptorProto) -> Gap {
    let message = match method.client_streaming() || method.server_streaming() {
        false => format!("the .proto has it and nothing answers it; put `#[rpc({name})]` on the method that does"),
        true => "the .proto has it and nothing answers it; `#[rpc]` is for unary methods: move the methods that stream to a \
                 service of their own, and serve that with `Chassis::grpc`"
            .to_owned(),
    };
    gap(GapKind::Unanswered, service, name, message)
}

fn unknown(
    service: &str,
    name: &str,
    route: &RouteInfo,
    methods: &BTreeMap<&str, &MethodDescriptorProto>,
    rpcs: &BTreeMap<&str, &RouteInfo>,
) -> Gap {
    let free: Vec<&str> = methods.keys().filter(|method| !rpcs.contains_key(*method)).copied().collect();
    let advice = match (nearest(name, free.iter().copied()), free.as_slice()) {
        (Some(near), _) => format!("did you mean `#[rpc({near})]`?"),
        (None, []) => "add it there, or take the `#[rpc]` away".to_owned(),
        (None, free) => {
            format!("its methods that nothing answers are {}; take one of them, or add this one", free.join(", "))
        }
    };
    gap(
        GapKind::Unknown,
        service,
        name,
        format!("fn {} answers it, and the .proto has no such method; {advice}", route.handler),
    )
}

fn fields(protos: &Protos<'_>, service: &str, method: &MethodDescriptorProto, route: &RouteInfo, gaps: &mut Vec<Gap>) {
    let input = method.input_type().trim_start_matches('.');
    let Some(message) = protos.messages.get(input) else { return };
    let of_source = |source| move |argument: &&ArgumentInfo| argument.source == source;
    if route.arguments.iter().any(|argument| argument.source == Source::Message) {
        return;
    }
    let fields = names(message);
    let taken: BTreeSet<_> =
        route.arguments.iter().filter(of_source(Source::Field)).map(|argument| plain(argument.name)).collect();
    let described = route.arguments.is_empty() && route.answer.kind != AnswerKind::default();
    if taken.is_empty() && !described {
        return;
    }
    let handler = route.handler;
    for field in fields.iter().filter(|field| !taken.contains(&***field)) {
        let text = format!(
            "no parameter of fn {handler} takes the field `{field}` of {input}, and what callers put there is lost; add a \
             parameter `{field}`, take the whole message with `#[message]`, or remove the field from the .proto"
        );
        gaps.push(gap(GapKind::Untaken, service, method.name(), text));
    }
    for name in taken.iter().filter(|name| !fields.contains(**name)) {
        let text =
            format!("the parameter `{name}` of fn {handler} has no field in {input}, which has {}", listed(&fields));
        gaps.push(gap(GapKind::Unfed, service, method.name(), text));
    }
}

/// The fields as prost names them: the members of a oneof are one field, which has the name of the oneof.
fn names(message: &DescriptorProto) -> BTreeSet<String> {
    let name = |field: &prost_types::FieldDescriptorProto| {
        // An `optional` of proto3 is a oneof in the descriptor alone.
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let oneof = oneof.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
        rust_name(oneof.map_or(field.name(), |oneof| oneof.name()))
    };
    message.field.iter().map(name).collect()
}

/// `r#type` is called `type`.
fn plain(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// A field's name as prost writes it, without `r#`: what cannot be raw gets an underscore.
fn rust_name(name: &str) -> String {
    let snake = snake_case(name);
    match &*snake {
        "self" | "super" | "crate" | "extern" => format!("{snake}_"),
        _ if snake.starts_with(char::is_numeric) => format!("_{snake}"),
        _ => snake,
    }
}

/// `orderId`, which a style guide forbids and protoc allows, is `order_id` in Rust: the rule of prost (heck's).
/// `words.rs` of the macros has it, too.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for word in name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !snake.is_empty() {
            snake.push('_');
        }
        // Of the letter before; a digit belongs to it.
        let mut was_upper = None;
        let mut letters = word.chars().peekable();
        while let Some(letter) = letters.next() {
            let next_is_lower = letters.peek().is_some_and(|next| next.is_lowercase());
            if letter.is_uppercase() && was_upper.is_some_and(|upper: bool| !upper || next_is_lower) {
                snake.push('_');
            }
            if letter.is_uppercase() || letter.is_lowercase() {
                was_upper = Some(letter.is_uppercase());
            }
            snake.extend(letter.to_lowercase());
        }
    }
    snake
}

fn listed(fields: &BTreeSet<String>) -> String {
    match fields.is_empty() {
        true => "none".to_owned(),
        false => fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests;
