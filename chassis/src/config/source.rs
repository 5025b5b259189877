//! Where values come from: each source becomes one [`Layer`], and figment puts the layers on top of each other.

use std::{
    collections::BTreeMap,
    fmt, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Tag, Value},
};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{
    env,
    error::{ConfigProblem, Origin},
    near,
    remote::{LocalOnly, Remote},
    schema::Node,
};

/// The folder that is searched for `default.toml` and `<profile>.toml`.
const DEFAULT_DIR: &str = "config";
/// The profile when `CHASSIS_PROFILE` is not set: a developer's machine is where nobody sets it.
pub(super) const DEFAULT_PROFILE: &str = "dev";
/// The variable that picks the profile.
pub(crate) const PROFILE_VARIABLE: &str = "CHASSIS_PROFILE";

/// Where a configuration is read from, lowest layer first: `default.toml`, `<profile>.toml`, remote, environment, `--set`.
#[derive(Clone)]
pub struct Sources {
    /// The folder with `default.toml` and `<profile>.toml`; both may be missing. Default `config`.
    pub dir: PathBuf,
    /// Files named by the user, later ones win. They have to exist, and replace the search in `dir`.
    pub files: Vec<PathBuf>,
    /// The profile, default `dev`.
    pub profile: String,
    /// What stores outside of the process say, between the files and the environment; later ones win.
    pub remote: Vec<Remote>,
    /// What such stores may not set.
    pub local_only: Vec<LocalOnly>,
    /// The environment of the process.
    pub env: Vec<(String, String)>,
    /// Standard variables and the key each sets, just below the `CHASSIS_` variables: `("RUST_LOG", "log.filter")`.
    /// An empty one counts as unset, as the OpenTelemetry specification has it.
    pub standard: Vec<(String, String)>,
    /// Variables with our prefix that are no keys, such as `CHASSIS_CONFIG`. `CHASSIS_PROFILE` always is one.
    pub not_keys: Vec<String>,
    /// `key=value` pairs of the command line.
    pub set: Vec<String>,
    #[doc(hidden)]
    pub pinned: Pinned,
    /// The profile is not looked for: it was accepted at the start, or the store that may know it cannot be asked.
    #[doc(hidden)]
    pub profile_is_known: bool,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            dir: DEFAULT_DIR.into(),
            files: Vec::new(),
            profile: DEFAULT_PROFILE.into(),
            remote: Vec::new(),
            local_only: Vec::new(),
            env: Vec::new(),
            standard: Vec::new(),
            not_keys: Vec::new(),
            set: Vec::new(),
            pinned: Pinned::default(),
            profile_is_known: false,
        }
    }
}

/// What the files held when they were read, for those who look at them more than once: a pipe gives its contents only once.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Pinned(Arc<BTreeMap<PathBuf, Contents>>);

type Contents = (Result<Vec<u8>, (io::ErrorKind, String)>, Watched);

impl fmt::Debug for Pinned {
    /// Without the contents, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Pinned {
    /// What the file held, and what was noted of it.
    fn read(&self, path: &Path) -> (io::Result<Vec<u8>>, Watched) {
        match self.0.get(path) {
            Some((contents, watched)) => {
                let contents = contents.clone().map_err(|(kind, text)| io::Error::new(kind, text));
                (contents, watched.clone())
            }
            None => Watched::read(path),
        }
    }
}

impl Sources {
    /// The default sources with the environment of this process, and the profile that `CHASSIS_PROFILE` names.
    ///
    /// Variables that are not Unicode are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let env: Vec<(String, String)> = std::env::vars_os().filter_map(text).collect();
        let profile = env.iter().find(|(name, value)| name == PROFILE_VARIABLE && !value.is_empty());
        let profile = profile.map_or_else(|| DEFAULT_PROFILE.into(), |(_, value)| value.clone());
        Self { profile, env, ..Self::default() }
    }

    /// The value of a variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The same sources, with the files read now and not again.
    pub(crate) fn pinned(mut self) -> Self {
        let read = |(path, _): (PathBuf, bool)| {
            let (contents, watched) = Watched::read(&path);
            (path, (contents.map_err(|error| (error.kind(), error.to_string())), watched))
        };
        self.pinned = Pinned(Arc::new(self.wanted().into_iter().map(read).collect()));
        self
    }

    /// The same sources, with the files read each time. What was accepted once need not be looked for again.
    pub(crate) fn unpinned(mut self) -> Self {
        self.pinned = Pinned::default();
        self.profile_is_known = true;
        self
    }

    /// The files to read, and whether each has to be there.
    fn wanted(&self) -> Vec<(PathBuf, bool)> {
        if self.files.is_empty() {
            let name = |stem: &str| (self.dir.join(format!("{stem}.toml")), false);
            vec![name("default"), name(&self.profile)]
        } else {
            self.files.iter().map(|file| (file.clone(), true)).collect()
        }
    }

    /// Returns whether the profile can be a name at all.
    fn profile_is_name(&self) -> bool {
        !self.profile.is_empty() && self.profile.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    }

    /// A mistake in the name of the profile.
    fn profile_problem(&self, message: String) -> ConfigProblem {
        let variable = self.variable(PROFILE_VARIABLE).is_some_and(|value| value == self.profile);
        ConfigProblem::new(if variable { PROFILE_VARIABLE } else { "--profile" }, message, None)
    }

    /// Refuses a profile that is neither built in nor has a place of its own: a misspelt one would silently be served with
    /// the defaults of all others.
    pub(crate) fn unknown_profile(&self, built_in: &[&str]) -> Option<ConfigProblem> {
        let profile = self.profile.as_str();
        let file = self.dir.join(format!("{profile}.toml"));
        let named = |file: &PathBuf| file.file_stem().is_some_and(|stem| stem == profile);
        if self.profile_is_known
            || !self.profile_is_name()
            || built_in.contains(&profile)
            || file.is_file()
            || self.files.iter().any(named)
            || self.remote.iter().any(Remote::is_of_profile)
        {
            return None;
        }
        let near = near::nearest(profile, built_in.iter().copied());
        let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        let (file, built_in) = (file.display(), built_in.join(", "));
        Some(self.profile_problem(format!(
            "found {profile:?}, expected {built_in}, or the name of a file: there is no {file}{near}"
        )))
    }

    /// All layers above the built-in defaults, lowest first.
    pub(crate) fn layers(
        &self,
        root: &Node,
        read: &mut Vec<Watched>,
        problems: &mut Vec<ConfigProblem>,
        notes: &mut Vec<String>,
    ) -> Vec<Layer> {
        let mut layers = Vec::new();
        if !self.profile_is_name() {
            let message = format!("found {:?}, expected a name of letters, digits, - and _", self.profile);
            problems.push(self.profile_problem(message));
        } else {
            for (path, required) in self.wanted() {
                layers.extend(file(&path, required, &self.pinned, read).unwrap_or_else(|message| {
                    problems.push(ConfigProblem::new(path.display().to_string(), message, None));
                    None
                }));
            }
        }
        for remote in &self.remote {
            layers.extend(remote.layers(root, &self.local_only, problems));
        }
        layers.push(env::standard(self, root, problems));
        layers.push(env::prefixed(self, root, problems, notes));
        layers.push(env::command_line(&self.set, root, problems));
        layers
    }
}

impl fmt::Debug for Sources {
    /// Without the environment, remote values and `--set`, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, files, profile, .. } = self;
        f.debug_struct("Sources")
            .field("dir", dir)
            .field("files", files)
            .field("profile", profile)
            .finish_non_exhaustive()
    }
}

/// The values of one source, and where in it each stands.
#[derive(Clone)]
pub(crate) struct Layer {
    /// The origin of values that `places` does not know.
    pub(crate) origin: Origin,
    pub(crate) values: Dict,
    /// The origins of single keys, by dotted path.
    pub(crate) places: BTreeMap<String, Origin>,
}

impl Layer {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, values: Dict::new(), places: BTreeMap::new() }
    }

    pub(crate) fn of_json(origin: Origin, value: &serde_json::Value) -> Self {
        let values = Value::serialize(value).ok().and_then(Value::into_dict).unwrap_or_default();
        Self { values, ..Self::new(origin) }
    }

    /// Sets the value at a path, making tables on the way.
    pub(crate) fn set(&mut self, path: &[String], value: Value, origin: Origin) {
        let Some((last, tables)) = path.split_last() else { return };
        let mut dict = &mut self.values;
        for name in tables {
            let place = dict.entry(name.clone()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
            if !matches!(place, Value::Dict(..)) {
                *place = Value::Dict(Tag::Default, Dict::new());
            }
            let Value::Dict(_, next) = place else { return };
            dict = next;
        }
        dict.insert(last.clone(), value);
        self.places.insert(path.join("."), origin);
    }

    /// The origin of the value at a path: its own, or that of the nearest table around it.
    pub(crate) fn origin_at(&self, path: &str) -> Origin {
        let mut at = path;
        loop {
            if let Some(origin) = self.places.get(at) {
                return origin.clone();
            }
            match at.rfind('.') {
                Some(dot) => at = &at[..dot],
                None => return self.origin.clone(),
            }
        }
    }

    /// Takes out a key, or a table with all below it.
    pub(crate) fn remove(&mut self, path: &str) {
        let mut names: Vec<&str> = path.split('.').collect();
        let Some(last) = names.pop() else { return };
        let mut dict = &mut self.values;
        for name in names {
            let Some(Value::Dict(_, next)) = dict.get_mut(name) else { return };
            dict = next;
        }
        dict.remove(last);
        self.places.retain(|key, _| !is_below(key, path));
    }

    /// The part of this layer below one key, as a layer of its own.
    pub(crate) fn section(&self, key: &str) -> Self {
        let values = self.values.get(key).and_then(Value::as_dict).cloned().unwrap_or_default();
        let inside = |path: &String| path.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned);
        let places = self.places.iter().filter_map(|(path, origin)| Some((inside(path)?, origin.clone())));
        Self { origin: self.origin_at(key), values, places: places.collect() }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// A file the configuration came from, and what it held then; a missing one has no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) path: PathBuf,
    fingerprint: Option<u64>,
}

impl Watched {
    /// Reads a file and remembers what was read, so that a later change is seen by its contents. Kubernetes swaps a
    /// symbolic link, and network file systems have no change events: neither can hide new contents.
    pub(crate) fn read(path: &Path) -> (io::Result<Vec<u8>>, Self) {
        let contents = fs::read(path);
        let hash = |bytes: &Vec<u8>| {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        };
        let fingerprint = contents.as_ref().ok().map(hash);
        (contents, Self { path: path.to_owned(), fingerprint })
    }
}

/// One file as a layer; none when it is missing and may be.
fn file(path: &Path, required: bool, pinned: &Pinned, read: &mut Vec<Watched>) -> Result<Option<Layer>, String> {
    let (contents, watched) = pinned.read(path);
    read.push(watched);
    let contents = match contents {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("there is no such file; correct the path after --config, or create it".into());
        }
        Err(error) => {
            return Err(format!("cannot be read: {error}; make it readable, or name another file with --config"));
        }
    };
    let text = String::from_utf8(contents).map_err(|_| "is not UTF-8 text; save it as UTF-8".to_owned())?;
    parse(&text, |line| Origin::File { path: path.to_owned(), line }).map(Some)
}

/// TOML text as a layer, each key with its line; `place` makes the origin of a line, or of the whole.
pub(super) fn parse(text: &str, place: impl Fn(Option<usize>) -> Origin) -> Result<Layer, String> {
    let line = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let node: Toml = toml::from_str(text).map_err(|error| {
        // Only the message: the error's full text quotes the line, and that may hold a secret.
        let at = error.span().map(|span| {
            let start = text[..span.start.min(text.len())].rfind('\n').map_or(0, |at| at + 1);
            let column = 1 + text[start..span.start.min(text.len())].chars().count();
            format!("line {}, column {column}: ", line(span.start))
        });
        format!("{}not TOML: {}", at.unwrap_or_default(), error.message().replace('\n', ", "))
    })?;
    let mut layer = Layer::new(place(None));
    let mut places = BTreeMap::new();
    if let Value::Dict(_, values) = node.value("", &mut |key, at| {
        places.insert(key, place(Some(line(at))));
    }) {
        layer.values = values;
    }
    layer.places = places;
    Ok(layer)
}

/// A value written in TOML, such as an inline table; none when it is not TOML.
pub(crate) fn toml_value(text: &str) -> Option<Value> {
    let Value::Dict(_, mut values) = toml::from_str::<Toml>(&format!("value = {text}")).ok()?.value("", &mut |_, _| {})
    else {
        return None;
    };
    if values.len() == 1 { values.remove("value") } else { None }
}

/// A TOML document whose keys know where they stand.
enum Toml {
    Leaf(Value),
    List(Vec<Toml>),
    Table(Vec<(String, usize, Toml)>),
}

impl Toml {
    /// The value; tells `place` of each key and its offset in the text.
    fn value(self, at: &str, place: &mut impl FnMut(String, usize)) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(items) => {
                let items = items.into_iter().enumerate().map(|(n, item)| item.value(&join(at, &n.to_string()), place));
                Value::Array(Tag::Default, items.collect())
            }
            Self::Table(entries) => {
                let entries = entries.into_iter().map(|(key, offset, value)| {
                    let path = join(at, &key);
                    place(path.clone(), offset);
                    (key, value.value(&path, place))
                });
                Value::Dict(Tag::Default, entries.collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Toml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Toml;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a TOML value")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Toml, E> {
                Ok(Toml::Leaf(value.into()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Toml, E> {
                Ok(Toml::Leaf(value.into()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Toml, E> {
                Ok(Toml::Leaf(value.into()))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Toml, E> {
                Ok(Toml::Leaf(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Toml, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Toml::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Toml, A::Error> {
                let mut entries = Vec::new();
                loop {
                    match map.next_key::<toml::Spanned<String>>() {
                        Ok(None) => return Ok(Toml::Table(entries)),
                        Ok(Some(key)) => {
                            let offset = key.span().start;
                            entries.push((key.into_inner(), offset, map.next_value()?));
                        }
                        // A date is handed over as a table whose only key has no place in the text.
                        Err(_) => return Ok(Toml::Leaf(map.next_value::<String>()?.into())),
                    }
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A key below a path.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether the key is the path, or stands below it.
pub(crate) fn is_below(key: &str, path: &str) -> bool {
    path.is_empty() || key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Layer, String> {
        super::parse(text, |line| Origin::File { path: "a.toml".into(), line })
    }

    fn line_of(text: &str, key: &str) -> String {
        parse(text).unwrap().origin_at(key).to_string()
    }

    #[test]
    fn every_key_knows_its_line() {
        let text = "# comment\na = 1\n\n[b.c]\nd = \"x\"\ne.f = [1,\n 2]\n[[g]]\nh = 1\n[[g]]\nh = 2\n";
        for (key, line) in
            [("a", 2), ("b.c", 4), ("b.c.d", 5), ("b.c.e.f", 6), ("b.c.e.f.1", 6), ("g.0.h", 9), ("g.1.h", 11)]
        {
            assert_eq!(line_of(text, key), format!("a.toml:{line}"), "{key}");
        }
        assert_eq!(line_of(text, "nowhere"), "a.toml");
    }

    #[test]
    fn a_date_is_text() {
        let layer = parse("day = 2026-01-02\n").unwrap();
        assert_eq!(layer.values["day"].as_str(), Some("2026-01-02"));
    }

    #[test]
    fn a_syntax_error_has_line_and_column_and_quotes_nothing() {
        let error = parse("a = 1\npassword = hunter2\n").err().unwrap();
        assert!(error.starts_with("line 2, column 12: not TOML: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
