//! Environment variables and `--set` as layers. Values stay the text they are; the schema decides their type later, so
//! that a text key fed `00123` or `true` keeps it.

use figment::value::{Dict, Tag, Value};

use super::{
    error::{ConfigProblem, Origin},
    nearest,
    schema::{Kind, Node},
    source::{Layer, PROFILE_VARIABLE, Sources, toml_value},
};

/// What the service's own variables begin with.
const PREFIX: &str = "CHASSIS_";
/// What stands between two levels of a key; one underscore is a part of a name.
const SEPARATOR: &str = "__";

/// The variable that sets a key.
pub(crate) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', SEPARATOR).replace('-', "_").to_uppercase())
}

/// The layer of the standard variables.
pub(crate) fn standard(sources: &Sources, root: &Node, problems: &mut Vec<ConfigProblem>) -> Layer {
    let mut layer = Layer::new(Origin::Environment("variables".into()));
    for (name, key) in &sources.standard {
        if let Some(text) = sources.variable(name).filter(|text| !text.is_empty()) {
            let (path, origin) =
                (|key: &str| key.split('.').map(str::to_owned).collect::<Vec<_>>(), Origin::Environment(name.clone()));
            match key.rsplit_once('.') {
                Some((secret, from)) if root.find(secret).is_some_and(|node| matches!(node.kind, Kind::Secret)) => {
                    let text = Value::String(Tag::Default, text.to_owned());
                    layer.set(&path(secret), Value::Dict(Tag::Default, Dict::from([(from.to_owned(), text)])), origin);
                }
                _ => insert(&mut layer, root, &path(key), text, name, origin, problems),
            }
        }
    }
    layer
}

/// The layer of the variables with our prefix.
pub(crate) fn prefixed(sources: &Sources, root: &Node, problems: &mut Vec<ConfigProblem>) -> Layer {
    let mut layer = Layer::new(Origin::Environment(format!("{PREFIX}…")));
    let mut variables: Vec<_> = sources.env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // A table's own variable comes before those of its keys, whatever the order of the environment.
    variables.sort();
    for (name, text) in variables {
        if name == PROFILE_VARIABLE || sources.not_keys.contains(name) {
            continue;
        }
        let parts: Vec<_> = name[PREFIX.len()..].split(SEPARATOR).map(str::to_lowercase).collect();
        match resolve(root, &parts) {
            Ok(path) => insert(&mut layer, root, &path, text, name, Origin::Environment(name.clone()), problems),
            Err(known) => {
                let mut candidates: Vec<String> = known.iter().map(|path| variable(path)).collect();
                candidates.extend(super::explain::paths(root).iter().map(|path| variable(path)));
                candidates.extend(sources.not_keys.iter().cloned());
                candidates.push(PROFILE_VARIABLE.into());
                problems.push(unknown(
                    name,
                    None,
                    &candidates,
                    "unset it, or see the variables with `config print --default`",
                ));
            }
        }
    }
    layer
}

/// The layer of `--set key=value`.
pub(crate) fn command_line(set: &[String], root: &Node, problems: &mut Vec<ConfigProblem>) -> Layer {
    let mut layer = Layer::new(Origin::CommandLine("key".into()));
    for pair in set {
        let Some((key, text)) = pair.split_once('=') else {
            // No more than the key: what follows it may be a secret.
            let key: String = pair.chars().take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
            problems.push(ConfigProblem::new(format!("--set {key}"), "found no =, expected key=value", None));
            continue;
        };
        let (key, origin) = (key.trim(), Origin::CommandLine(key.trim().to_owned()));
        match resolve(root, &key.split('.').map(str::to_owned).collect::<Vec<_>>()) {
            Ok(path) => insert(&mut layer, root, &path, text, key, origin, problems),
            Err(known) => {
                let candidates = [known, super::explain::paths(root)].concat();
                problems.push(unknown(key, Some(origin), &candidates, "see the keys with `config print --default`"));
            }
        }
    }
    layer
}

/// Puts one text of a store under its key; `key` is dotted.
pub(crate) fn set_text(
    layer: &mut Layer,
    root: &Node,
    key: &str,
    text: &str,
    origin: Origin,
    problems: &mut Vec<ConfigProblem>,
) {
    match resolve(root, &key.split('.').map(str::to_owned).collect::<Vec<_>>()) {
        Ok(path) => insert(layer, root, &path, text, key, origin, problems),
        Err(known) => {
            let candidates = [known, super::explain::paths(root)].concat();
            problems.push(unknown(
                key,
                Some(origin),
                &candidates,
                "delete it, or see the keys with `config print --default`",
            ));
        }
    }
}

fn unknown(name: &str, origin: Option<Origin>, candidates: &[String], otherwise: &str) -> ConfigProblem {
    let message = match nearest(name, candidates.iter().map(String::as_str)) {
        Some(near) => format!("unknown; did you mean {near}?"),
        None => format!("unknown; {otherwise}"),
    };
    ConfigProblem::new(name, message, origin)
}

/// The path as the schema writes it, upper and lower case and `-` and `_` being the same; else the paths known where it
/// went astray.
fn resolve(root: &Node, parts: &[String]) -> Result<Vec<String>, Vec<String>> {
    let same = |a: &str, b: &str| a.replace('-', "_").eq_ignore_ascii_case(&b.replace('-', "_"));
    let mut path: Vec<String> = Vec::new();
    let mut node = root;
    for part in parts {
        let known = node.names();
        let name = known.iter().copied().find(|name| same(name, part)).unwrap_or(part);
        match node.child(name).filter(|_| !name.is_empty() && !matches!(node.kind, Kind::List(_))) {
            Some(child) => node = child,
            None if path.is_empty() => return Err(known.into_iter().map(str::to_owned).collect()),
            None if known.is_empty() => return Err(vec![path.join(".")]),
            None => return Err(known.into_iter().map(|name| format!("{}.{name}", path.join("."))).collect()),
        }
        path.push(name.to_owned());
    }
    Ok(path)
}

/// Puts the text into the layer. A table of free keys may be written as an inline table, so that it merges with the
/// layers below.
fn insert(
    layer: &mut Layer,
    root: &Node,
    path: &[String],
    text: &str,
    name: &str,
    origin: Origin,
    problems: &mut Vec<ConfigProblem>,
) {
    let mut value = Value::String(Tag::Default, text.to_owned());
    if let Some(Kind::Table(table)) = root.find(&path.join(".")).map(|node| &node.kind) {
        let inline = Some(()).filter(|()| table.rest.is_some()).and_then(|()| toml_value(text));
        match inline {
            Some(inline @ Value::Dict(..)) => value = inline,
            _ => {
                let message = match table.fields.first() {
                    Some(field) => {
                        let key = format!("{}.{}", path.join("."), field.name);
                        let key = match &origin {
                            Origin::Environment(_) => variable(&key),
                            _ => key,
                        };
                        format!("is a table; set its keys, such as {key}")
                    }
                    None => "is a table, expected { key = value }".to_owned(),
                };
                problems.push(ConfigProblem::new(name, message, Some(origin)));
                return;
            }
        }
    }
    layer.set(path, value, origin);
}
