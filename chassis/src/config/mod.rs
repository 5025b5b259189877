//! How values get in: layers, checked as a whole, with the origin of each value.
//!
//! A configuration is a plain type that derives `Deserialize` and [`JsonSchema`](schemars::JsonSchema). The schema is
//! the single source of truth: the layers of [`Sources`] are put on top of each other and walked along the schema,
//! which finds every mistake at once – unknown keys, wrong types, values out of range, missing keys – and names for
//! each what was found, what was expected, where it came from and what to do. The reference pages and the annotated
//! default file are made from the same schema.
//!
//! Lowest first: built-in defaults, those of the profile, `config/default.toml`, `config/<profile>.toml`, remote
//! stores, standard variables of the ecosystem, `CHASSIS_…` variables, `--set`. A later layer wins key by key; lists
//! and secrets are replaced as a whole. An empty text from a variable or `--set` unsets an optional key.
//!
//! This module knows no concern: the root type is the caller's.
//!
//! ```
//! use chassis::config::{Duration, Schema, Sources};
//!
//! #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
//! #[serde(default, deny_unknown_fields)]
//! struct Settings {
//!     /// How long a call may take.
//!     #[schemars(extend("x-maximum" = "1m", "x-reloadable" = true))]
//!     timeout: Duration,
//! }
//!
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Self { timeout: Duration::from_secs(5) }
//!     }
//! }
//!
//! let schema = Schema::of::<Settings>();
//! let defaults = chassis::config::Defaults::of(&Settings::default());
//! let env = vec![("CHASSIS_TIMEOUT".to_owned(), "2m".to_owned())];
//! let sources = Sources { env, ..Sources::default() };
//! let errors = schema.load::<Settings>(&defaults, &sources).unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "1 problem in the configuration:\n  timeout: found \"2m\", expected a duration such as \"250ms\" or \"5s\", at most 1m \
//!      (environment CHASSIS_TIMEOUT)"
//! );
//! ```

mod check;
mod env;
mod error;
mod explain;
mod last_net;
mod links;
mod near;
mod reload;
mod remote;
mod schema;
mod secret;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod units;
mod value;

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub use error::{ConfigErrors, ConfigProblem, Origin};
pub use explain::{Entry, KeyDoc};
pub(crate) use near::nearest;
pub use reload::{Outcome, ReloadPlan, ReloadStatus, Watcher};
pub use remote::{LocalOnly, Remote, RemoteText};
pub use schema::{Opaque, Schema};
pub use secret::Secret;
pub use source::Sources;
pub use units::{ByteSize, Duration};

use schema::{Kind, Node};
use source::{Layer, Watched};

/// The values a service has when nobody configures it.
#[derive(Clone, Default)]
pub struct Defaults {
    root: Value,
    profiles: Vec<(String, Value)>,
}

impl Defaults {
    /// The defaults of the root type, as it serializes itself. A secret's default stays with the type: it does not
    /// serialize.
    pub fn of<T: Serialize>(root: &T) -> Self {
        Self { root: serde_json::to_value(root).unwrap_or_default(), profiles: Vec::new() }
    }

    /// Other defaults in one profile, for the keys that are given: `json!({ "shutdown": { "drain_delay": "0s" } })`.
    /// The profile is built in from then on: it needs no file.
    #[must_use]
    pub fn in_profile(mut self, profile: &str, values: Value) -> Self {
        self.profiles.push((profile.to_owned(), values));
        self
    }

    /// The profiles that need no file: those with defaults of their own, and the one that holds when none is named.
    fn profile_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![source::DEFAULT_PROFILE];
        names.extend(self.profiles.iter().map(|(name, _)| name.as_str()));
        let mut known = std::collections::HashSet::new();
        names.retain(|name| known.insert(*name));
        names
    }

    fn layers(&self, profile: &str) -> Vec<Layer> {
        let profiles = self.profiles.iter().filter(|(name, _)| name == profile);
        let profiles = profiles.map(|(name, values)| Layer::of_json(Origin::ProfileDefault(name.clone()), values));
        std::iter::once(Layer::of_json(Origin::Default, &self.root)).chain(profiles).collect()
    }
}

impl fmt::Debug for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defaults").finish_non_exhaustive()
    }
}

impl Schema {
    /// Reads every source, checks the whole, and makes the value.
    ///
    /// Blocks on the files. Nothing is kept open.
    ///
    /// # Errors
    ///
    /// All mistakes at once, sorted by key.
    pub fn load<T: DeserializeOwned>(&self, defaults: &Defaults, sources: &Sources) -> Result<Loaded<T>, ConfigErrors> {
        self.load_with(defaults, sources, |_| Vec::new())
    }

    /// As [`load`](Self::load), with rules that the schema cannot say. They see the value even when the schema found
    /// mistakes elsewhere, with defaults in their place, so that all are told at once.
    ///
    /// # Errors
    ///
    /// All mistakes at once, sorted by key.
    pub fn load_with<T: DeserializeOwned>(
        &self,
        defaults: &Defaults,
        sources: &Sources,
        rules: impl Fn(&T) -> Vec<ConfigProblem>,
    ) -> Result<Loaded<T>, ConfigErrors> {
        let (mut read, mut problems, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        let mut layers = defaults.layers(&sources.profile);
        layers.extend(sources.layers(&self.root, &mut read, &mut problems, &mut notes));
        problems.extend(sources.unknown_profile(&defaults.profile_names()));
        let mut checked = check::check(&self.root, &layers, sources, "");
        checked.problems.append(&mut problems);
        read.append(&mut checked.read);
        let value = last_net::deserialize(&self.root, &mut checked, &defaults.root, "");
        // A list of which items were refused is not what was written.
        let told: Vec<_> = checked.problems.iter().map(|problem| problem.key.clone()).collect();
        let is_item = |key: &str, list: &str| {
            let item = key.strip_prefix(list).and_then(|rest| rest.strip_prefix('.'));
            item.is_some_and(|item| item.parse::<usize>().is_ok())
        };
        for mut problem in value.as_ref().map(rules).unwrap_or_default() {
            if told.iter().any(|key| is_item(key, &problem.key)) {
                continue;
            }
            problem.origin = problem.origin.or_else(|| checked.origins.get(&problem.key).cloned());
            checked.problems.push(problem);
        }
        match value {
            Some(value) if checked.problems.is_empty() => Ok(Loaded {
                value: Arc::new(value),
                inner: Arc::new(Inner {
                    schema: self.clone(),
                    defaults: defaults.clone(),
                    sources: sources.clone(),
                    tree: checked.tree,
                    origins: checked.origins,
                    layers,
                    read,
                    notes,
                }),
            }),
            _ => Err(ConfigErrors::new(checked.problems)),
        }
    }

    /// Reads one section alone, before the whole can be read: what a remote store needs to be found, for example. Mistakes in
    /// other sections are not looked at; `sources.remote` counts as far as it is there.
    ///
    /// # Errors
    ///
    /// All mistakes of the section.
    pub fn peek<T: DeserializeOwned>(
        &self,
        defaults: &Defaults,
        sources: &Sources,
        section: &str,
    ) -> Result<T, ConfigErrors> {
        let mut layers = defaults.layers(&sources.profile);
        layers.extend(sources.layers(&self.root, &mut Vec::new(), &mut Vec::new(), &mut Vec::new()));
        let checked = check::check(&self.root, &layers, sources, "");
        let mut problems: Vec<_> =
            checked.problems.into_iter().filter(|problem| source::is_below(&problem.key, section)).collect();
        let found = checked.tree.get(section).cloned().unwrap_or_else(|| Value::Object(Map::new()));
        match serde_json::from_value(found) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => {}
            // Without the text of serde, which shows values.
            Err(_) => problems.push(ConfigProblem::new(section, "a value in this table is refused by its type", None)),
        }
        Err(ConfigErrors::new(problems))
    }
}

/// A configuration that was found right: the value, and where each part of it came from. Cheap to clone.
pub struct Loaded<T> {
    value: Arc<T>,
    inner: Arc<Inner>,
}

struct Inner {
    schema: Schema,
    defaults: Defaults,
    sources: Sources,
    /// All values with their types, secrets in clear: never shown without the mask.
    tree: Value,
    origins: BTreeMap<String, Origin>,
    layers: Vec<Layer>,
    read: Vec<Watched>,
    notes: Vec<String>,
}

impl<T> Loaded<T> {
    /// The value.
    #[must_use]
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// The schema it was checked against.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// The configuration files that were read, lowest layer first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.inner.layers.iter().filter_map(|layer| match &layer.origin {
            Origin::File { path, .. } => Some(path.as_path()),
            _ => None,
        })
    }

    /// What is worth saying of the sources and is no mistake: one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.inner.notes
    }

    /// Where the value of a key came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        origin_near(&self.inner.origins, key)
    }

    /// All values as they are in effect, secrets and values of unknown type masked.
    #[must_use]
    pub fn effective(&self) -> Value {
        masked(&self.inner.schema.root, &self.inner.tree)
    }

    /// Reads one section with a type that the root does not know (see [`Opaque`]).
    ///
    /// # Errors
    ///
    /// All mistakes of the section at once.
    pub fn section<S: DeserializeOwned + schemars::JsonSchema>(&self, key: &str) -> Result<S, ConfigErrors> {
        let schema = Schema::of::<S>();
        let inner = &self.inner;
        let known = inner.schema.root.find(key).is_some_and(|node| !matches!(node.kind, Kind::Any | Kind::Nothing));
        let mut checked = if known {
            let tree = inner.tree.get(key).cloned().unwrap_or_else(|| Value::Object(Map::new()));
            check::Checked { tree, origins: inner.origins.clone(), ..check::Checked::default() }
        } else {
            let layers: Vec<_> = inner.layers.iter().map(|layer| layer.section(key)).collect();
            check::check(&schema.root, &layers, &inner.sources, key)
        };
        let value = last_net::deserialize(&schema.root, &mut checked, &Value::Null, key);
        value.filter(|_| checked.problems.is_empty()).ok_or_else(|| ConfigErrors::new(checked.problems))
    }
}

impl<T> Clone for Loaded<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loaded").field(&self.effective()).finish()
    }
}

/// The values with secrets, and everything whose type is not known, masked.
fn masked(node: &Node, value: &Value) -> Value {
    match (&node.kind, value) {
        (_, Value::Null) => Value::Null,
        (Kind::Any | Kind::Nothing, Value::Object(map)) if map.is_empty() => value.clone(),
        (Kind::Any | Kind::Nothing, Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), masked(node, value))).collect()
        }
        (Kind::Any | Kind::Nothing | Kind::Secret, _) => secret::MASK.into(),
        (Kind::Variants(_), Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), mask_variant(node, key, value))).collect()
        }
        (Kind::Variants(variants), _) if variants.iter().any(Node::holds_secret) => secret::MASK.into(),
        (Kind::List(item), Value::Array(items)) => items.iter().map(|value| masked(item, value)).collect(),
        (Kind::Table(table), Value::Object(map)) => {
            let entries = map.iter().filter_map(|(key, value)| Some((key.clone(), masked(table.get(key)?, value))));
            entries.collect()
        }
        _ => value.clone(),
    }
}

/// A key of one of several shapes: masked when any of them has a secret there.
fn mask_variant(node: &Node, key: &str, value: &Value) -> Value {
    let Kind::Variants(variants) = &node.kind else { return masked(node, value) };
    let mut children = variants.iter().filter_map(|variant| variant.child(key)).peekable();
    if children.peek().is_none() || children.any(Node::holds_secret) { secret::MASK.into() } else { value.clone() }
}

/// The origin of a key, or of the nearest table or list around it.
fn origin_near<'a>(origins: &'a BTreeMap<String, Origin>, key: &str) -> Option<&'a Origin> {
    let mut at = key;
    loop {
        match (origins.get(at), at.rfind('.')) {
            (Some(origin), _) => return Some(origin),
            (None, Some(dot)) => at = &at[..dot],
            (None, None) => return None,
        }
    }
}
