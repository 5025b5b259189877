//! The configuration told to people: reference pages, an annotated default file, and what is in effect with its origin.
//!
//! Everything is made from the schema, so it cannot say anything else than what is checked.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    ConfigProblem, Defaults, Loaded, Schema, env, masked,
    near::nearest,
    schema::{Kind, Node},
    secret::MASK,
    source::join,
};

/// What a reference page says about one key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeyDoc {
    /// The key; `<name>` stands for a name of one's own choice, `<n>` for a place in a list.
    pub key: String,
    /// What it is and what follows from it.
    pub doc: String,
    /// The type in words.
    pub type_name: String,
    /// The default as TOML; none when there is none.
    pub default: Option<String>,
    /// The bounds of the value.
    pub range: Option<String>,
    /// The unit of a plain number.
    pub unit: Option<String>,
    /// The words it may be, with their descriptions.
    pub choices: Vec<(String, String)>,
    /// The environment variable; none for keys inside of lists.
    pub env: Option<String>,
    /// The environment variable that names a file with the value; secrets have one.
    pub env_file: Option<String>,
    /// Whether a change applies while the service runs.
    pub reloadable: bool,
    /// Whether it is masked everywhere.
    pub secret: bool,
    /// Whether it has to be given.
    pub required: bool,
}

impl KeyDoc {
    /// Default, range, variable and so on, in one line and always in the same order.
    #[must_use]
    pub fn facts(&self) -> String {
        let mut facts = Vec::new();
        match &self.default {
            Some(default) => facts.push(format!("Default {default}")),
            None if self.required => facts.push("Required".into()),
            None => facts.push("Not set by default".into()),
        }
        facts.extend(self.range.as_ref().map(|range| format!("Range {range}")));
        facts.extend(self.unit.as_ref().map(|unit| format!("Unit {unit}")));
        if !self.choices.is_empty() {
            let words: Vec<_> = self.choices.iter().map(|(word, _)| word.as_str()).collect();
            facts.push(format!("One of {}", words.join(", ")));
        }
        facts.extend(self.env.as_ref().map(|env| match &self.env_file {
            Some(file) => format!("Env {env}, or {file} for the name of a file"),
            None => format!("Env {env}"),
        }));
        if self.reloadable {
            facts.push("Applies on reload".into());
        }
        facts.join(". ") + "."
    }
}

/// All paths that the schema knows, tables and keys; not those of one's own choice.
pub(crate) fn paths(root: &Node) -> Vec<String> {
    fn below(node: &Node, at: &str, paths: &mut Vec<String>) {
        if let Kind::Table(table) = &node.kind {
            for field in &table.fields {
                let path = join(at, &field.name);
                paths.push(path.clone());
                below(&field.node, &path, paths);
            }
        }
    }
    let mut paths = Vec::new();
    below(root, "", &mut paths);
    paths
}

/// One stop of the walk through the reference.
enum Stop<'a> {
    Key(KeyDoc),
    Table { path: String, node: &'a Node, optional: bool },
}

/// Visits the keys of a table, then its tables.
fn walk<'a>(
    node: &'a Node,
    at: &str,
    hint: Option<&Value>,
    optional: bool,
    visit: &mut impl FnMut(Stop<'a>, &'a Node),
) {
    let Kind::Table(table) = &node.kind else { return };
    let default = |name: &str, node: &Node| hint.and_then(|hint| hint.get(name)).or(node.default.as_ref()).cloned();
    let is_table = |node: &Node| inner_table(node).is_some();
    for field in table.fields.iter().filter(|field| !is_table(&field.node)) {
        let doc = key_doc(&join(at, &field.name), &field.node, default(&field.name, &field.node), field.required);
        visit(Stop::Key(doc), &field.node);
    }
    if let Some(rest) = table.rest.as_deref().filter(|rest| !is_table(rest)) {
        visit(Stop::Key(key_doc(&join(at, "<name>"), rest, None, false)), rest);
    }
    let tables = table.fields.iter().map(|field| (field.name.as_str(), &field.node));
    let rest = table.rest.as_deref().map(|rest| ("<name>", rest));
    for (name, child) in tables.chain(rest) {
        let Some((inner, suffix)) = inner_table(child) else { continue };
        let path = format!("{}{suffix}", join(at, name));
        let given = default(name, child);
        let optional = optional
            || name == "<name>"
            || !suffix.is_empty()
            || child.nullable && !matches!(given, Some(Value::Object(_)));
        visit(Stop::Table { path: path.clone(), node: child, optional }, child);
        let hint = given.filter(|value| suffix.is_empty() && value.is_object());
        walk(inner, &path, hint.as_ref(), optional, visit);
    }
}

/// The table that a node is, or that the items of its list are.
fn inner_table(node: &Node) -> Option<(&Node, &'static str)> {
    match &node.kind {
        Kind::Table(_) => Some((node, "")),
        Kind::List(item) if matches!(item.kind, Kind::Table(_)) => Some((item, ".<n>")),
        _ => None,
    }
}

fn key_doc(key: &str, node: &Node, default: Option<Value>, required: bool) -> KeyDoc {
    let default = default.filter(|value| !value.is_null() && value != MASK).map(|value| toml(&masked(node, &value)));
    KeyDoc {
        doc: node.doc.clone(),
        type_name: node.type_name(),
        required: required && default.is_none(),
        default: default.filter(|_| !matches!(node.kind, Kind::Secret | Kind::Any | Kind::Nothing)),
        range: node.range(),
        unit: node.unit.clone(),
        choices: if let Kind::Choice(words) = &node.kind { words.clone() } else { Vec::new() },
        env: Some(env::variable(key)).filter(|_| !key.contains("<n>")),
        env_file: Some(env::file_variable(key)).filter(|_| node.is_secret() && !key.contains("<n>")),
        reloadable: node.is_reloadable(),
        secret: matches!(node.kind, Kind::Secret),
        key: key.to_owned(),
    }
}

/// A value as TOML on one line.
fn toml(value: &Value) -> String {
    match value {
        // JSON's escapes are TOML's, but for one character that JSON leaves as it is.
        Value::String(_) => value.to_string().replace('\u{7f}', "\\u007F"),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<_> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{} = {}", bare(key), toml(value)))
                .collect();
            if entries.is_empty() { "{}".into() } else { format!("{{ {} }}", entries.join(", ")) }
        }
        _ => value.to_string(),
    }
}

/// A key as TOML writes it.
fn bare(key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_bare { key.to_owned() } else { toml(&Value::String(key.to_owned())) }
}

/// A dotted path as TOML writes it, with sample names in the place of one's own.
fn header(path: &str) -> String {
    let path = path.trim_end_matches(".<n>").replace(".<n>", "");
    path.split('.')
        .map(|part| if part == "<name>" { "example".into() } else { bare(part) })
        .collect::<Vec<_>>()
        .join(".")
}

/// Something that may be written where there is no default.
fn sample(node: &Node, key: &str) -> String {
    match &node.kind {
        Kind::Bool => "false".into(),
        Kind::Integer(range) => range.min.unwrap_or(0).to_string(),
        Kind::Float(range) => toml(&range.min.unwrap_or(0.0).into()),
        Kind::Text => "\"\"".into(),
        Kind::Duration(range) => format!("\"{}\"", range.min.unwrap_or(super::Duration::from_secs(1))),
        Kind::Size(range) => format!("\"{}\"", range.min.unwrap_or(super::ByteSize::kib(1))),
        Kind::Secret => {
            format!(
                "{{ file = \"/run/secrets/{}\" }}",
                key.rsplit('.').next().unwrap_or_default().trim_matches(['<', '>'])
            )
        }
        Kind::Choice(words) => toml(&words.first().map(|(word, _)| word.clone()).unwrap_or_default().into()),
        Kind::List(_) => "[]".into(),
        Kind::Table(_) | Kind::Any | Kind::Nothing => "{}".into(),
        Kind::Variants(variants) => variants.first().map_or_else(|| "\"\"".into(), |variant| sample(variant, key)),
    }
}

impl Schema {
    /// What the reference says about each key, in the order of the annotated file.
    #[must_use]
    pub fn reference(&self, defaults: &Defaults) -> Vec<KeyDoc> {
        let mut keys = Vec::new();
        walk(&self.root, "", Some(&defaults.root), false, &mut |stop, _| {
            if let Stop::Key(doc) = stop {
                keys.push(doc);
            }
        });
        keys
    }

    /// A configuration file with every key, its meaning and its default.
    ///
    /// All keys are commented out: lines that begin with `#` and no space become a key when the `#` is taken away.
    #[must_use]
    pub fn annotated_toml(&self, defaults: &Defaults) -> String {
        let mut out = String::from("# Every key with its default. Take away the # in front of a key to set it.\n");
        let comment = |out: &mut String, text: &str| {
            for line in text.lines() {
                let _ = writeln!(out, "{}", format!("# {line}").trim_end());
            }
        };
        walk(&self.root, "", Some(&defaults.root), false, &mut |stop, node| {
            out.push('\n');
            match stop {
                Stop::Table { path, node, optional } => {
                    comment(&mut out, &node.doc);
                    let mark = if optional { "#" } else { "" };
                    let (open, close) = if path.ends_with("<n>") { ("[[", "]]") } else { ("[", "]") };
                    let _ = writeln!(out, "{mark}{open}{}{close}", header(&path));
                }
                Stop::Key(doc) => {
                    comment(&mut out, &doc.doc);
                    for (word, meaning) in doc.choices.iter().filter(|(_, meaning)| !meaning.is_empty()) {
                        comment(&mut out, &format!("- {word}: {}", meaning.replace('\n', " ")));
                    }
                    comment(&mut out, &doc.facts());
                    let name = doc.key.rsplit('.').next().unwrap_or_default();
                    let value = doc.default.clone().unwrap_or_else(|| sample(node, &doc.key));
                    let _ = writeln!(out, "#{} = {value}", header(name));
                }
            }
        });
        out
    }

    /// The reference as a Markdown page.
    #[must_use]
    pub fn reference_markdown(&self, defaults: &Defaults) -> String {
        let mut out = String::new();
        walk(&self.root, "", Some(&defaults.root), false, &mut |stop, _| match stop {
            Stop::Table { path, node, .. } => {
                let _ = write!(out, "## `[{path}]`\n\n");
                if !node.doc.is_empty() {
                    let _ = write!(out, "{}\n\n", node.doc);
                }
            }
            Stop::Key(doc) => {
                let _ = write!(out, "### `{}`\n\n", doc.key);
                if !doc.doc.is_empty() {
                    let _ = write!(out, "{}\n\n", doc.doc);
                }
                let mut fact = |name: &str, value: Option<&str>| {
                    let _ = value.map(|value| writeln!(out, "- {name}: {value}"));
                };
                fact("Type", Some(&doc.type_name));
                let code = |text: &String| format!("`{text}`");
                match &doc.default {
                    Some(default) => fact("Default", Some(&code(default))),
                    None => fact("Default", Some(if doc.required { "none, has to be set" } else { "not set" })),
                }
                fact("Range", doc.range.as_deref());
                fact("Unit", doc.unit.as_deref());
                fact("Environment", doc.env.as_ref().map(code).as_deref());
                fact("Environment, for the name of a file", doc.env_file.as_ref().map(code).as_deref());
                fact("Applies", Some(if doc.reloadable { "on reload" } else { "after a restart" }));
                for (word, meaning) in doc.choices.iter().filter(|(_, meaning)| !meaning.is_empty()) {
                    fact(&format!("`{word}`"), Some(&meaning.replace('\n', " ")));
                }
                out.push('\n');
            }
        });
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

/// One value in effect.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The key as TOML writes it.
    pub key: String,
    /// The value as TOML, secrets masked; none when it is not set.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Option<String>,
}

impl<T> Loaded<T> {
    /// All values in effect as TOML, one key a line, with their origins as comments when asked for. Secrets are masked.
    #[must_use]
    pub fn print(&self, origins: bool) -> String {
        let mut out = String::new();
        for Entry { key, value, origin } in self.entries() {
            let _ = match value {
                Some(value) => write!(out, "{key} = {value}"),
                None => write!(out, "# {key} is not set"),
            };
            if let Some(origin) = origin.filter(|_| origins) {
                let _ = write!(out, "   # {origin}");
            }
            out.push('\n');
        }
        out
    }

    /// All values in effect with their origins, sorted by key. Secrets are masked.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.entries_below(&self.inner.schema.root, &self.effective(), "", "", &mut entries);
        entries
    }

    fn entries_below(&self, node: &Node, value: &Value, path: &str, key: &str, entries: &mut Vec<Entry>) {
        if let Value::Object(map) = value
            && (path.is_empty() || matches!(node.kind, Kind::Table(_) | Kind::Any) && !map.is_empty())
        {
            for (name, value) in map {
                self.entries_below(
                    node.child(name).unwrap_or(node),
                    value,
                    &join(path, name),
                    &join(key, &bare(name)),
                    entries,
                );
            }
            return;
        }
        let value = Some(value).filter(|value| !value.is_null()).map(toml);
        entries.push(Entry { key: key.to_owned(), value, origin: self.origin(path).map(ToString::to_string) });
    }

    /// What there is to say about a key: meaning, facts, the value in effect and its origin; for a table, its keys.
    ///
    /// # Errors
    ///
    /// There is no such key; the message names the nearest one.
    pub fn explain(&self, key: &str) -> Result<String, ConfigProblem> {
        let root = &self.inner.schema.root;
        let Some(node) = root.find(key) else {
            let paths = paths(root);
            let message = match nearest(key, paths.iter().map(String::as_str)) {
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => "unknown key; see `config print` for all keys".into(),
            };
            return Err(ConfigProblem::new(key, message, None));
        };
        let mut out = format!("{key}\n");
        for line in node.doc.lines() {
            let _ = writeln!(out, "{}", format!("  {line}").trim_end());
        }
        if let Kind::Table(_) = node.kind {
            out.push('\n');
            for name in node.names() {
                let doc = node.child(name).map(|node| node.doc.lines().next().unwrap_or_default()).unwrap_or_default();
                let _ = writeln!(out, "  {}", format!("{}  {doc}", join(key, name)).trim_end());
            }
            return Ok(out);
        }
        let pointer = format!("/{}", key.replace('.', "/"));
        let default = self.inner.defaults.root.pointer(&pointer).or(node.default.as_ref()).cloned();
        let doc = key_doc(key, node, default, false);
        let _ = writeln!(out, "\n  Type: {}", doc.type_name);
        for (word, meaning) in doc.choices.iter().filter(|(_, meaning)| !meaning.is_empty()) {
            let _ = writeln!(out, "    {word}: {}", meaning.replace('\n', " "));
        }
        let _ = writeln!(out, "  {}", doc.facts());
        let now =
            self.effective().pointer(&pointer).filter(|value| !value.is_null()).map_or_else(|| "not set".into(), toml);
        let origin = self.origin(key).map(|origin| format!("   # {origin}")).unwrap_or_default();
        let _ = writeln!(out, "  Now: {now}{origin}");
        Ok(out)
    }
}
