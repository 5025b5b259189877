//! Settings from Consul's key-value store: read at start, followed while the service runs.
//!
//! Four folders ("contexts"), the later ones win, as Spring Cloud Consul has them: `<prefix>/application/`,
//! `<prefix>/application,<profile>/`, `<prefix>/<service>/`, `<prefix>/<service>,<profile>/`. One key for each setting
//! (`config/orders/http/request_timeout`, plain text), and one key `config.toml` in each folder that holds a document.
//!
//! When Consul comes back without a folder that it had, the last values stay: it is told, not believed.
//!
//! Each folder is followed by a blocking query of its own, so that a token needs to read no other folder and a change
//! elsewhere moves no bytes. Within a folder a change is seen whole; changes of two folders at once are put together when
//! they come within [`SETTLE`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::{Consul, ConsulAnswer, ConsulConfig, ConsulError, Cursor};
use crate::{
    config::{self, ConfigProblem, LocalOnly, Origin, Remote, RemoteText},
    error::{Error, Result},
    health::Reporter,
};

/// How long Consul holds a query when nothing changes. Chosen: Spring waits 55 s; a frozen agent is noticed after this and
/// a little more.
const WAIT: Duration = Duration::from_secs(30);
/// How long a change waits for others, so that a transaction over two folders is taken over as one. Chosen: two answers
/// that were released by one write arrive within milliseconds.
const SETTLE: Duration = Duration::from_millis(100);
/// The time from an answer to the next query: half of this to one and a half. Every write to the store releases the query on
/// a folder with nothing in it, in every instance at once. Chosen: Spring Cloud Consul's delay of its watch.
const SPACING: Duration = Duration::from_secs(1);
/// The document of a folder.
const DOCUMENT: &str = "config.toml";
/// The folder of all services, as Spring Cloud Consul calls it.
const SHARED: &str = "application";
/// What a path may hold as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What the store may not say: it would have to be known before the store can be read.
pub(crate) fn local_only() -> Vec<LocalOnly> {
    let only = |key: &str, reason: &str| LocalOnly { key: key.to_owned(), reason: reason.to_owned() };
    vec![
        only("consul", "it says where this store is; set it in a file, a CHASSIS_CONSUL__… variable or with --set"),
        only(
            "service.name",
            "it names the folder that is read here; set it in a file, CHASSIS_SERVICE__NAME or with --set",
        ),
        only(
            "service.instance_id",
            "it names one instance, and this is read by all; set it in a file, CHASSIS_SERVICE__INSTANCE_ID or with --set",
        ),
        only(
            "http.address",
            "`healthcheck` has to know it without Consul; set it in a file, CHASSIS_HTTP__ADDRESS or with --set",
        ),
        only(
            "admin.address",
            "operators have to find it without Consul; set it in a file, CHASSIS_ADMIN__ADDRESS or with --set",
        ),
    ]
}

/// The settings in the store. All clones write the same layers. Its folders are read by [`fetch`](Self::fetch), and then followed by [`follow`](Self::follow).
#[derive(Clone)]
pub(crate) struct Kv {
    config: ConsulConfig,
    folders: Vec<Folder>,
    layers: Layers,
}

/// What the store said last, lowest layer first. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Layers(Arc<ArcSwap<Vec<Remote>>>);

impl Layers {
    pub(crate) fn now(&self) -> Vec<Remote> {
        self.0.load().as_ref().clone()
    }
}

#[derive(Clone)]
struct Folder {
    /// `config/orders/`
    path: String,
    cursor: Cursor,
    /// What it said last.
    body: Option<Bytes>,
    /// Why it could not be read the last time.
    failed: Option<String>,
    /// Consul has nothing in it, but has lost what it had: what it said last stays.
    lost: bool,
    /// The layers may hold something newer than `body`: this follower takes the place of one that panicked.
    stale: bool,
}

/// What an answer says of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    body: Bytes,
    /// Consul may have lost its data since the last answer: its index went back, or it was away.
    doubtful: bool,
}

impl Kv {
    /// The folders of a service in a profile. Nothing is asked yet.
    pub(crate) fn new(config: &ConsulConfig, service: &str, profile: &str) -> Self {
        let folder = |path| Folder { path, cursor: Cursor::new(), body: None, failed: None, lost: false, stale: false };
        let folders = folders(&config.kv.prefix, service, profile).into_iter().map(folder).collect();
        Self { config: config.clone(), folders, layers: Layers::default() }
    }

    /// What the store said last.
    pub(crate) fn layers(&self) -> Layers {
        self.layers.clone()
    }

    /// Why a folder could not be read, if one could not.
    pub(crate) fn unread_folder(&self) -> Option<&str> {
        self.folders.iter().find_map(|folder| folder.failed.as_deref())
    }

    /// Reads all folders, asking again while Consul does not answer, for at most `limit`. What could be read is in
    /// [`layers`](Self::layers) also when that was not all.
    ///
    /// # Errors
    /// Settings that make no client (78); no answer in time, or one that asking again does not change (69).
    pub(crate) async fn fetch(&mut self, limit: Duration) -> Result<()> {
        let consul = Consul::new(&self.config)?;
        let end = Instant::now() + limit;
        let mut refusal = None;
        for place in 0..self.folders.len() {
            let folder = &mut self.folders[place];
            let path = folder.query();
            let why = loop {
                // Without an index the answer comes at once; the wait is only the longest that it may take.
                let left = end.saturating_duration_since(Instant::now());
                let asked = tokio::time::timeout_at(end, consul.blocking(&path, &mut folder.cursor, left)).await;
                match asked {
                    Ok(answer) => match answer.and_then(whole) {
                        Ok(answer) => {
                            folder.failed = None;
                            folder.body = answer.map(|answer| body(&answer));
                            break None;
                        }
                        Err(error) => {
                            let hopeless = is_hopeless(&error);
                            folder.failed = Some(error.to_string());
                            if hopeless {
                                break Some(self.unread(place, None));
                            }
                        }
                    },
                    Err(_) => break Some(self.unread(place, Some(limit))),
                }
            };
            refusal = refusal.or(why);
        }
        self.publish();
        refusal.map_or(Ok(()), Err)
    }

    /// The refusal to go on without the settings of a folder.
    fn unread(&mut self, place: usize, waited: Option<Duration>) -> Error {
        let folder = &mut self.folders[place];
        let why = folder.failed.get_or_insert_with(|| "no answer".to_owned());
        let waited = waited.map(|limit| format!(" within {}", config::Duration(limit))).unwrap_or_default();
        Error::unavailable(format!(
            "consul.kv: found no settings from Consul at {}{waited} ({why}), expected those of {}; start the agent, correct \
             consul.address or consul.token, or set consul.kv.required = false (CHASSIS_CONSUL__KV__REQUIRED=false) to \
             start without",
            self.config.address, folder.path,
        ))
    }

    /// Makes the layers of what the folders said.
    fn publish(&self) {
        let layers = self.folders.iter().filter_map(|folder| Some(layer(&folder.path, folder.body.as_ref()?)));
        self.layers.0.store(Arc::new(layers.collect()));
    }

    /// What follows the store, once more after each time that it ended.
    pub(crate) fn follower(&mut self) -> Self {
        let follower = self.clone();
        self.folders.iter_mut().for_each(|folder| folder.stale = true);
        follower
    }

    /// Follows the store for ever: a change is put into [`layers`](Self::layers) and `reload` is told. While Consul is away,
    /// and when it has lost what it had, the last values stay, and the check is degraded.
    ///
    /// Cancel safe: its queries end with it.
    ///
    /// # Errors
    /// Settings that make no client; a query that panicked.
    pub(crate) async fn follow(mut self, reload: Arc<Notify>, health: Reporter) -> Result<Infallible> {
        // Anew, because connections belong to the runtime that they were made in.
        let consul = Consul::new(&self.config).inspect_err(|error| {
            health.degraded(format!("Consul is not followed, the last values stay in effect: {error}"));
        })?;
        self.tell(&health);
        let (sender, mut answers) = mpsc::channel(self.folders.len().max(1));
        let mut queries = JoinSet::new();
        for (place, folder) in self.folders.iter_mut().enumerate() {
            let query = ask(consul.clone(), folder.query(), std::mem::take(&mut folder.cursor), place, sender.clone());
            queries.spawn(query);
        }
        let mut settled: Option<Instant> = None;
        loop {
            let settle = async {
                match settled {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((place, answer)) = answers.recv() => {
                    if self.take(place, answer) {
                        settled = settled.or_else(|| Some(Instant::now() + SETTLE));
                    }
                    self.tell(&health);
                }
                () = settle => {
                    settled = None;
                    self.publish();
                    reload.notify_one();
                }
                _ = queries.join_next() => {
                    health.degraded("a folder is not followed, the last values stay in effect");
                    return Err(Error::internal("a query of Consul's key-value store ended"));
                }
            }
        }
    }

    /// Takes in an answer; says whether the folder changed.
    fn take(&mut self, place: usize, answer: Result<Option<Said>, String>) -> bool {
        let folder = &mut self.folders[place];
        match answer {
            Err(why) => {
                folder.failed = Some(why);
                false
            }
            Ok(said) => {
                folder.failed = None;
                let Some(Said { body, doubtful }) = said else { return false };
                let held = folder.body.as_ref().is_some_and(|body| !body.is_empty());
                folder.lost = body.is_empty() && held && (doubtful || folder.lost);
                if folder.lost {
                    return false;
                }
                // Consul answers for a folder with nothing in it whenever any key changes.
                let changed = folder.body.replace(body.clone()).as_ref() != Some(&body);
                std::mem::take(&mut folder.stale) || changed
            }
        }
    }

    fn tell(&self, health: &Reporter) {
        match self.trouble() {
            Some(trouble) => health.degraded(trouble),
            None => health.up(),
        }
    }

    fn trouble(&self) -> Option<String> {
        let failed = self.folders.iter().find_map(|folder| Some((&folder.path, folder.failed.as_ref()?)));
        let lost = || self.folders.iter().find(|folder| folder.lost);
        match failed {
            Some((path, why)) => Some(format!("{path} cannot be read, the last values stay in effect: {why}")),
            None => lost().map(|folder| {
                format!(
                    "Consul has lost {}: the last values stay in effect until the folder has a key again, or this service is \
                     started anew",
                    folder.path
                )
            }),
        }
    }
}

/// Follows one folder until nobody listens.
async fn ask(
    consul: Consul,
    path: String,
    mut cursor: Cursor,
    place: usize,
    answers: mpsc::Sender<(usize, Result<Option<Said>, String>)>,
) {
    let (mut last, mut away) = (cursor.index(), cursor.failures() > 0);
    loop {
        let answer = consul.blocking(&path, &mut cursor, WAIT).await.and_then(whole);
        let said = match answer {
            Ok(answer) => Ok(answer.map(|answer| {
                let index = answer.index.unwrap_or_default();
                let doubtful = std::mem::take(&mut away) || index < last;
                last = index;
                Said { body: body(&answer), doubtful }
            })),
            Err(error) => {
                away = true;
                Err(error.to_string())
            }
        };
        if answers.send((place, said)).await.is_err() {
            return;
        }
        // After a failure the cursor has a pause of its own.
        if cursor.failures() == 0 {
            tokio::time::sleep(SPACING.mul_f64(0.5 + fastrand::f64())).await;
        }
    }
}

/// An answer from which nothing was taken out: what the token may not see would look deleted.
fn whole(answer: Option<ConsulAnswer>) -> Result<Option<ConsulAnswer>, ConsulError> {
    match answer {
        Some(answer) if answer.filtered => Err(ConsulError::Refused {
            call: "GET /v1/kv (a folder)".to_owned(),
            status: StatusCode::FORBIDDEN,
            message: "Consul's access control has left keys out; the token needs key:read for the whole folder"
                .to_owned(),
        }),
        answer => Ok(answer),
    }
}

/// What an answer holds; nothing when there is no such folder.
fn body(answer: &ConsulAnswer) -> Bytes {
    if answer.status == StatusCode::NOT_FOUND { Bytes::new() } else { answer.body.clone() }
}

/// Whether asking again cannot help: Consul understood, and refuses.
fn is_hopeless(error: &ConsulError) -> bool {
    matches!(error, ConsulError::Refused { status, .. } if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS)
}

impl Folder {
    fn query(&self) -> String {
        format!("/v1/kv/{}?recurse", utf8_percent_encode(&self.path, PATH))
    }
}

/// The folders, lowest first.
fn folders(prefix: &str, service: &str, profile: &str) -> Vec<String> {
    let prefix = prefix.trim_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let of = |name: &str| [format!("{prefix}{name}/"), format!("{prefix}{name},{profile}/")];
    let mut folders: Vec<_> = of(SHARED).into();
    if service != SHARED {
        folders.extend(of(service));
    }
    folders
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    value: Option<String>,
}

/// A folder as a layer of the configuration.
fn layer(folder: &str, body: &[u8]) -> Remote {
    // `config/orders,prod/`; a folder above may have a comma in its name too.
    let profile = folder.trim_end_matches('/').rsplit('/').next().is_some_and(|name| name.contains(','));
    let mut layer = Remote { name: format!("consul kv {folder}"), profile, ..Remote::default() };
    let mut problem = |key: &str, message: &str, origin: String| {
        layer.problems.push(ConfigProblem::new(key, message, Some(Origin::RemoteKey(origin))));
    };
    if body.is_empty() {
        return layer;
    }
    let Ok(pairs) = serde_json::from_slice::<Vec<Pair>>(body) else {
        problem("consul.kv", "found an answer that cannot be read, expected a list of keys", layer.name.clone());
        return layer;
    };
    for Pair { key: full, value } in pairs {
        let Some(key) = full.strip_prefix(folder) else { continue };
        // What Consul's web page makes of a folder.
        if key.is_empty() || key.ends_with('/') {
            continue;
        }
        let name = format!("consul kv {full}");
        let dotted = key.replace('/', ".");
        let text = decoded(&value.unwrap_or_default()).and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(mut text) = text else {
            problem(&dotted, "is not UTF-8 text; write the value as UTF-8", name);
            continue;
        };
        if key == DOCUMENT {
            layer.documents.push(RemoteText { key: String::new(), name, text });
            continue;
        }
        // `consul kv put key @file` brings the newline of the file along, as secrets in files do.
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        layer.keys.push(RemoteText { key: dotted, name, text });
    }
    // A table's own key comes before those below it.
    layer.keys.sort_by(|a, b| a.key.cmp(&b.key));
    layer
}

/// Base64 (RFC 4648 §4, padded), as Consul sends values; none when it is not.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in text.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    // A lone character at the end says no byte, and what is left over is zero.
    (held < 6 && bits == 0).then_some(out)
}

/// Base64 as Consul's transactions want values.
pub(super) fn encoded(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or_default());
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for n in 0..4 {
            let six = (bits >> (18 - 6 * n)) & 63;
            out.push(if n <= chunk.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests;
