//! The schema of a configuration: what may be written, read from the JSON Schema that the types give of themselves.
//!
//! The JSON Schema is the single source of truth for checking, for the reference pages and for editors. Here it is read
//! once into a tree of [`Node`]s, with references resolved, so that everything else walks plain Rust values.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::units::{self, ByteSize, Duration};

/// What may be written in a configuration, made from its types.
#[derive(Debug, Clone)]
pub struct Schema {
    json: Value,
    pub(crate) root: Node,
}

impl Schema {
    /// The schema of the root type.
    #[must_use]
    pub fn of<T: JsonSchema>() -> Self {
        Self::from_json(SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().into())
    }

    /// The schema of the root type, in which the section `key` (usually an [`Opaque`]) is described by `S`.
    ///
    /// So a section whose type the root does not know is checked together with all the rest.
    #[must_use]
    pub fn with_section<T: JsonSchema, S: JsonSchema>(key: &str) -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let section = Value::from(generator.subschema_for::<S>());
        let mut json = Value::from(generator.root_schema_for::<T>());
        if let Some(place) = json.pointer_mut(&format!("/properties/{key}")) {
            let doc = place.get("description").cloned();
            *place = section;
            if let (Some(object), Some(doc)) = (place.as_object_mut(), doc) {
                object.entry("description").or_insert(doc);
            }
        }
        Self::from_json(json)
    }

    fn from_json(json: Value) -> Self {
        let definitions = json.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
        let root = Reader { definitions: &definitions, open: Vec::new() }.node(&json, false);
        Self { json, root }
    }

    /// The JSON Schema (draft 2020-12), for editors. The keys `x-reloadable`, `x-unit`, `x-minimum` and `x-maximum` are
    /// our own.
    #[must_use]
    pub fn as_json(&self) -> &Value {
        &self.json
    }
}

/// A section of the root type whose own type the root does not know; it takes anything and keeps nothing.
///
/// [`Loaded::section`](super::Loaded::section) reads the section with its real type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opaque;

impl serde::Serialize for Opaque {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(std::iter::empty::<((), ())>())
    }
}

impl<'de> serde::Deserialize<'de> for Opaque {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Opaque {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Opaque".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": true })
    }
}

/// One key, or one table of keys.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) doc: String,
    /// The default that the type itself states.
    pub(crate) default: Option<Value>,
    pub(crate) unit: Option<String>,
    pub(crate) nullable: bool,
    pub(crate) reloadable: bool,
    pub(crate) kind: Kind,
}

/// What a value has to be.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Anything: its type is not known here.
    Any,
    /// Nothing (Rust's unit); whatever is written is for somebody else.
    Nothing,
    Bool,
    Integer(Range<i128>),
    Float(Range<f64>),
    Text,
    Duration(Range<Duration>),
    Size(Range<ByteSize>),
    Secret,
    /// One of these words, each with its description.
    Choice(Vec<(String, String)>),
    List(Box<Node>),
    Table(Table),
    /// One of several shapes.
    Variants(Vec<Node>),
}

/// Known keys, and what other keys may hold (nothing: they are mistakes).
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) fields: Vec<Field>,
    pub(crate) rest: Option<Box<Node>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) node: Node,
}

/// Bounds, both inclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range<T> {
    pub(crate) min: Option<T>,
    pub(crate) max: Option<T>,
}

impl<T: PartialOrd + Copy> Range<T> {
    pub(crate) fn contains(&self, value: T) -> bool {
        self.min.is_none_or(|min| min <= value) && self.max.is_none_or(|max| value <= max)
    }
}

impl<T: ToString> Range<T> {
    fn text(&self) -> Option<String> {
        match (&self.min, &self.max) {
            (Some(min), Some(max)) => Some(format!("{}–{}", min.to_string(), max.to_string())),
            (Some(min), None) => Some(format!("at least {}", min.to_string())),
            (None, Some(max)) => Some(format!("at most {}", max.to_string())),
            (None, None) => None,
        }
    }
}

impl Table {
    /// What the key holds, when the table knows it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.fields.iter().find(|field| field.name == key).map(|field| &field.node).or(self.rest.as_deref())
    }
}

impl Node {
    /// The node of a child key, when it may have one.
    pub(crate) fn child(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Any | Kind::Nothing => Some(self),
            Kind::Table(table) => table.get(key),
            Kind::List(item) => key.parse::<usize>().is_ok().then_some(&**item),
            Kind::Variants(variants) => variants.iter().find_map(|variant| variant.child(key)),
            Kind::Secret => matches!(key, "file" | "env").then_some(self),
            _ => None,
        }
    }

    /// The node of a dotted path.
    pub(crate) fn find(&self, path: &str) -> Option<&Self> {
        path.split('.').filter(|part| !part.is_empty()).try_fold(self, |node, key| node.child(key))
    }

    /// The names of the keys that are known here.
    pub(crate) fn names(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Table(table) => table.fields.iter().map(|field| field.name.as_str()).collect(),
            Kind::Variants(variants) => variants.iter().flat_map(Self::names).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns whether the value is a secret.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// Whether a change of the value, or of everything in the table, applies while running.
    pub(crate) fn is_reloadable(&self) -> bool {
        self.reloadable
            || matches!(&self.kind, Kind::Table(table)
                if !table.fields.is_empty() && table.rest.is_none() && table.fields.iter().all(|field| field.node.is_reloadable()))
    }

    /// Whether the value is a secret or has one in it. What has no known type may have.
    pub(crate) fn holds_secret(&self) -> bool {
        match &self.kind {
            Kind::Secret | Kind::Any | Kind::Nothing => true,
            Kind::List(item) => item.holds_secret(),
            Kind::Table(table) => {
                table.fields.iter().map(|field| &field.node).chain(table.rest.as_deref()).any(Self::holds_secret)
            }
            Kind::Variants(variants) => variants.iter().any(Self::holds_secret),
            _ => false,
        }
    }

    /// The bounds as text.
    pub(crate) fn range(&self) -> Option<String> {
        match &self.kind {
            Kind::Integer(range) => range.text(),
            Kind::Float(range) => range.text(),
            Kind::Duration(range) => range.text(),
            Kind::Size(range) => range.text(),
            _ => None,
        }
    }

    /// What the value has to be, in words, without its bounds.
    pub(crate) fn type_name(&self) -> String {
        match &self.kind {
            Kind::Any | Kind::Nothing => "anything".into(),
            Kind::Bool => "true or false".into(),
            Kind::Integer(_) => "a whole number".into(),
            Kind::Float(_) => "a number".into(),
            Kind::Text => "text".into(),
            Kind::Duration(_) => "a duration such as \"250ms\" or \"5s\"".into(),
            Kind::Size(_) => "a size such as \"64KiB\" or \"1MiB\"".into(),
            Kind::Secret => "text, { file = \"…\" } or { env = \"…\" }".into(),
            Kind::Choice(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| word.as_str()).collect();
                if words.len() == 1 { format!("\"{}\"", words[0]) } else { format!("one of {}", words.join(", ")) }
            }
            Kind::List(item) => format!("a list of {}", item.type_name()),
            Kind::Table(Table { fields, rest: Some(rest) }) if fields.is_empty() => {
                format!("a table of {}", rest.type_name())
            }
            Kind::Table(_) => "a table".into(),
            Kind::Variants(variants) => {
                let mut names: Vec<_> = variants.iter().map(Self::type_name).collect();
                names.dedup();
                names.join(" or ")
            }
        }
    }

    /// What the value has to be, in words: type, bounds and unit.
    pub(crate) fn expected(&self) -> String {
        let mut text = self.type_name();
        if let Some(range) = self.range() {
            text = format!("{text}, {range}");
        }
        if let Some(unit) = &self.unit {
            text = format!("{text} {unit}");
        }
        text
    }
}

struct Reader<'a> {
    definitions: &'a Map<String, Value>,
    /// The definitions that are being read: one that holds itself ends in [`Kind::Any`].
    open: Vec<String>,
}

impl Reader<'_> {
    fn node(&mut self, schema: &Value, reloadable: bool) -> Node {
        let Some(object) = schema.as_object() else {
            let (default, unit, doc) = (None, None, String::new());
            return Node { doc, default, unit, nullable: true, reloadable, kind: Kind::Any };
        };
        let depth = self.open.len();
        let mut nullable = false;
        let object = self.flatten(object.clone(), &mut nullable);
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let reloadable = reloadable || object.get("x-reloadable").and_then(Value::as_bool).unwrap_or(false);
        let kind = self.kind(&object, &mut nullable, reloadable);
        self.open.truncate(depth);
        Node {
            doc: text("description").unwrap_or_default(),
            default: object.get("default").cloned(),
            unit: text("x-unit"),
            nullable,
            reloadable,
            kind,
        }
    }

    /// Puts what `$ref`, `allOf` and an `anyOf` with null say into the object itself; what the object says itself wins.
    fn flatten(&mut self, mut object: Map<String, Value>, nullable: &mut bool) -> Map<String, Value> {
        loop {
            let mut parts = Vec::new();
            if let Some(Value::String(reference)) = object.remove("$ref") {
                let name = reference.trim_start_matches("#/$defs/").to_owned();
                if !self.open.contains(&name) {
                    parts.extend(self.definitions.get(&name).cloned());
                    self.open.push(name);
                }
            }
            if let Some(Value::Array(all)) = object.remove("allOf") {
                parts.extend(all);
            }
            if object.get("format").and_then(Value::as_str) != Some("secret")
                && let Some(Value::Array(any)) = object.remove("anyOf")
            {
                let n = any.len();
                let mut rest: Vec<_> = any.into_iter().filter(|one| one["type"] != "null").collect();
                *nullable |= rest.len() < n;
                match rest.len() {
                    1 => parts.append(&mut rest),
                    _ => {
                        object.insert("oneOf".into(), Value::Array(rest));
                    }
                }
            }
            if parts.is_empty() {
                return object;
            }
            for part in parts {
                merge(&mut object, part);
            }
        }
    }

    fn kind(&mut self, object: &Map<String, Value>, nullable: &mut bool, reloadable: bool) -> Kind {
        if object.get("format").and_then(Value::as_str) == Some("secret") {
            let any = object.get("anyOf").and_then(Value::as_array);
            *nullable |= any.is_some_and(|any| any.iter().any(|one| one["type"] == "null"));
            return Kind::Secret;
        }
        if let Some(words) = words(object) {
            *nullable |= object.get("enum").and_then(Value::as_array).is_some_and(|all| all.contains(&Value::Null));
            return Kind::Choice(words);
        }
        if let Some(Value::Array(shapes)) = object.get("oneOf") {
            let each: Option<Vec<_>> = shapes.iter().map(|shape| words(shape.as_object()?)).collect();
            return match each {
                Some(words) => Kind::Choice(words.concat()),
                None => Kind::Variants(shapes.iter().map(|shape| self.node(shape, reloadable)).collect()),
            };
        }
        let types: Vec<&str> = match object.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ if object.contains_key("properties") => vec!["object"],
            _ => Vec::new(),
        };
        *nullable |= types.contains(&"null");
        let named: Vec<&str> = types.iter().copied().filter(|name| *name != "null").collect();
        match (object.get("format").and_then(Value::as_str), named.as_slice()) {
            (Some(units::DURATION), _) => Kind::Duration(text_range(object)),
            (Some(units::BYTE_SIZE), _) => Kind::Size(text_range(object)),
            (_, ["boolean"]) => Kind::Bool,
            (_, ["integer"]) => Kind::Integer(number_range(object, whole)),
            (_, ["number"]) => Kind::Float(number_range(object, Value::as_f64)),
            (_, ["string"]) => Kind::Text,
            (_, ["array"]) => {
                Kind::List(Box::new(self.node(object.get("items").unwrap_or(&Value::Bool(true)), reloadable)))
            }
            (_, ["object"]) => self.table(object, reloadable),
            (_, []) if !types.is_empty() => Kind::Nothing,
            _ => Kind::Any,
        }
    }

    fn table(&mut self, object: &Map<String, Value>, reloadable: bool) -> Kind {
        let required = object.get("required").and_then(Value::as_array);
        let fields = object.get("properties").and_then(Value::as_object).into_iter().flatten();
        let fields: Vec<_> = fields
            .map(|(name, schema)| Field {
                required: required.is_some_and(|all| all.iter().any(|one| one == name)),
                node: self.node(schema, reloadable),
                name: name.clone(),
            })
            .collect();
        let rest = match object.get("additionalProperties") {
            None | Some(Value::Bool(false)) => None,
            Some(schema) => Some(Box::new(self.node(schema, reloadable))),
        };
        match &rest {
            Some(rest) if fields.is_empty() && matches!(rest.kind, Kind::Any) => Kind::Any,
            _ => Kind::Table(Table { fields, rest }),
        }
    }
}

fn merge(object: &mut Map<String, Value>, part: Value) {
    let Value::Object(part) = part else { return };
    for (key, value) in part {
        match (object.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if key == "properties" => old.extend(new),
            (Some(Value::Array(old)), Value::Array(new)) if key == "required" => old.extend(new),
            (Some(_), _) => {}
            (None, value) => {
                object.insert(key, value);
            }
        }
    }
}

/// The words of an enumeration: `enum` or `const`, all text.
fn words(object: &Map<String, Value>) -> Option<Vec<(String, String)>> {
    let doc = object.get("description").and_then(Value::as_str).unwrap_or_default();
    match (object.get("const"), object.get("enum")) {
        (Some(Value::String(word)), _) => Some(vec![(word.clone(), doc.to_owned())]),
        (None, Some(Value::Array(all))) => all
            .iter()
            .filter(|word| !word.is_null())
            .map(|word| word.as_str().map(|word| (word.to_owned(), String::new())))
            .collect(),
        _ => None,
    }
}

fn number_range<T>(object: &Map<String, Value>, read: impl Fn(&Value) -> Option<T>) -> Range<T> {
    Range { min: object.get("minimum").and_then(&read), max: object.get("maximum").and_then(&read) }
}

#[allow(clippy::cast_possible_truncation)] // schemars writes some whole bounds as floats, such as 1.0
fn whole(value: &Value) -> Option<i128> {
    let exact = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    exact.or_else(|| value.as_f64().map(|number| number as i128))
}

fn text_range<T: std::str::FromStr>(object: &Map<String, Value>) -> Range<T> {
    let read = |key: &str| object.get(key).and_then(Value::as_str).and_then(|text| text.parse().ok());
    Range { min: read("x-minimum"), max: read("x-maximum") }
}
