//! What `docs/how-to/adopt.md` and `docs/how-to/leave.md` show is in the binaries, and what they print is printed.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command};

use adopt_tonic::proto::{self, catalogue_client::CatalogueClient};
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use crate::{
    docs_readme::{Block, blocks, commands, fits, without_settings},
    support::{
        adopted::{self, inventory},
        consul::Agent,
        process::{Quickstart, Service},
    },
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PAGES: [&str; 2] = ["docs/how-to/adopt.md", "docs/how-to/leave.md"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A binary without its first lines, which say how it is run.
fn code(path: &str) -> Vec<String> {
    read(path).lines().filter(|line| !line.starts_with("//!")).map(str::to_owned).collect()
}

fn blocks_of(page: &str, language: &str) -> Vec<Block> {
    blocks(&read(page)).into_iter().filter(|block| block.language == language).collect()
}

/// The file behind a `--- ` or `+++ `.
fn named<'a>(block: &'a Block, mark: &str) -> &'a str {
    block.text.lines().find_map(|line| line.strip_prefix(mark)).expect("a difference names its two files")
}

/// What the shown difference makes of a file: each hunk stands behind the one before.
fn patched(old: &[String], block: &Block) -> Vec<String> {
    let (mut new, mut at) = (Vec::new(), 0);
    let hunks = block.text.split_once("@@\n").expect("a hunk").1;
    for hunk in hunks.split("@@\n") {
        let lines = |mark: char| -> Vec<String> {
            let kept = hunk.lines().filter(|line| line.is_empty() || line.starts_with([' ', mark]));
            kept.map(|line| line.get(1..).unwrap_or_default().to_owned()).collect()
        };
        let (before, after) = (lines('-'), lines('+'));
        let found = old[at..].windows(before.len()).position(|window| window == before);
        let found = found.unwrap_or_else(|| panic!("line {}: not in {}:\n{hunk}", block.line, named(block, "--- ")));
        new.extend_from_slice(&old[at..at + found]);
        new.extend(after);
        at += found + before.len();
    }
    new.extend_from_slice(&old[at..]);
    new
}

#[test]
fn adopt_differences_that_are_shown_are_all_that_differs_between_two_levels() {
    let mut shown = Vec::new();
    for page in PAGES {
        for block in blocks_of(page, "diff") {
            let (old, new) = (named(&block, "--- "), named(&block, "+++ "));
            let made = patched(&code(old), &block);
            assert_eq!(made, code(new), "{page}, line {}: {old} becomes something else than {new}", block.line);
            shown.push(new.to_owned());
        }
    }
    for level in ["level0", "level1", "level2", "level3", "level4"] {
        let file = format!("examples/adopt-axum/src/bin/{level}.rs");
        assert!(shown.contains(&file), "{file} is not shown: {shown:?}");
    }
}

#[test]
fn adopt_levels_cost_as_many_lines_as_the_table_says() {
    let page = read(PAGES[0]);
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    let told: BTreeMap<String, usize> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (format!("examples/adopt-axum/src/bin/level{}.rs", cells[1]), cells[4].parse().expect("a number of lines"))
        })
        .collect();
    assert_eq!(told.len(), 5);
    for block in blocks_of(PAGES[0], "diff") {
        let added =
            block.text.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++ ") && *line != "+");
        if let Some(told) = told.get(named(&block, "+++ ")) {
            assert_eq!(added.count(), *told, "line {}", block.line);
        }
    }
}

#[test]
fn adopt_shops_of_both_kinds_are_one_but_for_their_ways_in_and_out() {
    let parts = |kind: &str| -> Vec<String> {
        let text = read(&format!("examples/adopt-{kind}/src/lib.rs"));
        let (_, code) = text.split_once("/// An error of any kind").expect("what both share");
        code.lines().map(str::to_owned).collect()
    };
    assert_eq!(parts("axum"), parts("tonic"));
}

#[test]
fn adopt_code_that_names_its_file_is_in_that_file() {
    let mut quoted = 0;
    for page in PAGES {
        for block in blocks_of(page, "rust,ignore") {
            let (name, code) = block.text.split_once('\n').unwrap_or_default();
            let name = name.strip_prefix("// ").expect("a block that is not compiled names the file it is from");
            assert!(read(name).contains(code), "{page}, line {}: not in {name}:\n{code}", block.line);
            quoted += 1;
        }
    }
    assert!(quoted >= 3, "the pages quote {quoted} times");
}

fn printed_by(line: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{{ {line}\n}} 2>&1")]).current_dir(ROOT);
    let output = without_settings(&mut shell).output().expect("sh runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The binary that a line runs: axum's level0 for `cargo run -p adopt-axum --bin adopt-axum-level0`.
fn level(line: &str) -> Option<(&str, &str)> {
    line.split_once("--bin adopt-")?.1.split(' ').next()?.split_once('-')
}

/// What a line of `grpcurl` says. It is not among what the tests fetch, so the stub makes the call.
async fn called(address: SocketAddr, line: &str) -> Value {
    let message: Value = serde_json::from_str(line.split('\'').nth(1).expect("a message")).expect("JSON");
    let text = |name: &str| message[name].as_str().expect("a text").to_owned();
    let method = line.rsplit_once("localhost:8080 catalogue.v1.Catalogue/").expect("a method").1;
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = CatalogueClient::new(channel);
    let shown = |article: proto::Article| json!({"sku": article.sku, "cents": article.cents});
    match method {
        "GetArticle" => {
            shown(client.get_article(proto::GetArticleRequest { sku: text("sku") }).await.unwrap().into_inner())
        }
        "AddArticle" => {
            let cents = u32::try_from(message["cents"].as_u64().expect("a price")).unwrap();
            shown(client.add_article(proto::Article { sku: text("sku"), cents }).await.unwrap().into_inner())
        }
        "GetCount" => {
            let count = client.get_count(proto::GetCountRequest { sku: text("sku") }).await.unwrap().into_inner();
            json!({"sku": count.sku, "count": count.count})
        }
        _ => panic!("{line}"),
    }
}

/// An agent, and the inventory that is registered there.
async fn with_consul() -> (Agent, Service) {
    let agent = Agent::start().await;
    let inventory = Quickstart::example("inventory").set("discovery.register", "consul");
    let inventory = inventory.set("discovery.host", "127.0.0.1").set("consul.address", &agent.address());
    let inventory = inventory.start().await;
    passing(&agent, "inventory").await;
    (agent, inventory)
}

/// Waits until callers are sent to it.
async fn passing(agent: &Agent, service: &str) {
    let found = |entries: &Value| entries.as_array().is_some_and(|entries| !entries.is_empty());
    agent.eventually(&format!("/v1/health/service/{service}?passing"), found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adopt_console_lines_print_what_the_pages_show() {
    let mut inventory: Service = inventory().await;
    let (mut run, mut started) = (0, 0);
    for page in PAGES {
        for block in blocks_of(page, "console") {
            let mut commands = commands(&block.text);
            let mut service = None;
            let mut consul = None;
            if commands.iter().any(|(line, _)| line.starts_with("consul agent ")) {
                consul = Some(with_consul().await);
            }
            if let Some((kind, level)) = commands.iter().find_map(|(line, _)| level(line)) {
                let env = consul.iter().map(|(agent, _)| ("CONSUL_HTTP_ADDR", agent.address()));
                service = Some(adopted::with(kind, level, inventory.http, &env.collect::<Vec<_>>()).await);
                started += 1;
            }
            if let Some((agent, _)) = &consul {
                passing(agent, "adopt-axum").await;
            }
            commands.retain(|(line, _)| !["cargo ", "consul "].iter().any(|program| line.starts_with(program)));
            for (line, shown) in &commands {
                let (mut http, mut admin) = (String::new(), String::new());
                if let Some(service) = &service {
                    http = service.http.to_string();
                    admin = service.admin.map(|admin| admin.to_string()).unwrap_or_default();
                }
                if let (true, Some(service)) = (line.starts_with("grpcurl "), &service) {
                    let shown: Value = serde_json::from_str(shown).expect("an answer in JSON is shown");
                    assert_eq!(called(service.http, line).await, shown, "{page}, line {}: {line}", block.line);
                    run += 1;
                    continue;
                }
                let registry = consul.as_ref().map(|(agent, _)| agent.address()).unwrap_or_default();
                let line = line.replace("localhost:8080", &http).replace("localhost:8081", &admin);
                let line = line.replace("localhost:8500", &registry);
                let found = tokio::task::block_in_place(|| printed_by(&line));
                assert!(fits(shown, &found), "{page}, line {}: {line}\nshown:\n{shown}\nfound:\n{found}", block.line);
                run += 1;
            }
            if let Some(mut service) = service {
                assert_eq!(service.terminate().await, 0);
            }
            if let Some((_agent, mut inventory)) = consul {
                assert_eq!(inventory.terminate().await, 0);
            }
        }
    }
    assert!(run >= 20 && started >= 12, "the pages run {run} lines on {started} services");
    assert_eq!(inventory.terminate().await, 0);
}
