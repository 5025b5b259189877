//! Walks the merged values along the schema: finds every mistake at once and gives each value its type.

use std::collections::BTreeMap;

use figment::{
    Figment,
    value::{Dict, Value},
};
use serde_json::{Map, Value as Json};

use super::{
    env,
    error::{ConfigProblem, Origin},
    near::nearest,
    schema::{Kind, Node, Table},
    secret::MASK,
    source::{Layer, Sources, Watched, join},
    text::{from_text, is_broken_reference},
    value::{found_in, has_mask, json, kind_of, leaf},
};

/// How many known keys a message lists; more would hide the message.
const LISTED_KEYS: usize = 12;
/// What the walk found: the values with their types, where each came from, and what is wrong.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) tree: Json,
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) problems: Vec<ConfigProblem>,
    pub(crate) read: Vec<Watched>,
}

/// Merges the layers, lowest first, and checks the result. Keys in messages begin with `prefix`.
pub(crate) fn check(root: &Node, layers: &[Layer], sources: &Sources, prefix: &str) -> Checked {
    let figment = layers.iter().fold(Figment::new(), |figment, layer| figment.merge(layer));
    let mut walk = Walk { figment: &figment, layers, sources, prefix, paths: None, root, out: Checked::default() };
    for layer in layers {
        walk.unknown_keys(root, &layer.values, "", layer);
    }
    let merged = figment.find_value("").ok();
    let tree = walk.value(root, merged.as_ref(), None, "").unwrap_or_else(|| Json::Object(Map::new()));
    Checked { tree, ..walk.out }
}

struct Walk<'a> {
    figment: &'a Figment,
    layers: &'a [Layer],
    sources: &'a Sources,
    prefix: &'a str,
    root: &'a Node,
    /// All known paths, made when the first unknown key asks for them.
    paths: Option<Vec<String>>,
    out: Checked,
}

impl Walk<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>, origin: Option<Origin>) {
        self.out.problems.push(ConfigProblem::new(join(self.prefix, key), message, origin));
    }

    /// The place in `layers` of the layer a value came from, and its origin.
    fn origin(&self, value: &Value, key: &str) -> (usize, Origin) {
        let name = self.figment.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref());
        let layer = self.layers.iter().rposition(|layer| name == Some(layer.origin.to_string().as_str()));
        match layer {
            Some(layer) => (layer, self.layers[layer].origin_at(key)),
            None => (0, Origin::Default),
        }
    }

    /// Reports the keys of one layer that nobody knows. Each layer is searched by itself, so that each mistake gets its
    /// own origin.
    fn unknown_keys(&mut self, node: &Node, dict: &Dict, at: &str, layer: &Layer) {
        if matches!(node.kind, Kind::Secret) {
            return;
        }
        for (name, value) in dict {
            let key = join(at, name);
            match node.child(name) {
                Some(child) => self.unknown_below(child, value, &key, layer),
                None if matches!(node.kind, Kind::Table(_) | Kind::Variants(_)) => {
                    let message = self.unknown_message(node, name, at);
                    self.problem(&key, message, Some(layer.origin_at(&key)));
                }
                // A table where none belongs: the walk says so.
                None => {}
            }
        }
    }

    fn unknown_below(&mut self, node: &Node, value: &Value, key: &str, layer: &Layer) {
        match (value, &node.kind) {
            (_, Kind::Any | Kind::Nothing) => {}
            (Value::Dict(_, dict), _) => self.unknown_keys(node, dict, key, layer),
            (Value::Array(_, items), Kind::List(item)) => {
                for (n, value) in items.iter().enumerate() {
                    self.unknown_below(item, value, &join(key, &n.to_string()), layer);
                }
            }
            _ => {}
        }
    }

    fn unknown_message(&mut self, node: &Node, name: &str, at: &str) -> String {
        let names = node.names();
        let full = |name: &str| join(self.prefix, &join(at, name));
        if let Some(near) = nearest(name, names.iter().copied()) {
            return format!("unknown key; did you mean {}?", full(near));
        }
        let paths = self.paths.get_or_insert_with(|| super::explain::paths(self.root));
        // Right name in the wrong table, or the path written with other separators. A name that several tables have says
        // nothing of which one was meant.
        let last = |path: &'_ String| path.rsplit('.').next().unwrap_or_default().to_owned();
        let lasts: Vec<_> = paths.iter().map(last).collect();
        let alone = |name: &str| lasts.iter().filter(|last| *last == name).count() == 1;
        let near = lasts
            .iter()
            .find(|last| *last == name)
            .map(String::as_str)
            .or_else(|| nearest(name, lasts.iter().map(String::as_str)))
            .filter(|near| alone(near));
        let elsewhere =
            paths.iter().zip(&lasts).find(|(_, last)| Some(last.as_str()) == near).map(|(path, _)| path.clone());
        let elsewhere =
            elsewhere.or_else(|| nearest(&join(at, name), paths.iter().map(String::as_str)).map(str::to_owned));
        match elsewhere {
            Some(path) => format!("unknown key; did you mean {}?", join(self.prefix, &path)),
            None if names.is_empty() => "unknown key; there are no keys here, remove it".into(),
            None => {
                let more = if names.len() > LISTED_KEYS { ", …" } else { "" };
                let names = names.into_iter().take(LISTED_KEYS).collect::<Vec<_>>();
                format!("unknown key, expected one of {}{more}", names.join(", "))
            }
        }
    }

    /// Checks one value and gives it its type. `hint` is the default that the table around it states. None: nothing to
    /// write.
    fn value(&mut self, node: &Node, found: Option<&Value>, hint: Option<&Json>, key: &str) -> Option<Json> {
        let Some(value) = found else { return self.absent(node, hint, key) };
        let (_, origin) = self.origin(value, key);
        if origin.is_built_in()
            && matches!(node.kind, Kind::List(_) | Kind::Variants(_))
            && node.holds_secret()
            && has_mask(&json(value))
        {
            return None;
        }
        let typed;
        let value = match value {
            Value::String(tag, text) if origin.is_text() => {
                typed = from_text(node, text, *tag);
                typed.as_ref().unwrap_or(value)
            }
            _ => value,
        };
        let checked = match (&node.kind, value) {
            (Kind::Any, _) => {
                self.origins_below(value, key);
                Ok(json(value))
            }
            (Kind::Nothing, _) => Ok(Json::Null),
            (_, Value::Empty(..)) if node.nullable => Ok(Json::Null),
            (Kind::Secret, _) => return self.secret(node, value, &origin, key),
            (Kind::Table(table), Value::Dict(_, dict)) => return Some(self.table(table, Some(dict), None, key)),
            (Kind::List(item), Value::Array(_, items)) => {
                let items = items.iter().enumerate();
                let items: Vec<_> = items
                    .filter_map(|(n, value)| self.value(item, Some(value), None, &join(key, &n.to_string())))
                    .collect();
                Ok(Json::Array(items))
            }
            (Kind::Variants(variants), _) => return self.variant(node, variants, value, &origin, key),
            _ => leaf(node, value),
        };
        match checked {
            Ok(json) => {
                self.out.origins.insert(join(self.prefix, key), origin);
                Some(json)
            }
            Err(message) => {
                self.problem(key, message, Some(origin));
                hint.or(node.default.as_ref()).cloned()
            }
        }
    }

    /// The origins of values whose type is not known.
    fn origins_below(&mut self, value: &Value, key: &str) {
        for (name, value) in value.as_dict().into_iter().flatten() {
            let key = join(key, name);
            let (_, origin) = self.origin(value, &key);
            self.out.origins.insert(join(self.prefix, &key), origin);
            self.origins_below(value, &key);
        }
    }

    /// Nothing is written for this key: its default, or a mistake when it has none.
    fn absent(&mut self, node: &Node, hint: Option<&Json>, key: &str) -> Option<Json> {
        let default = hint.or(node.default.as_ref());
        match (&node.kind, default) {
            (Kind::Nothing, _) => Some(Json::Null),
            (Kind::Table(table), Some(Json::Object(_))) => Some(self.table(table, None, default, key)),
            (Kind::Table(table), None) if !node.nullable => Some(self.table(table, None, None, key)),
            // What a secret serializes to is not its default; serde knows that one.
            (Kind::Secret | Kind::List(_) | Kind::Variants(_), Some(default))
                if node.holds_secret() && has_mask(default) =>
            {
                None
            }
            (_, Some(default)) => {
                self.out.origins.insert(join(self.prefix, key), Origin::Default);
                Some(default.clone())
            }
            (_, None) => None,
        }
    }

    fn table(&mut self, table: &Table, dict: Option<&Dict>, hint: Option<&Json>, at: &str) -> Json {
        let mut out = Map::new();
        for field in &table.fields {
            let key = join(at, &field.name);
            let found = dict.and_then(|dict| dict.get(&field.name));
            let hint = hint.and_then(|hint| hint.get(&field.name));
            if found.is_none() && !field.required && hint.or(field.node.default.as_ref()).is_none() {
                // The type knows its default and the schema does not: serde fills it in.
                continue;
            }
            let value = self.value(&field.node, found, hint, &key);
            let missing = value.is_none() && found.is_none() && field.required;
            if missing && !matches!(field.node.kind, Kind::Any) {
                let path = join(self.prefix, &key);
                let place =
                    self.sources.files.first().cloned().unwrap_or_else(|| self.sources.dir.join("default.toml"));
                let variable = if path.split('.').any(|part| part.parse::<usize>().is_ok()) {
                    String::new()
                } else {
                    format!(", or {}", env::variable(&path))
                };
                let message =
                    format!("missing, expected {}; set it in {}{variable}", field.node.expected(), place.display());
                self.problem(&key, message, None);
            }
            out.extend(value.map(|value| (field.name.clone(), value)));
        }
        if let Some(rest) = &table.rest {
            let others =
                dict.into_iter().flatten().filter(|(name, _)| !table.fields.iter().any(|field| field.name == **name));
            for (name, value) in others {
                let value = self.value(rest, Some(value), None, &join(at, name));
                out.extend(value.map(|value| (name.clone(), value)));
            }
            if dict.is_none()
                && let Some(Json::Object(hint)) = hint
            {
                out.extend(
                    hint.iter()
                        .filter(|(name, _)| table.fields.iter().all(|field| field.name != **name))
                        .map(|(k, v)| (k.clone(), v.clone())),
                );
            }
        }
        Json::Object(out)
    }

    /// The text of a secret. Nothing that is said here may show it.
    fn secret(&mut self, node: &Node, value: &Value, origin: &Origin, key: &str) -> Option<Json> {
        let secret = match value {
            // The mask of a serialized default is not a value.
            Value::String(_, text) if origin.is_built_in() && text == MASK => return None,
            Value::String(_, text) if origin.is_text() && is_broken_reference(text) => {
                Err("found a table that cannot be read, expected { file = \"…\" } or { env = \"…\" }, the name in \
                     quotes"
                    .to_owned())
            }
            Value::String(_, text) => Ok((text.clone(), origin.clone())),
            Value::Dict(_, dict) => self.secret_from(dict, key),
            other => Err(format!("found {}, expected {}", kind_of(other), node.type_name())),
        };
        match secret {
            Ok((text, origin)) => {
                self.out.origins.insert(join(self.prefix, key), origin);
                Some(Json::String(text))
            }
            Err(message) => {
                let place = match value {
                    Value::Dict(_, dict) => dict
                        .iter()
                        .map(|(name, value)| self.origin(value, &join(key, name)))
                        .max_by_key(|(layer, _)| *layer),
                    _ => None,
                };
                self.problem(key, message, Some(place.map_or_else(|| origin.clone(), |(_, origin)| origin)));
                None
            }
        }
    }

    /// The text that a table names, and where that name came from.
    fn secret_from(&mut self, dict: &Dict, key: &str) -> Result<(String, Origin), String> {
        let expected = "expected text, { file = \"…\" } or { env = \"…\" }";
        if let Some(name) = dict.keys().find(|name| !matches!(name.as_str(), "file" | "env")) {
            return Err(format!("found a table with the key {name}, {expected}"));
        }
        // A higher layer may name a file where a lower one names a variable: the higher one wins.
        let mut ways: Vec<_> =
            dict.iter().map(|(name, value)| (self.origin(value, &join(key, name)), name.as_str(), value)).collect();
        ways.sort_by_key(|((layer, _), ..)| *layer);
        let (origin, name, value) = match ways.as_slice() {
            [.., ((low, _), ..), ((high, _), ..)] if low == high => {
                return Err(format!("found both file and env, {expected}"));
            }
            [.., ((_, origin), name, value)] => (origin.clone(), *name, value.as_str()),
            [] => return Err(format!("found an empty table, {expected}")),
        };
        let Some(from) = value else { return Err(format!("{name} is not text, {expected}")) };
        if name == "env" {
            let variable = self.sources.variable(from).map(str::to_owned);
            return match variable {
                Some(text) if text.is_empty() => {
                    Err(format!("the variable {from} is empty; set it, or give the value another way"))
                }
                Some(text) => Ok((text, origin)),
                None => Err(format!("the variable {from} is not set; set it, or give the value another way")),
            };
        }
        let (contents, watched) = Watched::read(from.as_ref());
        self.out.read.push(watched);
        let contents = contents.map_err(|error| {
            format!("cannot read the file {from}: {error}; create it, make it readable or correct the path")
        })?;
        let mut text =
            String::from_utf8(contents).map_err(|_| format!("the file {from} is not UTF-8 text; save it as UTF-8"))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(format!("the file {from} is empty; write the value into it, or give it another way"));
        }
        Ok((text, origin))
    }

    /// Takes the shape that the value is meant to have, so that the mistakes that are told are the ones worth reading.
    fn variant(&mut self, node: &Node, variants: &[Node], value: &Value, origin: &Origin, key: &str) -> Option<Json> {
        if let (Some(dict), Some((tag, words))) = (value.as_dict(), tag_of(variants)) {
            let found = dict.get(tag).and_then(Value::as_str);
            return match variants.iter().zip(&words).find(|(_, (word, _))| Some(word.as_str()) == found) {
                Some((variant, _)) => self.value(variant, Some(value), None, key),
                None => {
                    let known = Node { kind: Kind::Choice(words), default: None, nullable: false, ..node.clone() };
                    let key = join(key, tag);
                    match dict.get(tag) {
                        Some(found) => drop(self.value(&known, Some(found), None, &key)),
                        None => {
                            self.problem(&key, format!("missing, expected {}", known.expected()), Some(origin.clone()));
                        }
                    }
                    None
                }
            };
        }
        // The stray keys of each shape decide; a shape without any mistake is the one.
        let mut best: Option<(usize, Option<Json>, Checked)> = None;
        for variant in variants {
            let outer = std::mem::take(&mut self.out);
            let json = self.value(variant, Some(value), None, key);
            let tried = std::mem::replace(&mut self.out, outer);
            let stray = value.as_dict().into_iter().flatten().filter(|(name, _)| variant.child(name).is_none()).count();
            if stray == 0 && tried.problems.is_empty() {
                best = Some((stray, json, tried));
                break;
            }
            if value.as_dict().is_some_and(|dict| stray < dict.len())
                && best.as_ref().is_none_or(|(least, ..)| stray < *least)
            {
                best = Some((stray, json, tried));
            }
        }
        if let Some((_, json, tried)) = best {
            self.out.problems.extend(tried.problems);
            self.out.origins.extend(tried.origins);
            self.out.origins.insert(join(self.prefix, key), origin.clone());
            self.out.read.extend(tried.read);
            return json;
        }
        let message = format!("found {}, expected {}", found_in(node, value), node.expected());
        self.problem(key, message, Some(origin.clone()));
        None
    }
}

/// The key that says which shape a table has, and the word of each shape, when all shapes have one.
fn tag_of(variants: &[Node]) -> Option<(&str, Vec<(String, String)>)> {
    let Kind::Table(first) = &variants.first()?.kind else { return None };
    first.fields.iter().find_map(|field| {
        let word = |variant: &Node| match &variant.child(&field.name)?.kind {
            Kind::Choice(words) if words.len() == 1 && matches!(variant.kind, Kind::Table(_)) => words.first().cloned(),
            _ => None,
        };
        Some((field.name.as_str(), variants.iter().map(word).collect::<Option<Vec<_>>>()?))
    })
}
