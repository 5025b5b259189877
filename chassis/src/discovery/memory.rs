//! The registry of this process: services that run side by side find each other without any other program.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, EndpointHealth, Registrar, Registration, Resolver, Standing, Task, Updates};

/// The registry of this process, for `memory://` targets: tests, and programs that run several services.
///
/// A clone is the same registry. [`Memory::process`] is the one that targets and `discovery.register = "memory"` mean; a
/// test has its own by [`Memory::default`].
#[derive(Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Default)]
struct Shared {
    services: Mutex<BTreeMap<String, watch::Sender<Vec<Entry>>>>,
}

/// One instance. The key tells two registrations of the same id apart: the end of one leaves the other in.
#[derive(Debug, Clone)]
struct Entry {
    key: Arc<()>,
    endpoint: Endpoint,
}

impl Memory {
    /// The registry of the whole process.
    #[must_use]
    pub fn process() -> Self {
        static PROCESS: LazyLock<Memory> = LazyLock::new(Memory::default);
        PROCESS.clone()
    }

    /// What follows the instances of this service. Instances without a service of that name are an empty list.
    #[must_use]
    pub fn resolver(&self, service: &str) -> MemoryResolver {
        MemoryResolver { memory: self.clone(), service: service.to_owned() }
    }

    /// The instances of this service, as they are now.
    #[must_use]
    pub fn endpoints(&self, service: &str) -> Vec<Endpoint> {
        self.services().get(service).map(|entries| list(&entries.borrow())).unwrap_or_default()
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Vec<Entry>>>> {
        self.0.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, service: &str, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut services = self.services();
        services.entry(service.to_owned()).or_default().send_modify(change);
        // A name that nobody has or wants would stay for ever.
        services.retain(|_, entries| !entries.borrow().is_empty() || entries.receiver_count() > 0);
    }

    fn follow(&self, service: &str) -> watch::Receiver<Vec<Entry>> {
        self.services().entry(service.to_owned()).or_default().subscribe()
    }
}

fn list(entries: &[Entry]) -> Vec<Endpoint> {
    entries.iter().map(|entry| entry.endpoint.clone()).collect()
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.services();
        f.debug_map().entries(services.iter().map(|(name, entries)| (name, entries.borrow().len()))).finish()
    }
}

/// Follows one service of a [`Memory`].
#[derive(Debug, Clone)]
pub struct MemoryResolver {
    memory: Memory,
    service: String,
}

impl Resolver for MemoryResolver {
    fn follow(&self, updates: Updates) -> Task {
        let mut entries = self.memory.follow(&self.service);
        updates.set(list(&entries.borrow_and_update()));
        Box::pin(async move {
            // The sender stays in the registry as long as this receiver is there.
            while entries.changed().await.is_ok() {
                let endpoints = list(&entries.borrow_and_update());
                updates.set(endpoints);
            }
            std::future::pending::<()>().await;
        })
    }
}

/// An entry is there as soon as its future is made, and is taken out when `stop` is cancelled or the future is dropped.
impl Registrar for Memory {
    fn keep(
        &self,
        registration: Registration,
        mut standing: watch::Receiver<Standing>,
        stop: CancellationToken,
    ) -> Task {
        let endpoint = endpoint(&registration, standing.borrow_and_update().health);
        let listed = Listed { memory: self.clone(), service: registration.service, key: Arc::default() };
        let entry = Entry { key: Arc::clone(&listed.key), endpoint };
        self.change(&listed.service, |entries| entries.push(entry));
        Box::pin(async move {
            let follow = async {
                while standing.changed().await.is_ok() {
                    let health = standing.borrow_and_update().health;
                    listed.change(health);
                }
                std::future::pending::<()>().await;
            };
            stop.run_until_cancelled(follow).await;
            drop(listed);
        })
    }
}

fn endpoint(registration: &Registration, health: EndpointHealth) -> Endpoint {
    let mut endpoint = Endpoint::at(&registration.host, registration.port);
    endpoint.id = registration.id.as_str().into();
    endpoint.weight = registration.weight.max(1);
    endpoint.zone = registration.metadata.get("zone").map(|zone| zone.as_str().into());
    endpoint.health = health;
    endpoint.metadata = Arc::new(registration.metadata.clone());
    endpoint
}

/// Takes an entry out when it is dropped.
struct Listed {
    memory: Memory,
    service: String,
    key: Arc<()>,
}

impl Listed {
    fn change(&self, health: EndpointHealth) {
        self.memory.change(&self.service, |entries| {
            for entry in entries.iter_mut().filter(|entry| Arc::ptr_eq(&entry.key, &self.key)) {
                entry.endpoint.health = health;
            }
        });
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.memory.change(&self.service, |entries| entries.retain(|entry| !Arc::ptr_eq(&entry.key, &self.key)));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;
    use crate::discovery::{Freshness, Resolution};

    fn registration(id: &str, port: u16) -> Registration {
        Registration {
            service: "inventory".to_owned(),
            id: id.to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            tags: Vec::new(),
            metadata: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            weight: 2,
        }
    }

    fn standing(health: EndpointHealth) -> Standing {
        Standing { health, note: String::new() }
    }

    fn ports(receiver: &watch::Receiver<Resolution>) -> Vec<u16> {
        let resolution = receiver.borrow();
        assert!(matches!(resolution.freshness, Freshness::Fresh));
        resolution.endpoints.iter().map(|endpoint| endpoint.port).collect()
    }

    /// Lets a task do what it can.
    async fn turn(task: &mut Task) -> bool {
        let mut task = Pin::new(task);
        std::future::poll_fn(|cx| std::task::Poll::Ready(task.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn services_of_one_process_find_each_other() {
        let memory = Memory::default();
        let (updates, found) = Updates::channel();
        let mut follow = memory.resolver("inventory").follow(updates);
        assert_eq!(ports(&found), [0_u16; 0]);

        let (health, standing_of_one) = watch::channel(standing(EndpointHealth::Critical));
        let stop = CancellationToken::new();
        let mut one = memory.keep(registration("one", 1), standing_of_one.clone(), stop.clone());
        let two = memory.clone().keep(registration("two", 2), standing_of_one, CancellationToken::new());
        assert!(!turn(&mut follow).await);
        assert_eq!(ports(&found), [1, 2]);
        let endpoint = found.borrow().endpoints[0].clone();
        assert_eq!((&*endpoint.id, endpoint.weight, endpoint.zone.as_deref()), ("one", 2, Some("a")));
        assert_eq!(endpoint.health, EndpointHealth::Critical);

        health.send_replace(standing(EndpointHealth::Passing));
        assert!(!turn(&mut one).await && !turn(&mut follow).await);
        assert_eq!(found.borrow().endpoints[0].health, EndpointHealth::Passing);

        // The end of the instance, and a future that is dropped.
        stop.cancel();
        assert!(turn(&mut one).await && !turn(&mut follow).await);
        assert_eq!(ports(&found), [2]);
        drop(two);
        assert!(!turn(&mut follow).await);
        assert_eq!(ports(&found), [0_u16; 0]);
    }

    #[tokio::test]
    async fn an_entry_goes_with_its_own_future_only() {
        let memory = Memory::default();
        let (_health, standing) = watch::channel(standing(EndpointHealth::Passing));
        let first = memory.keep(registration("same", 1), standing.clone(), CancellationToken::new());
        let second = memory.keep(registration("same", 1), standing, CancellationToken::new());
        drop(first);
        assert_eq!(memory.endpoints("inventory").len(), 1);
        drop(second);
        assert_eq!(memory.endpoints("inventory"), []);
        assert!(memory.services().is_empty(), "names without instances and followers are forgotten");
    }
}
