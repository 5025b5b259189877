//! A constant load of kept-alive HTTP/1.1 connections that counts what is lost.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{http1::Connection, pace::PATIENCE};

/// What became of the requests. Each asks for an order of its own, so that spans can be told apart.
#[derive(Debug, Default)]
pub struct Tally {
    /// The orders that were answered.
    pub answered: BTreeSet<u32>,
    /// The orders whose request was written to an open connection and got no whole answer, and why.
    pub lost: Vec<(u32, String)>,
    /// How often the service said that it closes the connection.
    pub closes: u32,
}

/// The plan of a load, and what all its connections share.
#[derive(Debug)]
pub struct Load {
    next: AtomicU32,
    requests: u32,
    stopping: AtomicBool,
    answered: watch::Sender<u32>,
    tally: Mutex<Tally>,
}

impl Load {
    /// As many requests at most.
    pub fn of(requests: u32) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU32::new(1),
            requests,
            stopping: AtomicBool::new(false),
            answered: watch::Sender::new(0),
            tally: Mutex::default(),
        })
    }

    /// The next order to ask for; none when all were.
    pub fn next(&self) -> Option<u32> {
        let order = self.next.fetch_add(1, Ordering::Relaxed);
        (order <= self.requests).then_some(order)
    }

    pub fn answered(&self, order: u32, closes: bool) {
        let mut tally = self.tally.lock().unwrap();
        tally.answered.insert(order);
        tally.closes += u32::from(closes);
        drop(tally);
        self.answered.send_modify(|answered| *answered += 1);
    }

    pub fn lost(&self, order: u32, why: String) {
        self.tally.lock().unwrap().lost.push((order, why));
    }

    /// Waits until so many were answered.
    pub async fn reached(&self, answered: u32) {
        let mut count = self.answered.subscribe();
        let reached = timeout(PATIENCE, count.wait_for(|count| *count >= answered)).await;
        drop(reached.expect("the load goes on").expect("the load lives"));
    }

    /// From now on a refused connection is in order.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub fn tally(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap())
    }

    /// Starts the connections; each ends when it is refused, or when all requests were made.
    pub fn start(self: &Arc<Self>, address: SocketAddr, connections: u32) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for _ in 0..connections {
            set.spawn(self.clone().keep_asking(address));
        }
        set
    }

    async fn keep_asking(self: Arc<Self>, address: SocketAddr) {
        loop {
            let mut connection = match Connection::open(address).await {
                Ok(connection) => connection,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && self.is_stopping() => return,
                // Closed with the listener between the kernel's two answers: no request was written yet.
                Err(error) if error.kind() == ErrorKind::ConnectionReset && self.is_stopping() => return,
                Err(error) => return self.lost(0, format!("cannot connect: {error}")),
            };
            loop {
                let Some(order) = self.next() else { return };
                let asked = timeout(PATIENCE, connection.get(&format!("/orders/{order}"))).await;
                match asked {
                    Ok(Ok(answer)) if answer.status == 200 => {
                        let closes = answer.closes();
                        self.answered(order, closes);
                        if closes {
                            break;
                        }
                    }
                    Ok(Ok(answer)) => self.lost(order, format!("status {}", answer.status)),
                    Ok(Err(error)) => {
                        self.lost(order, error.to_string());
                        break;
                    }
                    Err(_) => {
                        self.lost(order, "no answer in time".to_owned());
                        break;
                    }
                }
            }
        }
    }
}

/// Waits until all connections of a load have ended.
pub async fn ended(mut load: JoinSet<()>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while let Some(connection) = timeout_at(deadline, load.join_next()).await.expect("the load ends in time") {
        connection.expect("the load does not panic");
    }
}
