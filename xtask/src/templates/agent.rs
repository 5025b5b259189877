//! A real Consul agent, for the projects that announce themselves.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::project::{Project, get, wait_for};
use crate::{Result, consul, shell};

/// Killed when dropped.
struct Agent {
    process: Child,
    address: SocketAddr,
}

/// A run of the project during which Consul names it, and after which it does not.
pub(super) fn announced(project: &Project) -> Result<()> {
    let agent = Agent::start()?;
    let address = format!("http://{}", agent.address);
    let service = project.start(&[("CONSUL_HTTP_ADDR", &address)])?;
    let path = format!("/v1/health/service/{}?passing", project.name);
    let port = format!("\"Port\": {},", service.http.port());
    let named = |body: &str| body.replace("\":", "\": ").replace("\":  ", "\": ").contains(&port);
    wait_for("passing check in Consul", || Ok(agent.ask(&path).filter(|body| named(body))))?;
    service.stop()?;
    let path = format!("/v1/catalog/service/{}", project.name);
    match agent.ask(&path).as_deref().map(str::trim) {
        Some("[]") => Ok(()),
        left => Err(format!("after its end Consul still names {}: {left:?}", project.name).into()),
    }
}

impl Agent {
    /// On a loopback address of its own, so that its ports are free.
    fn start() -> Result<Self> {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = format!("127.71.{high}.{}", low.clamp(1, 254));
        let program = consul::find(&shell::root().join(".cache"))?;
        let mut agent = shell::command(program);
        agent.args(["agent", "-dev", "-node=templates", "-log-level=warn", "-dns-port=-1"]);
        agent.args(["-hcl", "disable_update_check = true ports { grpc = -1 }"]);
        agent.args([format!("-bind={host}"), format!("-client={host}")]);
        let log = super::playground().join("consul.log");
        let file = File::create(&log)?;
        let process = agent.stdout(file.try_clone()?).stderr(file).spawn()?;
        let mut agent = Self { process, address: format!("{host}:8500").parse()? };
        wait_for("Consul", || match agent.process.try_wait()? {
            Some(status) => {
                let said = shell::tail(&fs::read_to_string(&log).unwrap_or_default());
                Err(format!("Consul ended with {status}:\n{said}").into())
            }
            None => Ok(agent.ask("/v1/catalog/node/templates").filter(|body| body.contains("\"consul\""))),
        })?;
        Ok(agent)
    }

    /// The body of a 200.
    fn ask(&self, path: &str) -> Option<String> {
        get(self.address, path).ok().filter(|(status, _)| *status == 200).map(|(_, body)| body)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}
