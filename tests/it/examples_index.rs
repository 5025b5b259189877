//! `examples/README.md` is the index: no example is missing from it, each says at its top how it is run, and the lines that
//! it says there to type are typed.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::process::{Folder, Quickstart};

/// They show a whole service, and have pages of their own.
const LARGER: [&str; 5] = ["inventory", "no-macros", "orders", "quickstart", "storefront"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Those that answer one question in one program.
fn small() -> Vec<String> {
    let mut names = examples();
    names.retain(|name| !LARGER.contains(&name.as_str()));
    names.retain(|name| !name.starts_with("adopt-") && name != "own-tracing-subscriber");
    assert!(names.len() >= 12, "{names:?}");
    names
}

/// The doc comment at the top of each program of the example.
fn tops(example: &str) -> Vec<String> {
    let source = folder().join(example).join("src");
    let several = std::fs::read_dir(source.join("bin")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let programs: Vec<_> = several.chain([source.join("main.rs")]).filter(|path| path.exists()).collect();
    assert!(!programs.is_empty(), "{example} has no program");
    let top = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let doc = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
        doc.collect::<Vec<_>>().join("\n")
    };
    programs.iter().map(top).collect()
}

#[test]
fn every_example_is_in_the_table_of_questions_with_its_folder_and_a_page() {
    let index = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let rows: Vec<&str> = index.lines().filter(|line| line.starts_with("| ")).collect();
    for example in examples() {
        let link = format!("]({example}/");
        let row = rows.iter().find(|row| row.contains(&link));
        let row = row.unwrap_or_else(|| panic!("{example} is in no row of the table of examples/README.md"));
        assert!(row.contains("?") && row.contains("](../docs/"), "asks nothing, or links no page: {row}");
    }
}

#[test]
fn every_example_says_in_its_first_paragraph_how_it_is_run() {
    for example in examples() {
        for top in tops(&example) {
            let first = top.split("\n\n").next().unwrap();
            let said = ["run", "test"].iter().any(|verb| first.contains(&format!("cargo {verb} -p {example}")));
            assert!(said, "{example} begins with {first:?}; say `cargo run -p {example}` there");
        }
    }
}

#[test]
fn an_example_that_answers_one_question_asks_it_first_and_ends_with_what_to_try_next() {
    for example in small() {
        let top = tops(&example).remove(0);
        let asked = top.find('?').zip(top.find('`')).is_some_and(|(question, command)| question < command);
        assert!(asked, "{example} begins with no question: {top}");
        let last = top.rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("Try next: "), "{example} ends with {last:?}");
    }
}

/// What stands between backticks at the example's top and is to be typed.
fn typed(example: &str, program: &str) -> Vec<String> {
    let top = tops(example).remove(0).replace('\n', " ");
    let spans = top.split('`').skip(1).step_by(2);
    spans.filter(|span| span.contains(program)).map(str::to_owned).collect()
}

/// The statuses that curl was answered with, as [`CURLRC`] lets it tell them.
fn statuses(told: &[u8]) -> Vec<u16> {
    let told = String::from_utf8_lossy(told).into_owned();
    told.lines().filter_map(|line| line.strip_prefix("answered ")?.parse().ok()).collect()
}

/// Also in a pipe, whatever the line itself asks curl for.
const CURLRC: &str = "write-out = \"%{stderr}\\nanswered %{http_code}\\n\"\n";

/// Whether the example says of this line, before the next one, that it is answered so.
fn announced(example: &str, line: &str, status: u16) -> bool {
    let top = tops(example).remove(0).replace('\n', " ");
    let (typed, status) = (format!("`{line}`"), status.to_string());
    top.split(&typed).skip(1).any(|after| after.split("`curl ").next().is_some_and(|said| said.contains(&status)))
}

#[test]
fn a_server_error_counts_as_announced_only_behind_its_own_line() {
    let line = "curl localhost:8080/hours";
    assert!(announced("errors-problem-json", line, 503));
    assert!(!announced("errors-problem-json", line, 500));
    assert!(!announced("errors-problem-json", "curl localhost:8080/books/2", 503));
}

/// The example as its first line starts it, in a folder of its own: with the same files, and the same `--config`.
fn as_documented(example: &str) -> Quickstart {
    let line = typed(example, &format!("cargo run -p {example}")).remove(0);
    let mut start = Quickstart::example(example);
    if line.starts_with("cd ") {
        for name in ["config/default.toml", "config/api-key", "prices.txt", "discounts.txt"] {
            if let Ok(content) = std::fs::read_to_string(folder().join(example).join(name)) {
                start = start.file(name, &content);
            }
        }
    }
    if let Some((_, file)) = line.split_once("-- --config examples/") {
        start = start.arguments(&["--config", folder().join(file).to_str().unwrap()]);
    }
    start
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_that_an_example_says_to_type_find_what_they_ask_for() {
    let home = Folder::new();
    home.write(".curlrc", CURLRC);
    for example in small().iter().filter(|name| *name != "test-a-service") {
        let lines = typed(example, "curl localhost").into_iter().chain(typed(example, "curl -"));
        let lines: Vec<_> = lines.chain(typed(example, "curl '")).filter(|line| !line.starts_with("grpcurl")).collect();
        assert!(!lines.is_empty() || example == "hello-grpc", "{example} says nothing to type");
        let mut service = as_documented(example).start().await;
        for line in lines {
            let here = line.replace("localhost:8080", &service.http.to_string());
            let here = here.replace("localhost:8081", &service.admin.to_string());
            let mut shell = Command::new("sh");
            let output = shell.args(["-c", &here]).env("CURL_HOME", home.path()).output().await.expect("sh runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && !said.is_empty() || line.contains("-X PUT"),
                "{example}: {line}: {said}"
            );
            let answered = statuses(&output.stderr);
            assert!(!answered.is_empty(), "{example}: {line}: curl says no status");
            let broken = answered.iter().find(|status| **status >= 500 && !announced(example, &line, **status));
            assert_eq!(broken, None, "{example}: {line}: {said}");
            let missing =
                ["not_found", "method_not_allowed"].iter().any(|code| said.contains(&format!("\"code\":\"{code}\"")));
            assert!(!missing, "{example}: {line}: {said}");
        }
        assert_eq!(service.terminate().await, 0);
    }
}
