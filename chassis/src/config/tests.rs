#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Root {
    /// The inbound side.
    http: Http,
    shutdown: Shutdown,
    log: Log,
    /// Calls out, by name.
    clients: BTreeMap<String, Client>,
    /// Encryption; plain text when absent.
    tls: Option<Tls>,
    labels: BTreeMap<String, String>,
    app: Opaque,
}

impl Default for Root {
    fn default() -> Self {
        Self {
            http: Http::default(),
            shutdown: Shutdown { drain_delay: Duration::from_secs(5), grace: Duration::from_secs(25) },
            log: Log::default(),
            clients: BTreeMap::new(),
            tls: None,
            labels: BTreeMap::new(),
            app: Opaque,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Http {
    /// Where to listen.
    address: SocketAddr,
    admin: SocketAddr,
    #[schemars(range(min = 1, max = 64), extend("x-unit" = "threads"))]
    workers: u16,
    /// The largest body.
    ///
    /// Larger ones are answered 413.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB", "x-reloadable" = true))]
    max_body: ByteSize,
    hosts: Vec<String>,
    ports: Vec<u16>,
    compress: bool,
    limit: Option<u32>,
    server_name: Option<String>,
    banner: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([0, 0, 0, 0], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8081)),
            workers: 4,
            max_body: ByteSize::mib(1),
            hosts: Vec::new(),
            ports: vec![1, 2],
            compress: true,
            limit: None,
            server_name: None,
            banner: "hello".into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Shutdown {
    /// How long to keep serving.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1m"))]
    drain_delay: Duration,
    grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Root::default().shutdown
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Log {
    #[schemars(extend("x-reloadable" = true))]
    filter: String,
    format: Format,
    #[schemars(range(min = 0.0, max = 1.0), extend("x-reloadable" = true))]
    sample: f64,
    when: When,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: Format::Auto, sample: 1.0, when: When::Always }
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// JSON unless a terminal reads.
    Auto,
    Json,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum When {
    Always,
    Never,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Client {
    /// Whom to call.
    url: String,
    #[serde(default = "second")]
    timeout: Duration,
    #[serde(default)]
    token: Option<Secret<String>>,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert: PathBuf,
    #[schemars(extend("x-reloadable" = true))]
    key: Secret<String>,
    #[serde(default)]
    others: Vec<Secret<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct App {
    store: String,
    #[serde(default = "seven")]
    #[schemars(range(min = 1, max = 9))]
    size: u8,
    #[serde(default)]
    password: Secret<String>,
    #[serde(default)]
    backend: Backend,
}

fn seven() -> u8 {
    7
}

/// Where orders are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Backend {
    #[default]
    Memory,
    Disk {
        path: String,
        #[serde(default)]
        sync: bool,
    },
}

/// A folder for one test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chassis-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn sources(&self) -> Sources {
        Sources { dir: self.0.clone(), ..Sources::default() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn defaults() -> Defaults {
    let dev = json!({ "shutdown": { "drain_delay": "0s" } });
    Defaults::of(&Root::default()).in_profile("dev", dev).in_profile("prod", json!({}))
}

fn load(sources: &Sources) -> Result<Loaded<Root>, ConfigErrors> {
    Schema::of::<Root>().load(&defaults(), sources)
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// No files, these variables.
fn with_env(env: &[(&str, &str)]) -> Result<Loaded<Root>, ConfigErrors> {
    load(&Sources { dir: "no-such-folder".into(), env: pairs(env), ..Sources::default() })
}

/// One file, which is wrong: its problems without the folder's name.
fn problems(name: &str, toml: &str) -> Vec<String> {
    let folder = Folder::new(name);
    folder.write("default.toml", toml);
    problems_of(&folder, &load(&folder.sources()).unwrap_err())
}

fn problems_of(folder: &Folder, errors: &ConfigErrors) -> Vec<String> {
    let prefix = format!("{}/", folder.0.display());
    errors.0.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

#[test]
fn defaults_alone_are_a_configuration() {
    let loaded = load(&Sources { dir: "no-such-folder".into(), profile: "prod".into(), ..Sources::default() }).unwrap();
    assert_eq!(**loaded.value(), Root::default());
    assert_eq!(loaded.origin("http.address"), Some(&Origin::Default));
}

#[test]
fn later_layers_win_key_by_key_and_keep_their_origin() {
    let folder = Folder::new("layers");
    let default = folder.write(
        "default.toml",
        "[http]\nworkers = 2\nbanner = \"file\"\nlimit = 1\nhosts = [\"a\", \"b\"]\nserver_name = \"default\"\n",
    );
    let dev = folder.write("dev.toml", "[http]\nserver_name = \"dev\"\nhosts = [\"c\"]\nlimit = 2\n");
    let sources = Sources {
        remote: vec![store("orders", &[("http.limit", "3"), ("http.ports", "7")], "")],
        env: pairs(&[
            ("CHASSIS_HTTP__LIMIT", "4"),
            ("CHASSIS_LOG__FORMAT", "text"),
            ("RUST_LOG", "debug"),
            ("CHASSIS_PROFILE", "dev"),
        ]),
        standard: pairs(&[("RUST_LOG", "log.filter"), ("OTHER", "log.format")]),
        set: vec!["http.limit=5".into()],
        ..folder.sources()
    };
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.files().collect::<Vec<_>>(), [&default, &dev]);
    let value = loaded.value();
    assert_eq!((value.http.workers, value.http.limit, value.http.banner.as_str()), (2, Some(5), "file"));
    assert_eq!(
        (value.http.hosts.as_slice(), value.http.ports.as_slice()),
        (["c".to_owned()].as_slice(), [7].as_slice())
    );
    assert_eq!((value.log.format, value.log.filter.as_str()), (Format::Text, "debug"));
    assert_eq!(value.shutdown.drain_delay, Duration::from_secs(0));
    let (default, dev) = (default.display(), dev.display());
    for (key, origin) in [
        ("http.workers", format!("{default}:2")),
        ("http.server_name", format!("{dev}:2")),
        ("http.hosts", format!("{dev}:3")),
        ("http.limit", "command line --set http.limit".into()),
        ("http.ports", "store orders/http.ports".into()),
        ("http.address", "built-in default".into()),
        ("shutdown.drain_delay", "built-in default of profile dev".into()),
        ("log.format", "environment CHASSIS_LOG__FORMAT".into()),
        ("log.filter", "environment RUST_LOG".into()),
    ] {
        assert_eq!(loaded.origin(key).unwrap().to_string(), origin, "{key}");
    }
}

/// A place of a store with single keys and, when there is text in it, a document.
fn store(name: &str, keys: &[(&str, &str)], document: &str) -> Remote {
    let text = |key: &str, at: &str, text: &str| RemoteText {
        key: key.into(),
        name: format!("store {name}/{at}"),
        text: text.into(),
    };
    Remote {
        name: format!("store {name}/"),
        keys: keys.iter().map(|(key, value)| text(key, key, value)).collect(),
        documents: Some(document)
            .filter(|text| !text.is_empty())
            .map(|it| text("", "doc.toml", it))
            .into_iter()
            .collect(),
        problems: Vec::new(),
        profile: false,
    }
}

#[test]
fn a_store_says_texts_and_documents_and_each_value_names_its_place() {
    let remote = vec![
        store("all", &[("http.workers", "3"), ("http.banner", "00123")], "[http]\nworkers = 2\nlimit = 9\n"),
        store(
            "orders",
            &[("http.hosts", "a, b"), ("http.compress", "true"), ("http.limit", ""), ("clients.stock.url", "http://s")],
            "[log]\nfilter = \"debug\"\n",
        ),
    ];
    let env = pairs(&[("CHASSIS_HTTP__COMPRESS", "false")]);
    let loaded = load(&Sources { dir: "no-such-folder".into(), remote, env, ..Sources::default() }).unwrap();
    let http = &loaded.value().http;
    assert_eq!(
        (http.workers, http.banner.as_str(), http.limit),
        (3, "00123", None),
        "a single key wins; text stays text"
    );
    assert_eq!((http.hosts.as_slice(), http.compress), (["a".to_owned(), "b".to_owned()].as_slice(), false));
    for (key, origin) in [
        ("http.workers", "store all/http.workers"),
        ("http.hosts", "store orders/http.hosts"),
        ("http.compress", "environment CHASSIS_HTTP__COMPRESS"),
        ("log.filter", "store orders/doc.toml:2"),
        ("clients.stock.url", "store orders/clients.stock.url"),
    ] {
        assert_eq!(loaded.origin(key).unwrap().to_string(), origin, "{key}");
    }
}

#[test]
fn every_mistake_in_a_store_is_told_with_its_place() {
    let unreadable =
        ConfigProblem::new("log.filter", "is not UTF-8 text", Some(Origin::RemoteKey("store b/log.filter".into())));
    let remote = vec![
        store("a", &[("http.limit", "many"), ("htp.limit", "1"), ("http", "x"), ("log", "x")], "[http]\nlimits = 1\n"),
        Remote { problems: vec![unreadable], ..store("b", &[("tls.key", "hunter2"), ("tls.cert", "1")], "[log\n") },
    ];
    let local_only = vec![LocalOnly { key: "tls".into(), reason: "set it in a file".into() }];
    let errors = load(&Sources { dir: "no-such-folder".into(), remote, local_only, ..Sources::default() }).unwrap_err();
    let told = errors.to_string();
    for line in [
        "http.limit: found \"many\", expected ",
        "(store a/http.limit)",
        "htp.limit: unknown; did you mean http.limit? (store a/htp.limit)",
        "http: is a table; set its keys, such as http.address (store a/http)",
        "http.limits: unknown key; did you mean http.limit? (store a/doc.toml:2)",
        "store b/doc.toml: line 1, column 5: not TOML",
        "log.filter: is not UTF-8 text (store b/log.filter)",
        "tls.key: cannot be set here: set it in a file (store b/tls.key)",
        "tls.cert: cannot be set here: set it in a file (store b/tls.cert)",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_section_is_read_alone_whatever_is_wrong_elsewhere() {
    let env = pairs(&[("CHASSIS_HTTP__LIMIT", "many"), ("CHASSIS_LOG__FILTER", "debug")]);
    let sources = Sources { dir: "no-such-folder".into(), env, ..Sources::default() };
    let log: Log = Schema::of::<Root>().peek(&defaults(), &sources, "log").unwrap();
    assert_eq!(log.filter, "debug");
    let errors = Schema::of::<Root>().peek::<Http>(&defaults(), &sources, "http").unwrap_err();
    assert_eq!(errors.0.len(), 1);
    assert!(errors.to_string().contains("http.limit: found \"many\""), "{errors}");
}

#[test]
fn own_variables_win_over_standard_ones_and_empty_standard_ones_are_unset() {
    let load_with = |env: &[(&str, &str)]| {
        let standard = pairs(&[("RUST_LOG", "log.filter")]);
        load(&Sources { dir: "no-such-folder".into(), env: pairs(env), standard, ..Sources::default() })
            .unwrap()
            .value()
            .log
            .filter
            .clone()
    };
    assert_eq!(load_with(&[("RUST_LOG", "debug"), ("CHASSIS_LOG__FILTER", "warn")]), "warn");
    assert_eq!(load_with(&[("RUST_LOG", "")]), "info");
}

#[test]
fn variables_get_their_type_from_the_schema() {
    for text in ["8080", "true", "00123", " 1.50 ", "[x]"] {
        let loaded = with_env(&[("CHASSIS_HTTP__BANNER", text), ("CHASSIS_HTTP__SERVER_NAME", text)]).unwrap();
        assert_eq!(loaded.value().http.banner, text);
        assert_eq!(loaded.value().http.server_name.as_deref(), Some(text));
    }
    let loaded = with_env(&[
        ("CHASSIS_HTTP__WORKERS", "7"),
        ("CHASSIS_HTTP__LIMIT", "9"),
        ("CHASSIS_HTTP__COMPRESS", "false"),
        ("CHASSIS_LOG__SAMPLE", "0.5"),
        ("CHASSIS_HTTP__MAX_BODY", "64KiB"),
        ("CHASSIS_SHUTDOWN__DRAIN_DELAY", "90ms"),
        ("CHASSIS_LABELS__ZONE", "7"),
        ("CHASSIS_CLIENTS", "{ stock = { url = \"x\", timeout = \"3s\" } }"),
        ("CHASSIS_CLIENTS__STOCK__TIMEOUT", "4s"),
    ])
    .unwrap();
    let value = loaded.value();
    assert_eq!((value.http.workers, value.http.limit, value.http.compress, value.log.sample), (7, Some(9), false, 0.5));
    assert_eq!((value.http.max_body, value.shutdown.drain_delay), (ByteSize::kib(64), Duration::from_millis(90)));
    assert_eq!(value.labels["zone"], "7");
    assert_eq!((value.clients["stock"].url.as_str(), value.clients["stock"].timeout), ("x", Duration::from_secs(4)));
}

#[test]
fn lists_in_variables_are_read_with_and_without_brackets() {
    for (text, expected) in [
        ("a,b", vec!["a", "b"]),
        ("[a, b]", vec!["a", "b"]),
        ("[\"a,b\", 'c']", vec!["a,b", "c"]),
        ("00123, true", vec!["00123", "true"]),
        ("", vec![]),
        ("[]", vec![]),
        ("it's,b", vec!["it's", "b"]),
    ] {
        assert_eq!(with_env(&[("CHASSIS_HTTP__HOSTS", text)]).unwrap().value().http.hosts, expected, "{text}");
    }
    assert_eq!(with_env(&[("CHASSIS_HTTP__PORTS", "[80,443]")]).unwrap().value().http.ports, [80, 443]);
    let error = with_env(&[("CHASSIS_HTTP__PORTS", "80,x")]).unwrap_err();
    assert_eq!(
        error.0[0].to_string(),
        "http.ports.1: found \"x\", expected a whole number, 0–65535 (environment CHASSIS_HTTP__PORTS)"
    );
}

#[test]
fn an_empty_variable_unsets_an_optional_key() {
    let folder = Folder::new("unset");
    folder.write("default.toml", "http.limit = 4\n");
    let env = pairs(&[("CHASSIS_HTTP__LIMIT", "")]);
    assert_eq!(load(&Sources { env, ..folder.sources() }).unwrap().value().http.limit, None);
}

#[test]
fn misspelt_variables_name_the_nearest_full_variable() {
    let env = [
        ("CHASSIS_HTTP__ADRESS", "x"),
        ("CHASSIS_HTTP_WORKERS", "1"),
        ("CHASSIS_SHUTDOWN__DRAIN__DELAY", "1s"),
        ("CHASSIS_HTTP__HOSTS__0", "a"),
        ("CHASSIS_PROFIL", "dev"),
        ("CHASSIS_CLIENTS__STOCK__TIMEOT", "1s"),
        ("CHASSIS_QUITE_ELSEWHERE", "1"),
        ("CHASSIS_HTTP", "1"),
        ("CHASSIS_CONFIG", "x"),
        ("UNRELATED", "x"),
    ];
    let sources = Sources {
        env: pairs(&env),
        not_keys: vec!["CHASSIS_CONFIG".into()],
        dir: "no-such-folder".into(),
        ..Sources::default()
    };
    let errors = load(&sources).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "8 problems in the configuration:
  CHASSIS_CLIENTS__STOCK__TIMEOT: unknown; did you mean CHASSIS_CLIENTS__STOCK__TIMEOUT?
  CHASSIS_HTTP: is a table; set its keys, such as CHASSIS_HTTP__ADDRESS (environment CHASSIS_HTTP)
  CHASSIS_HTTP_WORKERS: unknown; did you mean CHASSIS_HTTP__WORKERS?
  CHASSIS_HTTP__ADRESS: unknown; did you mean CHASSIS_HTTP__ADDRESS?
  CHASSIS_HTTP__HOSTS__0: unknown; did you mean CHASSIS_HTTP__HOSTS?
  CHASSIS_PROFIL: unknown; did you mean CHASSIS_PROFILE?
  CHASSIS_QUITE_ELSEWHERE: unknown; unset it, or see the variables with `config print --default`
  CHASSIS_SHUTDOWN__DRAIN__DELAY: unknown; did you mean CHASSIS_SHUTDOWN__DRAIN_DELAY?"
    );
}

#[test]
fn all_mistakes_are_reported_at_once_with_key_found_expected_and_origin() {
    let found = problems(
        "all",
        "wrokers = 3
address = \"x\"
[http]
adress = \"x\"
workers = 65
limit = -1
max_body = \"2GiB\"
hosts = [\"a\", 3]
compress = \"yes\"
banner = 5
http_workers = 5
[log]
format = \"jsn\"
sample = 1.5
when = \"sometimes\"
[shutdown]
drain_delay = \"61s\"
grace = 25
[clients.stock]
timeout = \"1 second\"
[tls]
key = \"k\"
certt = \"c\"
",
    );
    let expected = [
        "address: unknown key; did you mean http.address? (default.toml:2)",
        "clients.stock.timeout: found \"1 second\", expected a duration such as \"250ms\", \"5s\" or \"1m30s\" (default.toml:20)",
        "clients.stock.url: missing, expected text; set it in default.toml, or CHASSIS_CLIENTS__STOCK__URL",
        "http.adress: unknown key; did you mean http.address? (default.toml:4)",
        "http.banner: found 5, expected text (default.toml:10)",
        "http.compress: found \"yes\", expected true or false (default.toml:9)",
        "http.hosts.1: found 3, expected text (default.toml:8)",
        "http.http_workers: unknown key, expected one of address, admin, banner, compress, hosts, limit, max_body, ports, server_name, workers (default.toml:11)",
        "http.limit: found -1, expected a whole number, at least 0 (default.toml:6)",
        "http.max_body: found \"2GiB\", expected a size such as \"64KiB\" or \"1MiB\", 1KiB–1GiB (default.toml:7)",
        "http.workers: found 65, expected a whole number, 1–64 threads (default.toml:5)",
        "log.format: found \"jsn\", expected one of json, text, auto; did you mean \"json\"? (default.toml:13)",
        "log.sample: found 1.5, expected a number, 0–1 (default.toml:14)",
        "log.when: found \"sometimes\", expected one of always, never (default.toml:15)",
        "shutdown.drain_delay: found \"61s\", expected a duration such as \"250ms\" or \"5s\", 0s–1m (default.toml:17)",
        "shutdown.grace: found \"25\", expected a duration such as \"250ms\", \"5s\" or \"1m30s\" (default.toml:18)",
        "tls.cert: missing, expected text; set it in default.toml, or CHASSIS_TLS__CERT",
        "tls.certt: unknown key; did you mean tls.cert? (default.toml:23)",
        "wrokers: unknown key; did you mean http.workers? (default.toml:1)",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn what_only_the_type_refuses_is_reported_too_each_with_its_key() {
    let found = problems("net", "[http]\naddress = \"localhost\"\nadmin = \"127.0.0.1\"\nworkers = 0\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with("http.address: found \"localhost\", which is refused: invalid socket address"),
        "{found:?}"
    );
    assert!(found[1].starts_with("http.admin: found \"127.0.0.1\", which is refused"), "{found:?}");
    assert!(found[1].ends_with("(default.toml:3)"), "{found:?}");
}

#[test]
fn an_unknown_key_in_two_files_is_reported_for_both() {
    let folder = Folder::new("both");
    folder.write("default.toml", "[htpp]\nworkers = 1\n");
    folder.write("dev.toml", "\n[htpp]\nworkers = 2\n");
    let found = problems_of(&folder, &load(&folder.sources()).unwrap_err());
    assert_eq!(
        found,
        [
            "htpp: unknown key; did you mean http? (default.toml:1)",
            "htpp: unknown key; did you mean http? (dev.toml:2)"
        ]
    );
}

#[test]
fn a_wrong_value_under_a_right_one_is_no_problem() {
    let folder = Folder::new("under");
    folder.write("default.toml", "http.workers = 99\n");
    assert_eq!(
        load(&Sources { set: vec!["http.workers=3".into()], ..folder.sources() }).unwrap().value().http.workers,
        3
    );
}

#[test]
fn wrong_pairs_of_the_command_line_say_what_to_type() {
    let set =
        ["http.adress=x", "workers: secret", "http.workers=many", "nothing.like.it=1"].map(str::to_owned).to_vec();
    let errors = load(&Sources { dir: "no-such-folder".into(), set, ..Sources::default() }).unwrap_err();
    let lines: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "--set workers: found no =, expected key=value",
            "http.adress: unknown; did you mean http.address? (command line --set http.adress)",
            "http.workers: found \"many\", expected a whole number, 1–64 threads (command line --set http.workers)",
            "nothing.like.it: unknown; see the keys with `config print --default` (command line --set nothing.like.it)",
        ]
    );
}

#[test]
fn a_named_file_has_to_be_there_and_to_be_toml() {
    let folder = Folder::new("named");
    folder.write("default.toml", "[http]\nworkers = 3\n");
    let bad = folder.write("bad.toml", "a = 1\n[http\n");
    let good = folder.write("good.toml", "http.limit = 3\n");
    let missing = folder.0.join("missing.toml");
    let files = vec![bad, missing, folder.0.clone()];
    let found = problems_of(&folder, &load(&Sources { files, ..folder.sources() }).unwrap_err());
    assert_eq!(found.len(), 3);
    assert!(found.iter().any(|line| line.starts_with("bad.toml: line 2, column 6: not TOML: ")), "{found:?}");
    assert!(
        found
            .contains(&"missing.toml: there is no such file; correct the path after --config, or create it".to_owned()),
        "{found:?}"
    );
    assert!(found.iter().any(|line| line.contains("cannot be read: ")), "{found:?}");
    let loaded = load(&Sources { files: vec![good], ..folder.sources() }).unwrap();
    assert_eq!(
        (loaded.value().http.workers, loaded.value().http.limit),
        (4, Some(3)),
        "named files replace the folder"
    );
}

#[test]
fn a_profile_is_a_name_and_no_path() {
    let errors = load(&Sources { profile: "../prod".into(), ..Sources::default() }).unwrap_err();
    assert_eq!(errors.0[0].to_string(), "--profile: found \"../prod\", expected a name of letters, digits, - and _");
}

#[test]
fn secrets_come_from_text_a_file_or_a_variable() {
    let folder = Folder::new("secret");
    let file = folder.write("token", "from-file\n");
    let text =
        format!("[tls]\ncert = \"c\"\nkey = {{ file = {file:?} }}\nothers = [\"plain\", {{ env = \"OTHER\" }}]\n");
    folder.write("default.toml", &text);
    let with = |env: &[(&str, &str)]| {
        load(&Sources { env: pairs(env), ..folder.sources() }).unwrap().value().tls.clone().unwrap()
    };
    let tls = with(&[("OTHER", "from-variable")]);
    assert_eq!(tls.key.expose(), "from-file");
    assert_eq!(tls.others.iter().map(|one| one.expose().as_str()).collect::<Vec<_>>(), ["plain", "from-variable"]);
    assert_eq!(with(&[("OTHER", "o"), ("CHASSIS_TLS__KEY", "00123")]).key.expose(), "00123");
    let way = with(&[("OTHER", "o"), ("CHASSIS_TLS__KEY__ENV", "OTHER")]);
    assert_eq!(way.key.expose(), "o", "the higher layer's way wins");
}

#[test]
fn a_secret_that_cannot_be_had_says_what_to_do() {
    let text = "[tls]\ncert = \"c\"\nkey = { file = \"/no/such\" }\nothers = [{ env = \"NOT_SET\" }, { flie = \"x\" }, { file = \"a\", env = \"b\" }, 5]\n";
    let found = problems("no-secret", text);
    let expected = [
        "tls.key: cannot read the file /no/such: No such file or directory",
        "tls.others.0: the variable NOT_SET is not set; set it, or give the value another way (default.toml:4)",
        "tls.others.1: found a table with the key flie, expected text, { file = \"…\" } or { env = \"…\" } (default.toml:4)",
        "tls.others.2: found both file and env, expected text",
        "tls.others.3: found a number, expected text, { file",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn no_outlet_shows_a_secret() {
    let folder = Folder::new("leak");
    let text = "[tls]\ncert = \"c\"\nkey = \"hunter2\"\nothers = [\"hunter2\"]\n[clients.a]\nurl = \"u\"\ntoken = \"hunter2\"\n[app]\npassword = \"hunter2\"\n";
    folder.write("default.toml", text);
    let sources = Sources { env: pairs(&[("CHASSIS_APP__OTHER", "hunter2")]), ..folder.sources() };
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.value().tls.as_ref().unwrap().key.expose(), "hunter2");
    let outlets = [
        format!("{loaded:?}"),
        format!("{:?}", loaded.value()),
        serde_json::to_string(&**loaded.value()).unwrap(),
        loaded.print(true),
        format!("{:?}", loaded.entries()),
        loaded.effective().to_string(),
        loaded.explain("tls.key").unwrap(),
        loaded.explain("app").unwrap(),
        format!("{sources:?}"),
        format!("{:?}", ReloadPlan::new(&loaded, &loaded)),
    ];
    for outlet in outlets {
        assert!(!outlet.contains("hunter2"), "{outlet}");
    }
    assert!(loaded.print(false).contains("tls.key = \"***\"\n"));
    // Wrong everywhere a secret may be wrong.
    folder.write(
        "default.toml",
        "[tls]\ncert = 1\nkey = { hunter = \"hunter2\" }\nothers = \"hunter2\"\n[clients.a]\ntoken = [\"hunter2\"]\n",
    );
    let errors = load(&Sources { env: Vec::new(), ..folder.sources() }).unwrap_err().to_string();
    assert!(errors.contains("tls.key"), "{errors}");
    assert!(errors.contains("clients.a.token"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn a_default_secret_is_not_its_mask() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Own {
        key: Secret<String>,
        list: Vec<Secret<String>>,
    }
    impl Default for Own {
        fn default() -> Self {
            Self { key: Secret::new("built-in".into()), list: vec![Secret::new("built-in".into())] }
        }
    }
    let sources = Sources { dir: "no-such-folder".into(), ..Sources::default() };
    let loaded: Loaded<Own> = Schema::of::<Own>().load(&Defaults::of(&Own::default()), &sources).unwrap();
    assert_eq!(loaded.value().key.expose(), "built-in");
    assert_eq!(loaded.value().list[0].expose(), "built-in");
    let loaded: Loaded<Own> = Schema::of::<Own>().load(&Defaults::default(), &sources).unwrap();
    assert_eq!(loaded.value().key.expose(), "built-in");
}

const APP: &str = "[app]\nstore = \"s\"\nsize = 12\npasword = \"x\"\n[app.backend]\nkind = \"disk\"\nsynk = true\n";

#[test]
fn a_section_with_a_type_of_its_own_is_checked_the_same_way() {
    let expected = [
        "app.backend.path: missing, expected text; set it in default.toml, or CHASSIS_APP__BACKEND__PATH",
        "app.backend.synk: unknown key; did you mean app.backend.sync? (default.toml:7)",
        "app.pasword: unknown key; did you mean app.password? (default.toml:4)",
        "app.size: found 12, expected a whole number, 1–9 (default.toml:3)",
    ];
    let folder = Folder::new("section");
    folder.write("default.toml", APP);
    // Known later: the rest is right, the section is checked when its type is known.
    let later = load(&folder.sources()).unwrap().section::<App>("app").unwrap_err();
    assert_eq!(problems_of(&folder, &later), expected);
    // Known at once: the section is checked with the rest.
    let schema = Schema::with_section::<Root, App>("app");
    let at_once = schema.load::<Root>(&defaults(), &folder.sources()).unwrap_err();
    assert_eq!(problems_of(&folder, &at_once), expected);
}

#[test]
fn a_section_is_typed_by_its_schema_and_filled_with_its_defaults() {
    let folder = Folder::new("typed");
    let file = folder.write("p", "secret\n");
    folder.write(
        "default.toml",
        &format!("[app]\npassword = {{ file = {file:?} }}\nbackend = {{ kind = \"memory\" }}\n"),
    );
    let sources =
        Sources { env: pairs(&[("CHASSIS_APP__STORE", "00123"), ("CHASSIS_APP__SIZE", "3")]), ..folder.sources() };
    let expected =
        App { store: "00123".into(), size: 3, password: Secret::new("secret".into()), backend: Backend::Memory };
    assert_eq!(load(&sources).unwrap().section::<App>("app").unwrap(), expected);
    let loaded: Loaded<Root> = Schema::with_section::<Root, App>("app").load(&defaults(), &sources).unwrap();
    assert_eq!(loaded.section::<App>("app").unwrap(), expected);
    let printed = loaded.print(true);
    assert!(printed.contains("app.size = 3   # environment CHASSIS_APP__SIZE\n"), "{printed}");
    assert!(printed.contains("app.password = \"***\"   # "), "{printed}");
}

#[test]
fn a_missing_section_reports_what_it_needs() {
    let sources = Sources { dir: "no-such-folder".into(), ..Sources::default() };
    let errors = load(&sources).unwrap().section::<App>("app").unwrap_err();
    assert_eq!(
        errors.0[0].to_string(),
        "app.store: missing, expected text; set it in no-such-folder/default.toml, or CHASSIS_APP__STORE"
    );
    assert_eq!(errors.0.len(), 1);
}

#[test]
fn an_unknown_variant_names_the_known_ones() {
    let folder = Folder::new("variant");
    folder.write("default.toml", "[app]\nstore = \"s\"\nbackend.kind = \"dsk\"\nbackend.path = \"p\"\n");
    let errors = load(&folder.sources()).unwrap().section::<App>("app").unwrap_err();
    let found = problems_of(&folder, &errors);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0],
        "app.backend.kind: found \"dsk\", expected one of memory, disk; did you mean \"disk\"? (default.toml:3)"
    );
}

#[test]
fn shapes_without_a_tag_are_told_apart_by_their_keys() {
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Sampler {
        Always,
        Ratio(#[schemars(range(min = 0.0, max = 1.0))] f64),
        Rate { per_second: u32 },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Own {
        sampler: Sampler,
    }
    let load = |toml: &str| {
        let folder = Folder::new("shapes");
        folder.write("default.toml", toml);
        Schema::of::<Own>()
            .load::<Own>(&Defaults::default(), &folder.sources())
            .map(|own| format!("{:?}", own.value().sampler))
            .map_err(|e| problems_of(&folder, &e))
    };
    assert_eq!(load("sampler = \"always\"").unwrap(), "Always");
    assert_eq!(load("sampler.ratio = 0.5").unwrap(), "Ratio(0.5)");
    assert_eq!(load("sampler.rate.per_second = 5").unwrap(), "Rate { per_second: 5 }");
    let refused = |toml: &str| load(toml).unwrap_err();
    assert_eq!(
        refused("sampler.ratio = \"x\""),
        ["sampler.ratio: found \"x\", expected a number, 0–1 (default.toml:1)"]
    );
    assert_eq!(refused("sampler.rate.per_secnd = 5").len(), 2);
    assert_eq!(refused("sampler = 3"), ["sampler: found 3, expected \"always\" or a table (default.toml:1)"]);
    let missing = refused("");
    assert!(missing[0].starts_with("sampler: missing, expected \"always\" or a table; set it in "), "{missing:?}");
}

#[test]
fn a_type_that_holds_itself_is_checked_down_to_the_repetition() {
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Tree {
        #[serde(default)]
        size: u8,
        #[serde(default)]
        children: Vec<Tree>,
    }
    let folder = Folder::new("tree");
    folder.write("default.toml", "size = 1\n[[children]]\nsize = 2\n[[children.children]]\nsize = 3\n");
    let loaded = Schema::of::<Tree>().load::<Tree>(&Defaults::default(), &folder.sources()).unwrap();
    assert_eq!(loaded.value().children[0].children[0].size, 3);
}

#[test]
fn printed_values_are_toml_with_origins() {
    let loaded = with_env(&[("CHASSIS_HTTP__HOSTS", "a,b"), ("CHASSIS_LABELS__A", "\"quoted\"\n")]).unwrap();
    let text = loaded.print(true);
    for line in [
        "http.address = \"0.0.0.0:8080\"   # built-in default\n",
        "http.hosts = [\"a\", \"b\"]   # environment CHASSIS_HTTP__HOSTS\n",
        "# http.limit is not set   # built-in default\n",
        "shutdown.drain_delay = \"0s\"   # built-in default of profile dev\n",
        "labels.a = \"\\\"quoted\\\"\\n\"   # environment CHASSIS_LABELS__A\n",
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
    let folder = Folder::new("print");
    folder.write("default.toml", &text);
    let again = load(&folder.sources()).unwrap();
    assert_eq!(again.value(), loaded.value(), "what is printed can be read");
}

#[test]
fn explain_tells_meaning_facts_value_and_origin() {
    let loaded = with_env(&[("CHASSIS_HTTP__MAX_BODY", "2048B")]).unwrap();
    assert_eq!(
        loaded.explain("http.max_body").unwrap(),
        "http.max_body\n  The largest body.\n\n  Larger ones are answered 413.\n\n  Type: a size such as \"64KiB\" or \"1MiB\"\n  \
         Default \"1MiB\". Range 1KiB–1GiB. Env CHASSIS_HTTP__MAX_BODY. Applies on reload.\n  \
         Now: \"2KiB\"   # environment CHASSIS_HTTP__MAX_BODY\n"
    );
    assert!(loaded.explain("http").unwrap().contains("http.address  Where to listen.\n"));
    assert_eq!(
        loaded.explain("http.adress").unwrap_err().to_string(),
        "http.adress: unknown key; did you mean http.address?"
    );
}

#[test]
fn the_annotated_file_is_toml_as_it_is_and_when_uncommented() {
    let schema = Schema::with_section::<Root, App>("app");
    let text = schema.annotated_toml(&defaults());
    let folder = Folder::new("annotated");
    folder.write("default.toml", &text.replace("[app]", "[app]\nstore = \"s\""));
    let sources = Sources { profile: "prod".into(), ..folder.sources() };
    let plain: Loaded<Root> = schema.load(&defaults(), &sources).unwrap();
    assert_eq!(**plain.value(), Root::default());
    let uncommented: Vec<_> =
        text.lines().map(|line| if line.starts_with("# ") { line } else { line.trim_start_matches('#') }).collect();
    let uncommented = uncommented.join("\n");
    let value: toml::Value = toml::from_str(&uncommented).unwrap();
    for doc in schema.reference(&defaults()) {
        let path = doc.key.replace(".<n>", "").replace("<name>", "example");
        assert!(
            path.split('.').try_fold(&value, |value, key| value.get(key)).is_some(),
            "{path} is not in\n{uncommented}"
        );
    }
    let facts =
        "# Where to listen.\n# Default \"0.0.0.0:8080\". Env CHASSIS_HTTP__ADDRESS.\n#address = \"0.0.0.0:8080\"\n";
    assert!(text.contains(facts), "{text}");
    assert!(text.contains("# - auto: JSON unless a terminal reads.\n"), "{text}");
    // Keys that have a default keep it when uncommented.
    folder.write("default.toml", &uncommented);
    let secrets = [("CHASSIS_TLS__KEY", "k"), ("CHASSIS_CLIENTS__EXAMPLE__TOKEN", "t"), ("CHASSIS_APP__PASSWORD", "p")];
    let loaded: Loaded<Root> = schema.load(&defaults(), &Sources { env: pairs(&secrets), ..sources }).unwrap();
    assert_eq!(loaded.value().http, Http { limit: Some(0), server_name: Some(String::new()), ..Http::default() });
    assert_eq!((&loaded.value().log, &loaded.value().shutdown), (&Log::default(), &Root::default().shutdown));
}

#[test]
fn the_reference_has_every_key_and_its_facts() {
    let schema = Schema::of::<Root>();
    let reference = schema.reference(&defaults());
    let find = |key: &str| reference.iter().find(|doc| doc.key == key).unwrap();
    let body = find("http.max_body");
    assert_eq!(
        (body.range.as_deref(), body.default.as_deref(), body.reloadable),
        (Some("1KiB–1GiB"), Some("\"1MiB\""), true)
    );
    assert_eq!(body.env.as_deref(), Some("CHASSIS_HTTP__MAX_BODY"));
    assert_eq!(find("http.workers").facts(), "Default 4. Range 1–64. Unit threads. Env CHASSIS_HTTP__WORKERS.");
    assert_eq!(find("clients.<name>.timeout").default.as_deref(), Some("\"1s\""));
    assert!(find("clients.<name>.url").required && find("clients.<name>.token").secret && find("tls.key").secret);
    assert_eq!(find("log.format").choices.len(), 3);
    let page = schema.reference_markdown(&defaults());
    for doc in &reference {
        assert!(page.contains(&format!("### `{}`\n", doc.key)), "{}", doc.key);
    }
    assert!(page.contains("## `[http]`\n\nThe inbound side.\n"), "{page}");
}

#[test]
fn the_json_schema_keeps_what_editors_read() {
    let schema = Schema::of::<Root>();
    let json = schema.as_json();
    assert_eq!(json["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(json["additionalProperties"], false);
    assert_eq!(json["$defs"]["Http"]["properties"]["max_body"]["x-reloadable"], true);
}

fn from_file(folder: &Folder, text: &str) -> Result<Loaded<Root>, ConfigErrors> {
    folder.write("default.toml", text);
    load(&folder.sources())
}

#[test]
fn a_plan_changes_what_is_reloadable_and_lists_the_rest() {
    let folder = Folder::new("plan");
    let old = from_file(&folder, "http.workers = 2\n[tls]\ncert = \"a\"\nkey = \"1\"\n").unwrap();
    let new = from_file(&folder, "log.filter = \"debug\"\nhttp.workers = 3\nhttp.max_body = \"1024KiB\"\nlabels.a = \"x\"\n[tls]\ncert = \"a\"\nkey = \"2\"\n").unwrap();
    let plan = ReloadPlan::new(&old, &new);
    assert_eq!(plan.changed, ["log.filter", "tls.key"], "1024KiB is 1MiB");
    assert_eq!(plan.needs_restart, ["http.workers", "labels.a"]);
    let next = plan.apply(&old, &new).unwrap();
    let value = next.value();
    assert_eq!(
        (value.log.filter.as_str(), value.http.workers, value.tls.as_ref().unwrap().key.expose().as_str()),
        ("debug", 2, "2")
    );
    assert!(value.labels.is_empty());
    assert_eq!(next.origin("log.filter"), new.origin("log.filter"));
    assert_eq!(next.origin("http.workers"), old.origin("http.workers"));
}

/// A watcher on a folder, with what a test needs of it.
struct Watched {
    values: tokio::sync::watch::Receiver<Loaded<Root>>,
    status: tokio::sync::watch::Receiver<ReloadStatus>,
    poke: Arc<Notify>,
    stop: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

fn watch(folder: &Folder) -> Watched {
    let (poke, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let sources = folder.sources();
    let watcher = Watcher::new(load(&sources).unwrap(), Arc::clone(&poke), move || load(&sources));
    let (values, status) = (watcher.values(), watcher.status());
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(watcher.watch(async move { stopped.notified().await }));
    Watched { values, status, poke, stop, task }
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_seen_by_its_contents_and_applied() {
    let folder = Folder::new("poll");
    folder.write("default.toml", "log.filter = \"info\"\n");
    let mut watched = watch(&folder);
    // As Kubernetes does: the file is swapped as a whole.
    let next = folder.write("next.toml", "log.filter = \"debug\"\nhttp.workers = 2\n");
    fs::rename(next, folder.0.join("default.toml")).unwrap();
    watched.values.changed().await.unwrap();
    assert_eq!(watched.values.borrow().value().log.filter, "debug");
    assert_eq!(watched.values.borrow().value().http.workers, 4);
    watched.status.changed().await.unwrap();
    assert_eq!(watched.status.borrow().needs_restart, ["http.workers"]);
    watched.stop.notify_one();
    watched.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_that_appears_later_and_a_secret_file_are_watched() {
    let folder = Folder::new("secrets");
    let secret = folder.write("key", "one\n");
    let mut watched = {
        folder.write("default.toml", &format!("[tls]\ncert = \"c\"\nkey = {{ file = {secret:?} }}\n"));
        watch(&folder)
    };
    folder.write("key", "two\n");
    watched.values.changed().await.unwrap();
    assert_eq!(watched.values.borrow_and_update().value().tls.as_ref().unwrap().key.expose(), "two");
    folder.write("dev.toml", "log.filter = \"trace\"\n");
    watched.values.changed().await.unwrap();
    assert_eq!(watched.values.borrow().value().log.filter, "trace");
}

#[tokio::test(start_paused = true)]
async fn a_bad_change_keeps_the_last_good_value_and_says_why() {
    let folder = Folder::new("bad");
    folder.write("default.toml", "log.filter = \"warn\"\n");
    let mut watched = watch(&folder);
    folder.write("default.toml", "log.filter = \"debug\"\nlog.sample = 7\n");
    watched.poke.notify_one();
    watched.status.changed().await.unwrap();
    let status = watched.status.borrow_and_update().clone();
    let Outcome::Failed(errors) = status.outcome else { panic!("not refused") };
    assert!(errors.to_string().contains("log.sample: found 7"), "{errors}");
    assert!(!watched.values.has_changed().unwrap());
    assert_eq!(watched.values.borrow().value().log.filter, "warn");
    folder.write("default.toml", "log.filter = \"debug\"\n");
    watched.status.changed().await.unwrap();
    assert_eq!(watched.status.borrow().outcome, Outcome::Good);
    assert_eq!(watched.values.borrow().value().log.filter, "debug");
}

#[test]
fn service_links_of_kubernetes_pass_with_one_note() {
    let loaded = with_env(&[
        ("CHASSIS_SERVICE_HOST", "10.0.0.1"),
        ("CHASSIS_SERVICE_PORT", "8080"),
        ("CHASSIS_SERVICE_PORT_HTTP", "8080"),
        ("CHASSIS_PORT", "tcp://10.0.0.1:8080"),
        ("CHASSIS_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("CHASSIS_PORT_8080_TCP_PROTO", "tcp"),
        ("CHASSIS_PORT_8080_TCP_PORT", "8080"),
        ("CHASSIS_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("CHASSIS_FOO_BAR_SERVICE_HOST", "fd00::1"),
        ("CHASSIS_FOO_BAR_PORT", "tcp://[fd00::1]:80"),
    ])
    .unwrap();
    let [note] = loaded.notes() else { panic!("{:?}", loaded.notes()) };
    assert!(note.contains("the Services \"chassis\", \"chassis-foo-bar\""), "{note}");
    assert!(note.contains("enableServiceLinks: false"), "{note}");
    assert_eq!(with_env(&[]).unwrap().notes(), [] as [String; 0]);
}

#[test]
fn a_typo_beside_service_links_is_refused() {
    let env =
        [("CHASSIS_SERVICE_HOST", "10.0.0.1"), ("CHASSIS_HTTP_PORT", "8080"), ("CHASSIS_HTTP__ADRESS", "10.0.0.1:1")];
    let keys: Vec<_> = with_env(&env).unwrap_err().0.into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["CHASSIS_HTTP_PORT", "CHASSIS_HTTP__ADRESS"]);
}

/// The secret `tls.key`, set by these variables.
fn key_from(env: &[(&str, &str)]) -> Result<String, String> {
    let env = [&[("CHASSIS_TLS__CERT", "c")], env].concat();
    let loaded = with_env(&env).map_err(|errors| errors.to_string())?;
    Ok(loaded.value().tls.as_ref().unwrap().key.expose().clone())
}

#[test]
fn a_variable_may_say_where_its_secret_is() {
    let folder = Folder::new("secret-variable");
    let file = folder.write("key", "from-the-file\n");
    let file = file.to_str().unwrap();
    for text in [format!("{{ file = \"{file}\" }}"), format!("  {{file='{file}'}} ")] {
        assert_eq!(key_from(&[("CHASSIS_TLS__KEY", &text)]).as_deref(), Ok("from-the-file"), "{text}");
    }
    let env = [("CHASSIS_TLS__KEY", "{ env = \"KEY\" }"), ("KEY", "from-the-variable")];
    assert_eq!(key_from(&env).as_deref(), Ok("from-the-variable"));
    assert_eq!(key_from(&[("CHASSIS_TLS__KEY_FILE", file)]).as_deref(), Ok("from-the-file"));
    assert_eq!(key_from(&[("CHASSIS_TLS__KEY__FILE", file)]).as_deref(), Ok("from-the-file"));
    // Text in braces that is no such table is a password.
    for password in ["{hunter2}", "{\"type\": \"service_account\"}", "{", "{}}"] {
        assert_eq!(key_from(&[("CHASSIS_TLS__KEY", password)]).as_deref(), Ok(password));
    }
}

#[test]
fn a_table_that_cannot_be_read_is_no_secret() {
    for (text, part) in [
        ("{ file = tok }", "found a table that cannot be read"),
        ("{file=/run/secrets/tok}", "found a table that cannot be read"),
        ("{ fle = \"tok\" }", "found a table with the key fle"),
        ("{ file = \"a\", env = \"b\" }", "found both file and env"),
    ] {
        let said = key_from(&[("CHASSIS_TLS__KEY", text)]).unwrap_err();
        assert!(said.contains(part) && said.contains("(environment CHASSIS_TLS__KEY)"), "{text}: {said}");
    }
}

#[test]
fn every_secret_takes_a_file_by_its_variable() {
    let folder = Folder::new("secret-file");
    let file = folder.write("token", "hunter2\r\n");
    let file = file.to_str().unwrap();
    let env = [("CHASSIS_CLIENTS__STOCK__URL", "u"), ("CHASSIS_CLIENTS__STOCK__TOKEN_FILE", file)];
    let loaded = with_env(&env).unwrap();
    let token = loaded.value().clients["stock"].token.as_ref().map(|token| token.expose().clone());
    assert_eq!(token.as_deref(), Some("hunter2"));
    let origin = loaded.origin("clients.stock.token").map(ToString::to_string);
    assert_eq!(origin.as_deref(), Some("environment CHASSIS_CLIENTS__STOCK__TOKEN_FILE"));
    let text =
        with_env(&[("CHASSIS_TLS__CERT", "c"), ("CHASSIS_TLS__KEY_FILE", file)]).unwrap().explain("tls.key").unwrap();
    assert!(text.contains("Env CHASSIS_TLS__KEY, or CHASSIS_TLS__KEY_FILE for the name of a file"), "{text}");
    assert!(text.contains("Now: \"***\"   # environment CHASSIS_TLS__KEY_FILE"), "{text}");

    let schema = Schema::with_section::<Root, App>("app");
    let env = pairs(&[("CHASSIS_APP__STORE", "s"), ("CHASSIS_APP__PASSWORD_FILE", file)]);
    let sources = Sources { dir: "no-such-folder".into(), env, ..Sources::default() };
    let loaded = schema.load::<Root>(&defaults(), &sources).unwrap();
    assert_eq!(loaded.section::<App>("app").unwrap().password.expose(), "hunter2");
}

#[test]
fn a_secret_that_is_given_twice_is_refused() {
    let folder = Folder::new("secret-twice");
    let file = folder.write("key", "from-the-file");
    let file = file.to_str().unwrap();
    let both = [("CHASSIS_TLS__KEY", "hunter2"), ("CHASSIS_TLS__KEY_FILE", file)];
    let said = key_from(&both).unwrap_err();
    assert!(said.contains("CHASSIS_TLS__KEY_FILE: found beside CHASSIS_TLS__KEY"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    // An empty one gives nothing.
    assert_eq!(key_from(&[("CHASSIS_TLS__KEY", ""), both[1]]).as_deref(), Ok("from-the-file"));
    assert_eq!(key_from(&[both[0], ("CHASSIS_TLS__KEY_FILE", "")]).as_deref(), Ok("hunter2"));
}

#[test]
fn an_empty_file_is_no_secret() {
    let folder = Folder::new("secret-empty");
    for text in ["", "\n"] {
        let file = folder.write("key", text);
        let said = key_from(&[("CHASSIS_TLS__KEY_FILE", file.to_str().unwrap())]).unwrap_err();
        assert!(said.contains("is empty"), "{said}");
    }
    let said = key_from(&[("CHASSIS_TLS__KEY", "{ env = \"KEY\" }"), ("KEY", "")]).unwrap_err();
    assert!(said.contains("the variable KEY is empty"), "{said}");
}

#[test]
fn a_misspelt_secret_variable_is_answered_with_the_right_one() {
    let said = with_env(&[("CHASSIS_TLS__KY_FILE", "x")]).unwrap_err().to_string();
    assert!(said.contains("did you mean CHASSIS_TLS__KEY_FILE?"), "{said}");
    let said = with_env(&[("CHASSIS_HTTP__BANNER_FILE", "x")]).unwrap_err().to_string();
    assert!(said.contains("unset it"), "no secret: {said}");
}

#[test]
fn a_profile_needs_a_file_unless_it_is_built_in() {
    let folder = Folder::new("profiles");
    let with = |profile: &str, files: Vec<PathBuf>| {
        load(&Sources { profile: profile.into(), files, ..folder.sources() })
            .map(|_| ())
            .map_err(|errors| errors.to_string())
    };
    assert_eq!(with("dev", Vec::new()), Ok(()));
    assert_eq!(with("prod", Vec::new()), Ok(()));
    let refused = with("prdo", Vec::new()).unwrap_err();
    assert!(refused.contains("--profile: found \"prdo\", expected dev, prod, or the name of a file"), "{refused}");
    assert!(refused.contains("prdo.toml; did you mean \"prod\"?"), "{refused}");
    let refused = with("staging", Vec::new()).unwrap_err();
    assert!(!refused.contains("did you mean"), "{refused}");

    folder.write("staging.toml", "");
    assert_eq!(with("staging", Vec::new()), Ok(()));
    let elsewhere = folder.write("test.toml", "");
    assert_eq!(with("test", vec![elsewhere]), Ok(()), "named on the command line");

    let env = pairs(&[("CHASSIS_PROFILE", "prdo")]);
    let refused = load(&Sources { profile: "prdo".into(), env, ..folder.sources() }).unwrap_err().to_string();
    assert!(refused.contains("CHASSIS_PROFILE: found \"prdo\""), "{refused}");
}

#[test]
fn a_profile_that_a_store_knows_needs_no_file() {
    let with = |remote: Remote| {
        let remote = vec![remote];
        load(&Sources { profile: "staging".into(), dir: "no-such-folder".into(), remote, ..Sources::default() }).is_ok()
    };
    let of_profile = |keys: &[(&str, &str)]| Remote { profile: true, ..store("a", keys, "") };
    assert!(with(of_profile(&[("http.limit", "1")])));
    assert!(!with(of_profile(&[])), "an empty folder");
    assert!(!with(store("a", &[("http.limit", "1")], "")), "a folder of all profiles");
}

/// What editors read is what the check accepts: pattern and bounds of the JSON Schema against the loader.
#[test]
fn the_schema_accepts_what_the_check_accepts() {
    let json = Schema::of::<Root>().as_json().clone();
    let find = |pointer: &str| json.pointer(pointer).cloned().unwrap_or_else(|| panic!("{pointer} in {json:#}"));
    let delay = find("/$defs/Shutdown/properties/drain_delay");
    let size = find("/$defs/Http/properties/max_body");
    assert_eq!((&delay["minimum"], &delay["maximum"]), (&json!(0), &json!(0)), "a number has no unit");
    assert_eq!((&size["minimum"], &size["maximum"]), (&json!(0), &serde_json::Value::Null));
    assert_ne!(delay["format"], "duration", "JSON Schema's own is ISO 8601");
    let accepted = |key: &str, value: &str| {
        let folder = Folder::new("schema");
        folder.write("default.toml", &format!("{key} = {value}\n"));
        load(&folder.sources()).is_ok()
    };
    for (value, right) in
        [("0", true), ("5", false), ("-1", false), ("\"5s\"", true), ("\"0\"", true), ("\"5\"", false)]
    {
        assert_eq!(accepted("shutdown.drain_delay", value), right, "{value}");
    }
    for (value, right) in
        [("2048", true), ("-1", false), ("\"64KiB\"", true), ("\"64 KiB\"", true), ("\"64Kib\"", false)]
    {
        assert_eq!(accepted("http.max_body", value), right, "{value}");
    }
}
