//! `cargo xtask bench`: quickstart with everything on against the same handler on bare axum, in one run.

mod cores;
mod handler;
mod histogram;
mod instructions;
mod load;
mod outbound;
mod server;
mod sink;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use cores::Cores;
use load::Load;
use server::{Program, Server};
use sink::Sink;

use crate::{Result, shell};

const USAGE: &str = "\
usage: cargo xtask bench [OPTIONS]
       cargo xtask bench --handler [--gate RATIO]
       cargo xtask bench --outbound

  --instructions      count user instructions per request with callgrind as well (needs valgrind)
  --gate N            with --instructions: fail when the candidate needs more than N of them
  --json PATH         write the figures there too
  --rounds N          rounds of each server, interleaved (default 7, at most 50)
  --seconds N         length of a round (default 4, at most 60)
  --connections N     keep-alive connections (default 64, at most 1000)
  --candidate PACKAGE what to measure against bare-axum (default quickstart);
                      bare-axum against itself shows what the machine's noise is worth

  --handler           count the instructions of #[service]'s handlers against those of handlers written by hand
                      (needs valgrind); fail when a ratio is above 1.03, or above --gate RATIO
  --outbound          a call through the client stack beside one through bare hyper";

const BASELINE: &str = "bare-axum";
/// Long enough for caches, branch predictors and the allocator to settle.
const WARM_UP: Duration = Duration::from_secs(1);
const READY_LIMIT: Duration = Duration::from_secs(10);
/// Starts whose median is the time to ready.
const STARTS: usize = 5;
/// Below this share of its core the server was waiting: for the load generator, or for a core that others used.
const SATURATED: f64 = 0.95;

#[derive(Debug)]
struct Options {
    instructions: bool,
    gate: Option<f64>,
    json: Option<String>,
    rounds: usize,
    seconds: u64,
    connections: usize,
    candidate: String,
}

/// One server over one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    requests_per_second: f64,
    cpu_micros: f64,
    p50_micros: f64,
    p99_micros: f64,
    core_share: f64,
}

/// One line of the report: a figure of both servers.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    key: &'static str,
    decimals: usize,
    baseline: f64,
    candidate: f64,
    ratio: f64,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    if arguments.iter().any(|argument| argument == "--handler") {
        let others: Vec<&String> = arguments.iter().filter(|argument| *argument != "--handler").collect();
        return handler::run(&others);
    }
    if arguments.iter().any(|argument| argument == "--outbound") {
        let others: Vec<&String> = arguments.iter().filter(|argument| *argument != "--outbound").collect();
        return outbound::run(&others);
    }
    let options = Options::parse(arguments)?;
    if cfg!(debug_assertions) {
        // An unoptimised load generator would be the slower side.
        let again = ["run", "--quiet", "--release", "--locked", "--package", "xtask", "--", "bench"].map(str::to_owned);
        return shell::run(&mut shell::cargo(again.iter().chain(arguments)));
    }
    measure(&options)
}

fn measure(options: &Options) -> Result<()> {
    let sink = Sink::start()?;
    let baseline = Program::build(BASELINE, Vec::new())?;
    let candidate = Program::build(&options.candidate, everything_on(&sink))?;
    let cores = Cores::take()?;

    let mut figures = vec![idle(&baseline, &candidate, &cores)?, ready(&baseline, &candidate, &cores)?];
    let rounds = throughput(&baseline, &candidate, &cores, options)?;
    figures.splice(0..0, summary(&rounds));
    if options.instructions {
        let counts = (instructions::per_request(&baseline, &cores)?, instructions::per_request(&candidate, &cores)?);
        figures.push(Figure::new("user instructions per request", "instructions_per_request", 0, counts.0, counts.1));
    }

    print(&figures, &rounds, &sink, options);
    if let Some(path) = &options.json {
        std::fs::write(path, json(&figures, options))?;
    }
    match (options.gate, figures.iter().find(|figure| figure.key == "instructions_per_request")) {
        (Some(limit), Some(figure)) if figure.candidate > limit => Err(format!(
            "{} needs {:.0} instructions a request, the gate is {limit}",
            options.candidate, figure.candidate
        )
        .into()),
        _ => Ok(()),
    }
}

/// What an operator turns on: 1 % of traces sampled and exported, metrics, access log to stdout.
fn everything_on(sink: &Sink) -> Vec<(&'static str, String)> {
    vec![
        ("CHASSIS_HTTP__ADDRESS", "127.0.0.1:0".to_owned()),
        ("CHASSIS_ADMIN__ADDRESS", "127.0.0.1:0".to_owned()),
        ("CHASSIS_RUNTIME__WORKER_THREADS", "1".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", sink.address)),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned()),
    ]
}

/// Memory of a service that is ready and has nothing to do.
#[allow(clippy::disallowed_methods, clippy::cast_precision_loss, reason = "xtask may sleep; bytes are far below 2^53")]
fn idle(baseline: &Program, candidate: &Program, cores: &Cores) -> Result<Figure> {
    let resident = |program| -> Result<f64> {
        let server = Server::start(program, &[], cores, READY_LIMIT)?;
        std::thread::sleep(Duration::from_secs(1));
        let resident = server.resident()? as f64 / (1024.0 * 1024.0);
        server.stop()?;
        Ok(resident)
    };
    Ok(Figure::new("resident when idle, MiB", "idle_mib", 1, resident(baseline)?, resident(candidate)?))
}

/// From the start of the process to the first 200.
fn ready(baseline: &Program, candidate: &Program, cores: &Cores) -> Result<Figure> {
    let ready = |program| -> Result<f64> {
        let start = |_| Ok(Server::start(program, &[], cores, READY_LIMIT)?.ready_after.as_secs_f64() * 1000.0);
        Ok(median((0..STARTS).map(start).collect::<Result<_>>()?))
    };
    Ok(Figure::new("ready after, ms", "ready_ms", 1, ready(baseline)?, ready(candidate)?))
}

/// Pairs of rounds, each with the baseline and the candidate; who goes first alternates.
fn throughput(baseline: &Program, candidate: &Program, cores: &Cores, options: &Options) -> Result<Vec<[Round; 2]>> {
    let servers =
        [Server::start(baseline, &[], cores, READY_LIMIT)?, Server::start(candidate, &[], cores, READY_LIMIT)?];
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let [first, second] = if number % 2 == 1 { [0, 1] } else { [1, 0] };
        let mut pair = [None, None];
        for index in [first, second] {
            pair[index] = Some(round(&servers[index], options)?);
        }
        let [Some(base), Some(ours)] = pair else { unreachable!("both indices were filled") };
        println!(
            "round {number}: {:>8.0} and {:>8.0} requests/s, ratio {:.3}",
            base.requests_per_second,
            ours.requests_per_second,
            ours.requests_per_second / base.requests_per_second
        );
        rounds.push([base, ours]);
    }
    servers.into_iter().try_for_each(Server::stop)?;
    Ok(rounds)
}

#[allow(clippy::cast_precision_loss, reason = "request counts are far below 2^53")]
fn round(server: &Server, options: &Options) -> Result<Round> {
    let mut load = Load::connect(server.address, options.connections)?;
    load.drive(WARM_UP)?;
    let (cpu, started) = (server.cpu_time()?, Instant::now());
    let latencies = load.drive(Duration::from_secs(options.seconds))?;
    let (cpu, elapsed) = (server.cpu_time()? - cpu, started.elapsed().as_secs_f64());
    let count = latencies.count() as f64;
    Ok(Round {
        requests_per_second: count / elapsed,
        cpu_micros: cpu.as_secs_f64() * 1e6 / count,
        p50_micros: latencies.percentile(0.50),
        p99_micros: latencies.percentile(0.99),
        core_share: cpu.as_secs_f64() / elapsed,
    })
}

impl Figure {
    fn new(name: &'static str, key: &'static str, decimals: usize, baseline: f64, candidate: f64) -> Self {
        Self { name, key, decimals, baseline, candidate, ratio: candidate / baseline }
    }
}

/// Medians of each side, and the median of the ratios inside each pair of rounds: what slows the machine for a while
/// slows both sides of a pair.
fn summary(rounds: &[[Round; 2]]) -> Vec<Figure> {
    type Take = fn(&Round) -> f64;
    let figures: [(&str, &str, usize, Take); 4] = [
        ("requests per second", "requests_per_second", 0, |round| round.requests_per_second),
        ("CPU µs per request", "cpu_us_per_request", 2, |round| round.cpu_micros),
        ("p50 µs", "p50_us", 0, |round| round.p50_micros),
        ("p99 µs", "p99_us", 0, |round| round.p99_micros),
    ];
    let of = |[name, key]: [&'static str; 2], decimals, take: Take| Figure {
        name,
        key,
        decimals,
        baseline: median(rounds.iter().map(|[base, _]| take(base)).collect()),
        candidate: median(rounds.iter().map(|[_, ours]| take(ours)).collect()),
        ratio: median(rounds.iter().map(|[base, ours]| take(ours) / take(base)).collect()),
    };
    figures.into_iter().map(|(name, key, decimals, take)| of([name, key], decimals, take)).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn print(figures: &[Figure], rounds: &[[Round; 2]], sink: &Sink, options: &Options) {
    println!("\n{:<30} {:>12} {:>12} {:>8}", "", BASELINE, options.candidate, "ratio");
    for Figure { name, decimals, baseline, candidate, ratio, .. } in figures {
        println!("{name:<30} {baseline:>12.decimals$} {candidate:>12.decimals$} {ratio:>8.2}");
    }
    let ratios = rounds.iter().map(|[base, ours]| ours.requests_per_second / base.requests_per_second);
    let (low, high) = ratios.fold((f64::MAX, f64::MIN), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    let (posts, bytes) = sink.received();
    println!(
        "\nmedians of {} rounds of {} s, {} connections; throughput ratio {low:.2} to {high:.2}; \
         the OTLP sink took {posts} exports, {} KiB",
        options.rounds,
        options.seconds,
        options.connections,
        bytes / 1024
    );
    let idlest = rounds.iter().flatten().map(|round| round.core_share).fold(f64::MAX, f64::min);
    if idlest < SATURATED {
        println!(
            "a server used only {:.0} % of its core in a round: the load was too small, or others used the cores",
            idlest * 100.0
        );
    }
}

fn json(figures: &[Figure], options: &Options) -> String {
    let mut text = format!(
        "{{\n  \"baseline\": \"{BASELINE}\",\n  \"candidate\": \"{}\",\n  \"rounds\": {},\n  \"seconds\": {},\n  \"connections\": {}",
        options.candidate, options.rounds, options.seconds, options.connections
    );
    for Figure { key, baseline, candidate, ratio, .. } in figures {
        let _ = write!(
            text,
            ",\n  \"{key}\": {{ \"baseline\": {baseline:.3}, \"candidate\": {candidate:.3}, \"ratio\": {ratio:.4} }}"
        );
    }
    text.push_str("\n}\n");
    text
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            instructions: false,
            gate: None,
            json: None,
            rounds: 7,
            seconds: 4,
            connections: 64,
            candidate: "quickstart".to_owned(),
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if name == "--instructions" {
                options.instructions = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("no value behind {name}\n\n{USAGE}"))?;
            match name.as_str() {
                "--gate" => options.gate = Some(bounded(name, value, u32::MAX as usize)? as f64),
                "--json" => options.json = Some(value.clone()),
                "--rounds" => options.rounds = bounded(name, value, 50)?,
                "--seconds" => options.seconds = bounded(name, value, 60)? as u64,
                "--connections" => options.connections = bounded(name, value, 1000)?,
                "--candidate" => options.candidate.clone_from(value),
                _ => return Err(format!("unknown option {name}\n\n{USAGE}").into()),
            }
        }
        if options.gate.is_some() && !options.instructions {
            return Err("--gate compares instructions; add --instructions".into());
        }
        Ok(options)
    }
}

/// A run must end by itself, so every count has a limit.
fn bounded(name: &str, value: &str, most: usize) -> Result<usize> {
    let parsed = value.parse().ok().filter(|number| (1..=most).contains(number));
    parsed.ok_or_else(|| format!("{name}: found {value}, expected 1 to {most}").into())
}

#[cfg(test)]
mod tests {
    use super::{Options, Round, median, summary};

    fn parse(line: &str) -> super::Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_have_defaults_and_limits() {
        let options = parse("").expect("defaults are fine");
        assert_eq!((options.rounds, options.seconds, options.connections), (7, 4, 64));
        assert!(parse("--rounds 51").is_err());
        assert!(parse("--connections 0").is_err());
        assert!(parse("--gate 36000").is_err());
        assert!(parse("--gate 36000 --instructions").is_ok_and(|options| options.gate == Some(36_000.0)));
        assert!(parse("--fast 1").is_err());
    }

    #[test]
    fn ratio_is_the_median_inside_pairs() {
        let round = |rate| Round {
            requests_per_second: rate,
            cpu_micros: 1.0,
            p50_micros: 1.0,
            p99_micros: 1.0,
            core_share: 1.0,
        };
        // The machine was three times slower in the last pair; the ratio does not notice.
        let rounds = [[round(300.0), round(240.0)], [round(300.0), round(240.0)], [round(100.0), round(80.0)]];
        assert!((summary(&rounds)[0].ratio - 0.8).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
