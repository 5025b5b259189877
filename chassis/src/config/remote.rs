//! Values of a store outside of the process, such as Consul's key-value store: one text for each key, or whole documents.

use super::{
    env,
    error::{ConfigProblem, Origin},
    schema::Node,
    source::{self, Layer, is_below},
};

/// What one place of such a store says; between the files and the environment.
///
/// A single key wins over the documents of its own place.
#[derive(Clone, Default)]
pub struct Remote {
    /// The place, as messages call it: `consul kv config/orders/`.
    pub name: String,
    /// TOML documents, later ones win.
    pub documents: Vec<RemoteText>,
    /// One plain text for each key, whose type the schema decides, as it does for variables.
    pub keys: Vec<RemoteText>,
    /// What could not be read at all.
    pub problems: Vec<ConfigProblem>,
    /// Whether the place is that of the profile alone.
    pub profile: bool,
}

/// One text of a store.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RemoteText {
    /// The key of the configuration, `http.request_timeout`; empty for a document.
    pub key: String,
    /// Where it stands, as messages call it: `consul kv config/orders/http/request_timeout`.
    pub name: String,
    /// The text itself.
    pub text: String,
}

/// A key that only the process's own sources may set, and why.
#[derive(Debug, Clone)]
pub struct LocalOnly {
    /// The key, or a table.
    pub key: String,
    /// Why, and what to do instead.
    pub reason: String,
}

impl Remote {
    /// Returns whether it says something for the profile alone.
    pub(super) fn is_of_profile(&self) -> bool {
        self.profile && !(self.documents.is_empty() && self.keys.is_empty())
    }

    /// The documents, each a layer, and above them the single keys.
    pub(super) fn layers(
        &self,
        root: &Node,
        local_only: &[LocalOnly],
        problems: &mut Vec<ConfigProblem>,
    ) -> Vec<Layer> {
        problems.extend(self.problems.iter().cloned());
        let mut layers = Vec::new();
        for document in &self.documents {
            let name = &document.name;
            let place = |line: Option<usize>| match line {
                Some(line) => Origin::Remote(format!("{name}:{line}")),
                None => Origin::Remote(name.clone()),
            };
            match source::parse(&document.text, place) {
                Ok(layer) => layers.push(layer),
                Err(message) => problems.push(ConfigProblem::new(name.clone(), message, None)),
            }
        }
        let mut keys = Layer::new(Origin::RemoteKey(self.name.clone()));
        for RemoteText { key, name, text } in &self.keys {
            env::set_text(&mut keys, root, key, text, Origin::RemoteKey(name.clone()), problems);
        }
        layers.push(keys);
        for layer in &mut layers {
            for LocalOnly { key, reason } in local_only {
                forbid(layer, key, reason, problems);
            }
        }
        layers
    }
}

/// Takes a key out of a layer that must not set it, and tells of each place that does.
fn forbid(layer: &mut Layer, key: &str, reason: &str, problems: &mut Vec<ConfigProblem>) {
    let places: Vec<&String> = layer.places.keys().filter(|path| is_below(path, key)).collect();
    // A table's own place is told by its keys, unless it has none.
    let is_leaf = |path: &&&String| !places.iter().any(|other| other != *path && is_below(other, path));
    for path in places.iter().filter(is_leaf) {
        let message = format!("cannot be set here: {reason}");
        problems.push(ConfigProblem::new((*path).clone(), message, Some(layer.origin_at(path))));
    }
    layer.remove(key);
}

impl std::fmt::Debug for Remote {
    /// Without the values, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.documents.iter().chain(&self.keys).map(|text| &text.name).collect();
        f.debug_struct("Remote").field("name", &self.name).field("keys", &keys).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RemoteText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteText").field("name", &self.name).finish_non_exhaustive()
    }
}
