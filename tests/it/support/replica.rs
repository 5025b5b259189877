//! Endpoints that fail in every way a network knows, on real sockets, and a service that calls them.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use chassis::{
    Chassis,
    client::{CallError, Channel, Client},
    service::Raw,
    testing::{TestService, TestServiceBuilder},
};
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// What an endpoint does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Healthy,
    /// Answers after this time.
    Slow(Duration),
    /// 503 at once.
    Failing,
    /// Resets the connection in place of an answer.
    Resetting,
    /// Reads, and never answers.
    Silent,
}

/// One endpoint. Dropped, it is gone: nobody listens there any more.
#[derive(Debug)]
pub struct Replica {
    address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    requests: Arc<AtomicU64>,
    accepting: Option<AbortOnDropHandle<()>>,
    /// Keeps the port while it is killed.
    held: Option<socket2::Socket>,
}

impl Replica {
    pub async fn start(mode: Mode) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), mode).await
    }

    /// At this address.
    pub async fn start_at(address: SocketAddr, mode: Mode) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let mut replica = Self {
            address: listener.local_addr().expect("an address"),
            mode: Arc::new(watch::Sender::new(mode)),
            requests: Arc::default(),
            accepting: None,
            held: None,
        };
        replica.listen(listener);
        replica
    }

    /// So many that work.
    pub async fn healthy(count: usize) -> Vec<Self> {
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(Self::start(Mode::Healthy).await);
        }
        replicas
    }

    fn listen(&mut self, listener: TcpListener) {
        let (mode, requests) = (Arc::clone(&self.mode), Arc::clone(&self.requests));
        self.accepting = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            // Ends with this task, and all its connections with it.
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, mode.subscribe(), Arc::clone(&requests)));
                while connections.try_join_next().is_some() {}
            }
        })));
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many requests have come so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Closes its connections and listens no more.
    pub async fn kill(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
            self.held = Some(hold(self.address).expect("the same port"));
        }
    }

    /// Listens again, at the same address.
    pub async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the same port");
        self.held = None;
        self.listen(listener);
    }
}

/// A socket that keeps the port of a killed replica from the other tests of the process. It does not listen, so callers are
/// refused.
fn hold(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn serve(mut connection: TcpStream, mut mode: watch::Receiver<Mode>, requests: Arc<AtomicU64>) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut head = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = connection.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&chunk[..read]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        requests.fetch_add(1, Ordering::Relaxed);
        let now = *mode.borrow_and_update();
        match now {
            Mode::Healthy => {}
            Mode::Slow(time) => tokio::time::sleep(time).await,
            Mode::Failing => {
                connection.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await?;
                continue;
            }
            Mode::Resetting => {
                // Unread data makes the kernel send a reset; so does a linger of zero, always.
                socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            Mode::Silent => return std::future::pending().await,
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    }
}

/// `static://` of these.
pub fn target(replicas: &[Replica]) -> String {
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address().to_string()).collect();
    format!("static://{}", addresses.join(","))
}

/// A service that calls the destination `shop`.
#[derive(Debug)]
pub struct Caller {
    pub service: TestService,
    pub client: Client,
    /// The same destination for gRPC.
    pub channel: Channel,
}

impl Caller {
    pub async fn of(target: &str) -> Self {
        Self::with(target, |settings| settings).await
    }

    /// With settings of its own: `settings.set("clients.shop.attempt_timeout", "200ms")`.
    pub async fn with(target: &str, settings: impl FnOnce(TestServiceBuilder) -> TestServiceBuilder) -> Self {
        let made = Arc::new(Mutex::new(None));
        let make = Arc::clone(&made);
        let builder = settings(TestService::builder().set("clients.shop.target", target));
        let service = builder
            .start(move |chassis: Chassis| {
                let client = chassis.client("shop").expect("the destination is configured");
                let channel = chassis.channel("shop").expect("the same destination");
                *make.lock().unwrap() = Some((client, channel));
                chassis
            })
            .await
            .expect("the caller starts");
        let (client, channel) = made.lock().unwrap().take().expect("made before the service started");
        Self { service, client, channel }
    }

    pub async fn get(&self) -> Result<Bytes, CallError> {
        get(&self.client).await
    }

    /// One call that is not sent twice.
    pub async fn order(&self) -> Result<(), CallError> {
        self.client.call(Method::POST, "/orders").answer::<Raw<Bytes>>().await.map(drop)
    }

    /// So many calls by so many callers, each after the other.
    pub async fn calls(&self, calls: usize, callers: usize) -> Tally {
        self.calls_while(calls, callers, async {}).await
    }

    /// The same, while something else goes on.
    pub async fn calls_while(&self, calls: usize, callers: usize, meanwhile: impl Future<Output = ()>) -> Tally {
        let left = Arc::new(AtomicU64::new(calls as u64));
        let tasks = self.callers(callers, move || {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        });
        meanwhile.await;
        Tally::of(tasks).await
    }

    /// Calls by so many callers, until something else is done.
    pub async fn calls_until(&self, callers: usize, done: impl Future<Output = ()>) -> Tally {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let tasks = self.callers(callers, move || !stopped.is_cancelled());
        done.await;
        stop.cancel();
        Tally::of(tasks).await
    }

    fn callers(&self, callers: usize, goes_on: impl Fn() -> bool + Clone + Send + 'static) -> JoinSet<Tally> {
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (client, goes_on) = (self.client.clone(), goes_on.clone());
            tasks.spawn(async move {
                let mut tally = Tally::default();
                while goes_on() {
                    let started = Instant::now();
                    match get(&client).await {
                        Ok(_) => tally.answered.push(started.elapsed()),
                        Err(error) => tally.failed.push((started.elapsed(), error)),
                    }
                }
                tally
            });
        }
        tasks
    }

    /// What `/admin/dependencies` says of the attempts at one endpoint of `shop`.
    pub async fn attempts(&self, address: SocketAddr) -> Attempts {
        let page = self.dependency().await;
        let rows = page["endpoints"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["address"] == address.to_string().as_str());
        let row = row.unwrap_or_else(|| panic!("no {address} in {page:#}"));
        let count = |group: &str, key: &str| row[group][key].as_u64().unwrap_or_else(|| panic!("no {key} in {row:#}"));
        Attempts {
            spoiled: count("attempts", "total") - count("attempts", "success"),
            timed_out: count("attempts", "timed_out"),
            opened: count("breaker", "opened"),
        }
    }

    /// What `/admin/dependencies` says of `shop`.
    pub async fn dependency(&self) -> serde_json::Value {
        let page = self.service.operator("/admin/dependencies").await.expect("the operators' port answers").json();
        let rows = page.as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["name"] == "shop").unwrap_or_else(|| panic!("no shop in {page}"))
    }
}

async fn get(client: &Client) -> Result<Bytes, CallError> {
    let Raw(body): Raw<Bytes> = client.call(Method::GET, "/stock/pear").answer().await?;
    Ok(body)
}

/// Attempts at one endpoint so far.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// Those that came to nothing.
    pub spoiled: u64,
    pub timed_out: u64,
    /// How often the endpoint's breaker opened.
    pub opened: u64,
}

/// What became of calls.
#[derive(Debug, Default)]
pub struct Tally {
    /// How long each answered call took, shortest first.
    pub answered: Vec<Duration>,
    pub failed: Vec<(Duration, CallError)>,
}

impl Tally {
    async fn of(mut tasks: JoinSet<Self>) -> Self {
        let mut whole = Self::default();
        while let Some(tally) = tasks.join_next().await {
            let tally = tally.expect("a caller does not panic");
            whole.answered.extend(tally.answered);
            whole.failed.extend(tally.failed);
        }
        whole.answered.sort();
        whole
    }

    /// The time within which half of the answered calls were answered.
    pub fn median(&self) -> Duration {
        self.answered[self.answered.len() / 2]
    }

    /// Fails with the first few errors when there is one.
    #[track_caller]
    pub fn none_failed(&self) {
        let first: Vec<_> = self.failed.iter().take(3).map(|(took, error)| format!("{error} after {took:?}")).collect();
        let calls = self.failed.len() + self.answered.len();
        assert!(self.failed.is_empty(), "{} of {calls} calls failed: {first:#?}", self.failed.len());
    }
}
