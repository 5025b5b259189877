//! The binaries of `examples/adopt-axum` and `examples/adopt-tonic`, all started the same way.

use std::net::SocketAddr;

use rustix::process::Signal;

use super::{
    http1::{self, Answer},
    process::{Process, Quickstart, Service},
};

/// One level of a service, on free ports.
#[derive(Debug)]
pub struct Adopted {
    pub process: Process,
    pub http: SocketAddr,
    /// None at the level that has no chassis.
    pub admin: Option<SocketAddr>,
}

impl Adopted {
    /// Starts the level, which finds the inventory there, and waits until it serves.
    pub async fn start(kind: &str, level: &str, inventory: SocketAddr) -> Self {
        with(kind, level, inventory, &[]).await
    }

    /// GET on the main port, on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        http1::get(self.http, path).await
    }

    /// GET on the operators' port, on a connection of its own.
    pub async fn operator(&self, path: &str) -> Answer {
        http1::get(self.admin.expect("an operators' port"), path).await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.exit_code().await
    }
}

/// As [`Adopted::start`], with more variables.
pub async fn with(kind: &str, level: &str, inventory: SocketAddr, env: &[(&str, String)]) -> Adopted {
    let (name, inventory) = (format!("adopt-{kind}-{level}"), inventory.to_string());
    // What the service has always read; the arguments are for the level that has a command line.
    let service = Quickstart::example(&name)
        .env("LISTEN", "127.0.0.1:0")
        .env("STOCK_ADDRESS", &inventory)
        .env("CHASSIS_ADMIN__ADDRESS", "127.0.0.1:0")
        .set("clients.inventory.target", &format!("static://{inventory}"));
    let process = env.iter().fold(service, |service, (name, value)| service.env(name, value)).spawn();
    let line = process.says("serving").await;
    if level == "plain" {
        // Its servers look at the signal for the first time when they serve already.
        process.catches(Signal::TERM).await;
    }
    Adopted { http: address(&line, "http").expect("an address"), admin: address(&line, "admin"), process }
}

/// Level 4, which must be told where the inventory is.
pub fn level4_without_an_inventory() -> Quickstart {
    Quickstart::example("adopt-axum-level4")
}

/// An inventory that no registry knows.
pub async fn inventory() -> Service {
    Quickstart::example("inventory").start().await
}

/// The address of this name in a line of either format: `http=127.0.0.1:80`, `"http":"127.0.0.1:80"`.
fn address(line: &str, name: &str) -> Option<SocketAddr> {
    let marks = [format!(" {name}="), format!("\"{name}\":\"")];
    let found = marks.iter().find_map(|mark| line.split_once(mark.as_str()))?.1;
    found.split(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).next()?.parse().ok()
}
