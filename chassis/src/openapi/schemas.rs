//! The schemas of the document: gathered while the operations are written, named and placed at the end.
//!
//! What a service reads and what it writes can differ for one type: a field with a default need not be sent, and is always
//! answered. So there are two generators, and a type whose two schemas differ gets two components.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{
    Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform as _},
};
use serde_json::{Map, Value, json};

use crate::service::TypeInfo;

/// Where the components of a finished document are.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

/// Where a type comes into the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The service reads it.
    In,
    /// The service writes it.
    Out,
}

impl Direction {
    /// Where its definitions stand until they have their names.
    const fn draft(self) -> &'static str {
        match self {
            Self::In => "#/components/in/",
            Self::Out => "#/components/out/",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::In => "-Input",
            Self::Out => "-Output",
        }
    }
}

/// Gathers schemas.
#[derive(Debug)]
pub(super) struct Schemas {
    reads: SchemaGenerator,
    writes: SchemaGenerator,
    undescribed: BTreeSet<String>,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let generator = |direction: Direction, settings: SchemaSettings| {
            let path = direction.draft().trim_start_matches('#').trim_end_matches('/');
            settings.with(|settings| settings.definitions_path = path.into()).into_generator()
        };
        Self {
            reads: generator(Direction::In, SchemaSettings::draft2020_12().for_deserialize()),
            writes: generator(Direction::Out, SchemaSettings::draft2020_12().for_serialize()),
            undescribed: BTreeSet::new(),
        }
    }

    fn generator(&mut self, direction: Direction) -> &mut SchemaGenerator {
        match direction {
            Direction::In => &mut self.reads,
            Direction::Out => &mut self.writes,
        }
    }

    /// The schema of a type, or none, which is noted.
    pub(super) fn known(&mut self, direction: Direction, ty: &TypeInfo, place: &str) -> Option<Value> {
        match ty.schema(self.generator(direction)) {
            Some(schema) => Some(truthful(schema.to_value())),
            None => {
                self.undescribed.insert(format!("{} ({place})", ty.name()));
                None
            }
        }
    }

    /// The schema of a type; of one that cannot tell it, any value with a word about it.
    pub(super) fn of(&mut self, direction: Direction, ty: &TypeInfo, place: &str) -> Value {
        self.known(direction, ty, place).unwrap_or_else(|| json!({ "description": unknown(ty) }))
    }

    /// What a schema that only refers to a definition refers to, however far. A definition is not [`truthful`] yet.
    pub(super) fn resolved<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        // A chain longer than this is a circle.
        for _ in 0..16 {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { break };
            let find = |direction: Direction, generator: &'a SchemaGenerator| {
                generator.definitions().get(&decoded(reference.strip_prefix(direction.draft())?))
            };
            let found = find(Direction::In, &self.reads).or_else(|| find(Direction::Out, &self.writes));
            let Some(found) = found else { break };
            schema = found;
        }
        schema
    }

    /// Gives each definition that the document uses its name, and puts it under `components/schemas` beside `own`.
    /// Returns what is not described.
    pub(super) fn finish(mut self, document: &mut Value, mut own: Map<String, Value>) -> Vec<String> {
        let reads = definitions(&mut self.reads);
        let writes = definitions(&mut self.writes);
        let differing = differing(&reads, &writes);
        let mut names = BTreeMap::new();
        let mut taken: BTreeMap<String, &str> = own.keys().map(|key| (key.clone(), "")).collect();
        for (direction, definitions) in [(Direction::In, &reads), (Direction::Out, &writes)] {
            for name in definitions.keys() {
                let suffix = if differing.contains(name) { direction.suffix() } else { "" };
                let mut key = component_key(name) + suffix;
                while taken.get(&key).is_some_and(|other| other != name) {
                    key.push('2');
                }
                taken.insert(key.clone(), name);
                names.insert(format!("{}{name}", direction.draft()), key);
            }
        }
        let place = |reference: &str| names.get(&decoded(reference)).map(|key| format!("{SCHEMAS}{key}"));
        let mut components = BTreeMap::new();
        for (direction, definitions) in [(Direction::In, &reads), (Direction::Out, &writes)] {
            for (name, definition) in definitions {
                let mut definition = definition.clone();
                rename(&mut definition, &place);
                let key = names.get(&format!("{}{name}", direction.draft())).cloned().unwrap_or_default();
                components.insert(key, definition);
            }
        }
        rename(document, &place);

        let mut wanted: Vec<String> = references(document, SCHEMAS);
        while let Some(key) = wanted.pop() {
            if let Some(component) = components.remove(&key) {
                wanted.extend(references(&component, SCHEMAS));
                own.insert(key, component);
            }
        }
        document["components"]["schemas"] = Value::Object(own);
        self.undescribed.into_iter().collect()
    }
}

/// What stands in the place of a schema.
pub(super) fn unknown(ty: &TypeInfo) -> String {
    format!("Not described: derive `schemars::JsonSchema` for `{}`.", ty.name())
}

fn definitions(generator: &mut SchemaGenerator) -> BTreeMap<String, Value> {
    let definitions =
        generator.take_definitions(false).into_iter().map(|(name, definition)| (name, truthful(definition)));
    definitions.collect()
}

/// The names whose two definitions differ, by themselves or in what they refer to.
fn differing(reads: &BTreeMap<String, Value>, writes: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let mut differing: BTreeSet<String> = BTreeSet::new();
    let mut uses: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (name, read) in reads {
        let Some(written) = writes.get(name) else { continue };
        let neutral = |definition: &Value, direction: Direction| {
            let mut definition = definition.clone();
            rename(&mut definition, &|reference| Some(reference.strip_prefix(direction.draft())?.to_owned()));
            definition
        };
        if neutral(read, Direction::In) != neutral(written, Direction::Out) {
            differing.insert(name.clone());
        }
        uses.insert(name, references(read, Direction::In.draft()));
    }
    loop {
        let mut more = uses
            .iter()
            .filter(|(name, used)| !differing.contains(**name) && used.iter().any(|used| differing.contains(used)));
        let Some(one) = more.next().map(|(name, _)| (*name).clone()) else { return differing };
        differing.insert(one);
    }
}

/// The names behind this prefix that a part of the document refers to.
fn references(value: &Value, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    each_reference(value, &mut |reference| found.extend(reference.strip_prefix(prefix).map(decoded)));
    found
}

fn each_reference(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(reference) if key == "$ref" => see(reference),
                    value => each_reference(value, see),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| each_reference(value, see)),
        _ => {}
    }
}

fn rename(value: &mut Value, new: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        if let Some(new) = new(reference) {
                            *reference = new;
                        }
                    }
                    value => rename(value, new),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, new)),
        _ => {}
    }
}

/// OpenAPI allows few characters in the name of a component.
fn component_key(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// schemars writes names into references percent-encoded, `~` and `/` as JSON pointers have them.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex.filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).replace("~1", "/").replace("~0", "~")
}

/// Adds what the Rust type promises and its schema does not say: how large its numbers can be.
pub(super) fn truthful(schema: Value) -> Value {
    let mut schema = Schema::try_from(schema).unwrap_or_default();
    RecursiveTransform(bound).transform(&mut schema);
    schema.to_value()
}

fn bound(schema: &mut Schema) {
    if schema.as_bool() == Some(true) {
        schema.ensure_object();
    }
    let (least, most): (Value, Value) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("int64") => (i64::MIN.into(), i64::MAX.into()),
        Some("int") => (isize::MIN.into(), isize::MAX.into()),
        Some("uint32") => (0.into(), u32::MAX.into()),
        Some("uint64") => (0.into(), u64::MAX.into()),
        Some("uint") => (0.into(), usize::MAX.into()),
        // The smaller ones say it themselves; the larger ones have no number in JSON that says it.
        _ => return,
    };
    for (inclusive, exclusive, limit) in [("minimum", "exclusiveMinimum", least), ("maximum", "exclusiveMaximum", most)]
    {
        if schema.get(inclusive).is_none() && schema.get(exclusive).is_none() {
            schema.insert(inclusive.to_owned(), limit);
        }
    }
}
