//! Changes while the service runs: read again, check the whole, swap what may be swapped, keep the last good value
//! otherwise.

use std::{collections::BTreeSet, fmt, future::Future, pin::pin, sync::Arc, time};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};

use super::{
    ConfigErrors, Inner, Loaded, check, last_net,
    schema::{Kind, Node},
    source::{Watched, is_below, join},
};

/// How often the files are looked at. Chosen: an operator waits no longer than this for an effect, and reading a few
/// small files costs nothing at this rate.
const POLL_INTERVAL: time::Duration = time::Duration::from_secs(2);

/// What a new configuration would change.
#[derive(Clone, Default)]
pub struct ReloadPlan {
    /// Keys that change while running.
    pub changed: Vec<String>,
    /// Keys that differ and need a restart; they keep the value they have.
    pub needs_restart: Vec<String>,
    /// The old values with the changes in them.
    apply: Value,
}

impl fmt::Debug for ReloadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changed, needs_restart, .. } = self;
        f.debug_struct("ReloadPlan")
            .field("changed", changed)
            .field("needs_restart", needs_restart)
            .finish_non_exhaustive()
    }
}

impl ReloadPlan {
    /// Compares what is in effect with what was read now. Decides only; nothing changes.
    #[must_use]
    pub fn new<T>(old: &Loaded<T>, new: &Loaded<T>) -> Self {
        let mut plan = Self::default();
        let apply = plan.differences(&old.inner.schema.root, Some(&old.inner.tree), Some(&new.inner.tree), "");
        plan.apply = apply.unwrap_or_else(|| Value::Object(Map::new()));
        plan
    }

    /// The value to use from now on: the new one where it may change, else the old one.
    fn differences(&mut self, node: &Node, old: Option<&Value>, new: Option<&Value>, path: &str) -> Option<Value> {
        if let (Kind::Table(table), Some(Value::Object(a)), Some(Value::Object(b))) = (&node.kind, old, new) {
            let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let values = names.into_iter().filter_map(|name| {
                let child = table.get(name)?;
                Some((name.clone(), self.differences(child, a.get(name), b.get(name), &join(path, name))?))
            });
            return Some(Value::Object(values.collect()));
        }
        if old == new {
            return old.cloned();
        }
        let (list, value) =
            if node.is_reloadable() { (&mut self.changed, new) } else { (&mut self.needs_restart, old) };
        list.push(path.to_owned());
        value.cloned()
    }

    /// Makes the configuration that the plan leads to.
    ///
    /// # Errors
    ///
    /// The type refuses the mixture of old and new values.
    pub fn apply<T: DeserializeOwned>(self, old: &Loaded<T>, new: &Loaded<T>) -> Result<Loaded<T>, ConfigErrors> {
        let root = &old.inner.schema.root;
        let kept = |key: &str| self.needs_restart.iter().any(|path| is_below(key, path));
        let pick = |from: &Loaded<T>, keep: bool| {
            let origins = from
                .inner
                .origins
                .iter()
                .filter(|(key, _)| kept(key) == keep)
                .map(|(key, origin)| (key.clone(), origin.clone()));
            origins.collect::<Vec<_>>()
        };
        let origins = pick(new, false).into_iter().chain(pick(old, true)).collect();
        let mut checked = check::Checked { tree: self.apply, origins, ..check::Checked::default() };
        let value = last_net::deserialize(root, &mut checked, &old.inner.defaults.root, "");
        let value = value.filter(|_| checked.problems.is_empty()).ok_or_else(|| ConfigErrors::new(checked.problems))?;
        Ok(Loaded {
            value: Arc::new(value),
            inner: Arc::new(Inner {
                schema: new.inner.schema.clone(),
                defaults: new.inner.defaults.clone(),
                sources: new.inner.sources.clone(),
                tree: checked.tree,
                origins: checked.origins,
                layers: new.inner.layers.clone(),
                read: new.inner.read.clone(),
                notes: new.inner.notes.clone(),
            }),
        })
    }
}

/// How the last reload went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// What is in effect is what the sources say, but for keys that need a restart.
    Good,
    /// The sources are wrong; the last good values stay in effect.
    Failed(Arc<ConfigErrors>),
}

/// What a reload did, for a health check and a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReloadStatus {
    /// How the last reload went.
    pub outcome: Outcome,
    /// The keys that the last good reload changed.
    pub changed: Vec<String>,
    /// The keys whose new value waits for a restart.
    pub needs_restart: Vec<String>,
}

type Load<T> = dyn Fn() -> Result<Loaded<T>, ConfigErrors> + Send + Sync;

/// Watches the files of a configuration, and the files of its secrets, by their contents, and publishes what may change.
pub struct Watcher<T> {
    load: Arc<Load<T>>,
    poke: Arc<Notify>,
    /// What the files held when they were last read.
    seen: Vec<Watched>,
    values: watch::Sender<Loaded<T>>,
    status: watch::Sender<ReloadStatus>,
}

impl<T> fmt::Debug for Watcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Watcher<T> {
    /// A watcher that starts from what was loaded. `load` reads everything again (and checks what only the caller
    /// knows); `poke` makes it do so at once, as SIGHUP does.
    pub fn new(
        current: Loaded<T>,
        poke: Arc<Notify>,
        load: impl Fn() -> Result<Loaded<T>, ConfigErrors> + Send + Sync + 'static,
    ) -> Self {
        let seen = current.inner.read.clone();
        let status = ReloadStatus { outcome: Outcome::Good, changed: Vec::new(), needs_restart: Vec::new() };
        Self {
            load: Arc::new(load),
            poke,
            seen,
            values: watch::Sender::new(current),
            status: watch::Sender::new(status),
        }
    }

    /// The configuration in effect, and each later one.
    pub fn values(&self) -> watch::Receiver<Loaded<T>> {
        self.values.subscribe()
    }

    /// How the last reload went.
    pub fn status(&self) -> watch::Receiver<ReloadStatus> {
        self.status.subscribe()
    }

    /// Watches until `shutdown` is done. Values that were published stay.
    pub async fn watch(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            let poked = tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.poke.notified() => true,
                () = tokio::time::sleep(POLL_INTERVAL) => false,
            };
            // A file system that hangs must not keep the service from stopping.
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.look(poked) => {}
            }
        }
    }

    /// Looks at the files once, and reloads when they changed, when asked to, or when the last reload failed (a missing
    /// secret file may be there now).
    async fn look(&mut self, poked: bool) {
        let (load, seen) = (Arc::clone(&self.load), self.seen.clone());
        let failed = matches!(self.status.borrow().outcome, Outcome::Failed(_));
        let read = tokio::task::spawn_blocking(move || {
            let now: Vec<_> = seen.iter().map(|file| Watched::read(&file.path).1).collect();
            (poked || failed || now != seen).then(|| (load(), now))
        });
        // Err: the load panicked, which its own counter tells of; the old value stays.
        if let Ok(Some((loaded, now))) = read.await {
            self.seen = now;
            self.publish(loaded, poked);
        }
    }

    fn publish(&mut self, loaded: Result<Loaded<T>, ConfigErrors>, poked: bool) {
        let old = self.values.borrow().clone();
        let done = loaded.and_then(|new| {
            let plan = ReloadPlan::new(&old, &new);
            let (changed, needs_restart) = (plan.changed.clone(), plan.needs_restart.clone());
            self.seen = new.inner.read.clone();
            Ok((plan.apply(&old, &new)?, changed, needs_restart))
        });
        let last = self.status.borrow().clone();
        let status = match done {
            Ok((value, changed, needs_restart)) => {
                // Origins may be new where values are not.
                self.values.send_if_modified(|current| {
                    *current = value;
                    !changed.is_empty()
                });
                ReloadStatus { outcome: Outcome::Good, changed, needs_restart }
            }
            Err(errors) => ReloadStatus { outcome: Outcome::Failed(Arc::new(errors)), ..last.clone() },
        };
        // A retry that fails as before is no news, but whoever asked for it wants an answer.
        if poked
            || status != last
            || matches!(&status, ReloadStatus { outcome: Outcome::Good, changed, .. } if !changed.is_empty())
        {
            self.status.send_replace(status);
        }
    }
}
