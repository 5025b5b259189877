//! A call through the whole client stack beside one through bare hyper: `cargo xtask bench --outbound`.
//!
//! One endpoint, a closed breaker, one kept connection, everything on, no trace sampled. All sides ask the same server on the
//! same thread, one call at a time, in turns of rounds. The thread's own CPU time is what counts, so that a neighbour on the
//! machine is not in the figure; the server's share is the same for all, and falls out of the differences.
//!
//! `outbound stack 2000` makes so many calls of one side (`bare`, `plain`, `stack`) and nothing else, for a profiler.

mod parts;
mod server;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use bytes::Bytes;
use chassis::{Chassis, client::Client, config::Sources, identity::BuildInfo, service::Raw};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustix::time::{ClockId, clock_gettime};

/// Rounds of each side; the figure is the median of the differences inside pairs.
const ROUNDS: usize = 31;
/// Calls in a round.
const CALLS: u32 = 3_000;
/// Calls whose allocations are counted.
const COUNTED: u32 = 500;
/// What the stack is to add to a call at most: microseconds of CPU time, for the reader.
const MICROS: f64 = 2.0;
/// And allocations, which fail the run. 15 would be allowed; it makes 3.
const ALLOCATIONS: f64 = 4.0;

type Hyper = legacy::Client<HttpConnector, Empty<Bytes>>;
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("outbound: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report")]
fn say(line: &str) {
    println!("{line}");
}

fn run() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sides = runtime.block_on(async { Sides::new(server::start().await?) })?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [side, calls] = &arguments[..] {
        return runtime.block_on(sides.calls(Side::named(side)?, calls.parse()?));
    }
    let mut times = [const { Vec::new() }; 3];
    // The first round is not counted: it makes the connections and fills the caches.
    for round in 0..=ROUNDS {
        for (side, times) in Side::ALL.into_iter().zip(&mut times) {
            let start = cpu();
            runtime.block_on(sides.calls(side, CALLS))?;
            if round > 0 {
                times.push((cpu() - start).as_secs_f64() * 1e6 / f64::from(CALLS));
            }
        }
    }
    let mut allocations = [0.0; 3];
    for (side, allocations) in Side::ALL.into_iter().zip(&mut allocations) {
        let mut outcome = Ok(());
        let counted = allocation_counter::measure(|| outcome = runtime.block_on(sides.calls(side, COUNTED)));
        outcome?;
        #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
        let count = counted.count_total as f64;
        *allocations = count / f64::from(COUNTED);
    }
    report(&times, allocations)?;
    report_parts();
    Ok(())
}

/// Prints what two parts cost alone.
fn report_parts() {
    say(&format!("a closed breaker: {:.1} ns a call (limit 40)", parts::breaker()));
    let [few, many] = [10, 1_000].map(parts::balance);
    say(&format!(
        "through the balancer: {few:.0} ns with 10 endpoints, {many:.0} ns with 1,000: ratio {:.2} (limit 2)",
        many / few
    ));
}

/// Prints the figures; fails when the stack allocates more than it may.
fn report([bare, plain, stack]: &[Vec<f64>; 3], allocations: [f64; 3]) -> Outcome<()> {
    let inside = |side: &[f64], base: &[f64], compare: fn(f64, f64) -> f64| {
        median(side.iter().zip(base).map(|(side, base)| compare(*side, *base)).collect())
    };
    say(&format!("{:<34} {:>8} {:>9} {:>7} {:>12}", "one call", "CPU us", "added us", "ratio", "allocations"));
    let names = ["bare hyper", "Client::new, no stack", "chassis.client, the whole stack"];
    for ((name, side), allocations) in names.into_iter().zip([bare, plain, stack]).zip(allocations) {
        let (added, ratio) = (inside(side, bare, |a, b| a - b), inside(side, bare, |a, b| a / b));
        say(&format!("{name:<34} {:>8.2} {added:>9.2} {ratio:>7.3} {allocations:>12.1}", median(side.clone())));
    }
    let added = allocations[2] - allocations[1];
    let micros = inside(stack, plain, |a, b| a - b);
    say(&format!("the stack alone: {micros:.2} us (limit {MICROS}), {added:.1} allocations (limit {ALLOCATIONS})"));
    if added > ALLOCATIONS {
        return Err(format!("the stack allocates {added:.1} times a call, the limit is {ALLOCATIONS}").into());
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Side {
    Bare,
    Plain,
    Stack,
}

impl Side {
    const ALL: [Self; 3] = [Self::Bare, Self::Plain, Self::Stack];

    fn named(name: &str) -> Outcome<Self> {
        match name {
            "bare" => Ok(Self::Bare),
            "plain" => Ok(Self::Plain),
            "stack" => Ok(Self::Stack),
            _ => Err(format!("found the side {name:?}, expected bare, plain or stack").into()),
        }
    }
}

struct Sides {
    address: SocketAddr,
    hyper: Hyper,
    plain: Client,
    stack: Client,
    _chassis: Chassis,
}

impl Sides {
    fn new(address: SocketAddr) -> Outcome<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let hyper = legacy::Client::builder(TokioExecutor::new()).build(connector);
        let plain = Client::new(&format!("http://{address}")).map_err(|error| error.to_string())?;
        let build = BuildInfo { name: "outbound", version: "0.0.0", git_commit: None, built_at: "unknown" };
        let set = vec![format!("clients.echo.target=static://{address}"), "log.filter=off".to_owned()];
        let sources = Sources { dir: "no-such-folder".into(), set, ..Sources::default() };
        let chassis: Chassis = Chassis::new(build, sources).map_err(|error| error.to_string())?;
        let stack = chassis.client("echo").map_err(|error| error.to_string())?;
        Ok(Self { address, hyper, plain, stack, _chassis: chassis })
    }

    async fn bare(&self) -> Outcome<()> {
        let request = Request::get(format!("http://{}/orders/7", self.address)).body(Empty::new())?;
        let body = self.hyper.request(request).await?.into_body().collect().await?.to_bytes();
        expect(&body)
    }

    async fn calls(&self, side: Side, count: u32) -> Outcome<()> {
        for _ in 0..count {
            match side {
                Side::Bare => self.bare().await?,
                Side::Plain => typed(&self.plain).await?,
                Side::Stack => typed(&self.stack).await?,
            }
        }
        Ok(())
    }
}

async fn typed(client: &Client) -> Outcome<()> {
    let Raw(body): Raw<Bytes> = client.call(Method::GET, "/orders/7").answer().await?;
    expect(&body)
}

fn expect(body: &Bytes) -> Outcome<()> {
    if body.len() == 215 { Ok(()) } else { Err(format!("found {} bytes, expected 215", body.len()).into()) }
}

/// The time that this thread has run.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
