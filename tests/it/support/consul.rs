//! Real Consul agents, each on a loopback address of its own, so that no two can want one port.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use chassis::consul::{Consul, ConsulConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{
    account::{finished, standing},
    process::Folder,
    raw::Raw,
};

pub use super::pace::PATIENCE;

/// An agent that is a server too. Dropped, it is killed and its data is gone.
#[derive(Debug)]
pub struct Agent {
    host: Ipv4Addr,
    /// Keeps the address for this test.
    _claim: UdpSocket,
    folder: Folder,
    config: Value,
    /// For the test's own calls.
    token: Option<&'static str>,
    child: Option<Child>,
}

impl Agent {
    /// A server of its own, with a leader.
    pub async fn start() -> Self {
        let mut agent = Self::reserved();
        agent.begin().await;
        agent
    }

    /// With more of Consul's own configuration: `json!({ "session_ttl_min": "1s" })`.
    pub async fn start_with(config: Value) -> Self {
        let mut agent = Self::reserved_with(config);
        agent.begin().await;
        agent
    }

    /// An address where nobody listens until [`begin`](Self::begin).
    pub fn reserved() -> Self {
        Self::reserved_with(json!({}))
    }

    fn reserved_with(config: Value) -> Self {
        Self::at(next_host(), merged(json!({ "bootstrap": true }), config))
    }

    fn at((host, claim): (Ipv4Addr, UdpSocket), config: Value) -> Self {
        Self { host, _claim: claim, folder: Folder::new(), config, token: None, child: None }
    }

    /// A server of its own that lets nobody in without a token. The one given may everything; it is a UUID.
    pub async fn start_closed(token: &'static str) -> Self {
        let tokens = json!({ "master": token, "agent": token });
        let acl = json!({ "enabled": true, "default_policy": "deny", "tokens": tokens });
        let mut agent = Self::reserved_with(json!({ "acl": acl }));
        agent.token = Some(token);
        agent.begin().await;
        agent
    }

    /// A token for this alone: `service "orders" { policy = "write" }`.
    pub async fn token_for(&self, name: &str, rules: &str) -> String {
        self.put("/v1/acl/policy", &json!({ "Name": name, "Rules": rules }).to_string()).await;
        let wanted = json!({ "Policies": [{ "Name": name }] }).to_string();
        let (status, answer) = self.api("PUT", "/v1/acl/token", &wanted).await.expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let token: Value = serde_json::from_str(&answer).unwrap();
        token["SecretID"].as_str().unwrap().to_owned()
    }

    /// Starts it, with the data it had when it was killed, and waits until it has a leader and knows itself.
    pub async fn begin(&mut self) {
        self.spawn();
        self.ready().await;
    }

    fn spawn(&mut self) {
        let host = self.host.to_string();
        let config = json!({
            "server": true, "data_dir": self.folder.path().join("data"), "node_name": host, "datacenter": "dc1",
            "bind_addr": host, "client_addr": host, "ports": { "dns": -1, "http": 8500 },
            // As fast as Consul advises for production; the default suits small machines.
            "performance": { "raft_multiplier": 1 },
            "disable_update_check": true, "log_level": "warn",
        });
        let path = self.folder.write("agent.json", &merged(config, self.config.clone()).to_string());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["agent", "-config-file"]).arg(path).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{} does not start: {error}", program().display())));
    }

    async fn ready(&self) {
        let path = format!("/v1/catalog/node/{}", self.host);
        self.eventually(&path, |node| node["Services"]["consul"].is_object()).await;
    }

    /// Kills it: it says nothing to anybody.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("it is killed");
    }

    /// Throws away the data of one that was killed: it will begin as new.
    pub fn forget(&self) {
        assert!(self.child.is_none(), "it runs");
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("it had data");
    }

    /// It holds its connections and answers nothing until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id).expect("it runs");
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).expect("the signal is sent");
    }

    /// `host:port` of its HTTP API, as `CONSUL_HTTP_ADDR` takes it.
    pub fn address(&self) -> String {
        format!("{}:8500", self.host)
    }

    /// Where it answers over TLS, when its configuration gives it port 8501.
    pub fn secure_address(&self) -> String {
        format!("https://{}:8501", self.host)
    }

    /// What talks to it in the service.
    pub fn client(&self) -> Consul {
        let config = ConsulConfig { address: self.address(), ..ConsulConfig::default() };
        Consul::new(&config).expect("a client")
    }

    /// Consul's own command line; what it prints.
    pub async fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program());
        command.args(arguments).env("CONSUL_HTTP_ADDR", self.address());
        let output = finished(&mut command, None, PATIENCE).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "consul {arguments:?}: {}\n{stdout}{stderr}", output.status);
        stdout
    }

    /// One call of the API, by hand: status and body. `None`: no answer.
    pub async fn api(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let socket = tokio::net::TcpStream::connect(SocketAddr::from((self.host, 8500))).await.ok()?;
        let mut raw = Raw::on(socket);
        let length = body.len();
        let token = self.token.map(|token| format!("x-consul-token: {token}\r\n")).unwrap_or_default();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: consul\r\nconnection: close\r\n{token}content-length: {length}");
        raw.send(format!("{head}\r\n\r\n{body}")).await;
        let answer = raw.answer().await?;
        Some((answer.status, String::from_utf8(answer.body).unwrap()))
    }

    /// After how long in critical state it takes the service out, as it wrote it down.
    pub fn forgets_after(&self, service: &str) -> Duration {
        let checks = std::fs::read_dir(self.folder.path().join("data/checks")).expect("it keeps checks").flatten();
        let checks = checks.filter_map(|file| serde_json::from_slice::<Value>(&std::fs::read(file.path()).ok()?).ok());
        let checks: Vec<Value> = checks.collect();
        let own = checks.iter().find(|check| check["Check"]["ServiceID"] == service);
        let after = own.map(|check| &check["ChkType"]["DeregisterCriticalServiceAfter"]);
        // Versions differ in how they write it: a number is nanoseconds.
        match after {
            Some(Value::String(text)) if text == "10m0s" => Duration::from_secs(600),
            Some(Value::Number(nanoseconds)) => Duration::from_nanos(nanoseconds.as_u64().unwrap_or_default()),
            other => panic!("found {other:?} in {checks:#?}"),
        }
    }

    /// What it has there, as JSON; null when there is nothing to be had.
    pub async fn get(&self, path: &str) -> Value {
        match self.api("GET", path, "").await {
            Some((200, body)) => serde_json::from_str(&body).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// Puts it there.
    pub async fn put(&self, path: &str, body: &str) {
        let (status, answer) = self.api("PUT", path, body).await.expect("an answer");
        assert_eq!(status, 200, "PUT {path}: {answer}");
    }

    /// Waits until what it has there is as it should be.
    pub async fn eventually(&self, path: &str, as_it_should: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = timeout(PATIENCE, async {
            loop {
                last = self.get(path).await;
                if as_it_should(&last) {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
        if found.await.is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let agent = self.child.as_ref().map_or("it was not started".to_owned(), |child| standing(child.id()));
            panic!("{path} did not come to be as it should: {last:#}\nthe agent: {agent}\n{log}");
        }
        last
    }
}

/// Three servers, one of which leads.
#[derive(Debug)]
pub struct Cluster {
    pub servers: Vec<Agent>,
}

impl Cluster {
    pub async fn start() -> Self {
        let claims: Vec<_> = (0..3).map(|_| next_host()).collect();
        let hosts: Vec<_> = claims.iter().map(|(host, _)| *host).collect();
        let config = json!({ "bootstrap_expect": 3, "retry_join": hosts, "retry_interval": "1s" });
        let mut servers: Vec<Agent> = claims.into_iter().map(|claim| Agent::at(claim, config.clone())).collect();
        servers.iter_mut().for_each(Agent::spawn);
        for server in &servers {
            server.ready().await;
        }
        Self { servers }
    }

    /// Which of the servers leads, as this one sees it.
    pub async fn leader(&self, seen_by: usize) -> Option<usize> {
        let leader = self.servers[seen_by].get("/v1/status/leader").await;
        let host = leader.as_str()?.rsplit_once(':')?.0.to_owned();
        self.servers.iter().position(|server| server.host.to_string() == host)
    }
}

fn program() -> PathBuf {
    let program = std::env::var_os("XTASK_CONSUL");
    PathBuf::from(program.expect("no Consul: run `cargo xtask test`, or set XTASK_CONSUL to the program"))
}

/// An address of the loopback network (RFC 1122: all of 127/8) that no other agent of this machine has, and what keeps it:
/// a port that no agent wants. Another process may have come to the same addresses, so the next one is tried then.
fn next_host() -> (Ipv4Addr, UdpSocket) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    const CLAIM: u16 = 8999;
    let [.., high, low] = std::process::id().to_be_bytes();
    loop {
        let next = u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).expect("few agents");
        let host = Ipv4Addr::new(127, high | 0x40, low, next);
        // Nor may somebody be there who claims nothing: the agent of a test that was killed, say.
        let free = [8300, 8500].iter().all(|port| std::net::TcpListener::bind((host, *port)).is_ok());
        if let (true, Ok(claim)) = (free, UdpSocket::bind((host, CLAIM))) {
            return (host, claim);
        }
    }
}

/// The keys of both, the second one's where both have it.
fn merged(mut base: Value, over: Value) -> Value {
    if let (Some(base), Value::Object(over)) = (base.as_object_mut(), over) {
        base.extend(over);
    }
    base
}
