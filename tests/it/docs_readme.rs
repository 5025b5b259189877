//! What the README and the guides show is what happens: every `$` line of a `console` block is run and compared.
//!
//! `…` in a shown answer stands for what differs from run to run: a trace id, a date; alone on a line, for any lines. A
//! `toml` block that begins with the name of a file is written to that file before the lines behind it are run.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use crate::support::process::{PATIENCE, example};

pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// An example, running on free ports; killed when the test ends.
struct Quickstart {
    process: Child,
    http: String,
    admin: String,
}

impl Quickstart {
    fn start() -> Self {
        Self::example("quickstart")
    }

    fn example(name: &str) -> Self {
        let mut command = Command::new(example(name));
        command.args(["--set", "http.address=127.0.0.1:0", "--set", "admin.address=127.0.0.1:0"]);
        let mut process = without_settings(&mut command).stdout(Stdio::piped()).spawn().expect("the example starts");
        let (say, heard) = mpsc::sync_channel(1);
        let stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        // Reads to the end, so that the service never waits for a reader.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "serving" {
                    let _ =
                        say.try_send(["http", "admin"].map(|key| line[key].as_str().unwrap_or_default().to_owned()));
                }
            }
        });
        // What it says on standard error is on the test's own.
        let Ok([http, admin]) = heard.recv_timeout(PATIENCE) else {
            let ended = process.try_wait();
            let _ = process.kill();
            panic!("{name} does not serve, {ended:?}: what it says is above");
        };
        Self { process, http, admin }
    }

    /// The text with the addresses of this process in the place of the documented ones.
    fn address(&self, text: &str) -> String {
        text.replace("localhost:8080", &self.http).replace("localhost:8081", &self.admin)
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> PathBuf {
    example("quickstart")
}

/// The documented commands see no settings of the machine they run on.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name == "RUST_LOG" || ["CHASSIS_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix)))
    {
        command.env_remove(name);
    }
    command
}

/// A fenced block of a page.
pub struct Block {
    pub line: usize,
    pub language: String,
    pub text: String,
}

pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                blocks.push(Block { line: index + 1, language: language.to_owned(), text: String::new() });
                open = true;
            }
            None if open => {
                let block = blocks.last_mut().expect("a block is open");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// The `$` lines of a block, each with what it prints.
pub fn commands(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, printed))) => {
                printed.push_str(line);
                printed.push('\n');
            }
            (None, None) => panic!("a console block begins with a $ line, found {line:?}"),
        }
    }
    commands
}

/// Whether `found` is what `shown` says, `…` standing for anything on its line, and alone on a line for any lines.
pub fn fits(shown: &str, found: &str) -> bool {
    let any_lines = shown.lines().any(|line| line == "…");
    let shown: Vec<&str> = shown.lines().filter(|line| *line != "…").collect();
    let mut found = found.lines().map(str::trim_end);
    if any_lines {
        return shown.iter().all(|shown| found.any(|found| line_fits(shown, found)));
    }
    let found: Vec<&str> = found.collect();
    shown.len() == found.len() && shown.iter().zip(found).all(|(shown, found)| line_fits(shown, found))
}

fn line_fits(shown: &str, found: &str) -> bool {
    let mut pieces = shown.split('…');
    let Some(mut rest) = found.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces = pieces.peekable();
    let mut masked = false;
    while let Some(piece) = pieces.next() {
        masked = true;
        // The last piece ends the line; the others may stand anywhere behind what came before.
        let at = if pieces.peek().is_some() { rest.find(piece) } else { rest.rfind(piece) };
        let Some(at) = at.filter(|at| *at > 0) else { return false };
        rest = &rest[at + piece.len()..];
        if pieces.peek().is_none() && piece.is_empty() {
            rest = "";
        }
    }
    rest.is_empty() || (!masked && rest.trim_end().is_empty())
}

fn printed_by(command: &str, folder: &Path) -> String {
    let path =
        format!("{}:{}", binary().parent().expect("a folder").display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(folder);
    // After the variables are gone: the line may set its own.
    let output = without_settings(&mut shell).env("PATH", path).output().expect("sh runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs what a page of quickstart shows.
fn check(page: &str) -> usize {
    check_against(page, &Quickstart::start())
}

/// Runs what a page shows.
fn check_against(page: &str, quickstart: &Quickstart) -> usize {
    let text = std::fs::read_to_string(Path::new(ROOT).join(page)).expect("the page is there");
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}", std::process::id(), page.replace('/', "-")));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut run = 0;
    for block in blocks(&text) {
        match block.language.as_str() {
            "toml" => {
                let name = block.text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
                if name.ends_with(".toml") {
                    let file = folder.join(name);
                    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
                    std::fs::write(file, &block.text).expect("a file");
                }
            }
            "console" => {
                // The set-up commands: the first is what runs here, the second what runs this.
                for (command, shown) in
                    commands(&block.text).into_iter().filter(|(line, _)| !line.starts_with("cargo "))
                {
                    let found = printed_by(&quickstart.address(&command), &folder);
                    let found =
                        found.replace(&quickstart.http, "localhost:8080").replace(&quickstart.admin, "localhost:8081");
                    assert!(
                        fits(&shown, &found),
                        "{page}, block at line {}: {command}\nshown:\n{shown}\nfound:\n{found}",
                        block.line
                    );
                    run += 1;
                }
            }
            _ => {}
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    run
}

#[test]
fn curl_lines_of_the_readme_print_what_it_shows() {
    assert!(check("README.md") >= 3);
}

#[test]
fn the_service_of_the_readme_is_an_example() {
    let read = |page: &str| std::fs::read_to_string(Path::new(ROOT).join(page)).expect("the file is there");
    let readme = blocks(&read("README.md"));
    let service = readme.iter().find(|block| block.language == "rust,no_run").expect("a whole service");
    assert!(read("examples/hello-http/src/main.rs").ends_with(&service.text), "{}", service.text);
}

#[test]
fn the_readme_starts_a_service_as_the_first_tutorial_does() {
    let read = |page: &str| std::fs::read_to_string(Path::new(ROOT).join(page)).expect("the page is there");
    let readme = blocks(&read("README.md"));
    let start = readme.iter().find(|block| block.language == "sh").expect("the commands");
    let commands: Vec<_> = start.text.lines().flat_map(|line| line.split(" && ")).collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let tutorial = read("docs/tutorials/first-service.md");
    for command in commands {
        // The tutorial's service runs behind the terminal, with its log in a file.
        let typed = |rest: &str| tutorial.contains(&format!("\n$ {command}{rest}"));
        assert!(typed("\n") || typed(" -q > ../hello.log & "), "{command}");
    }
}

#[test]
fn lines_of_the_guides_print_what_they_show() {
    for (page, least) in [
        ("docs/tutorials/quickstart.md", 9),
        ("docs/how-to/operating.md", 4),
        ("docs/how-to/configuration.md", 4),
        ("docs/explanation/health.md", 2),
        ("docs/explanation/drain.md", 3),
        ("docs/how-to/telemetry.md", 1),
        ("docs/explanation/request-path.md", 1),
        ("docs/how-to/openapi.md", 2),
        ("docs/how-to/handlers.md", 1),
        ("docs/how-to/deploying.md", 2),
        ("docs/reference/operators-port.md", 11),
    ] {
        assert!(check(page) >= least, "{page} has fewer lines than it had");
    }
}

#[test]
fn curl_lines_of_the_orders_example_print_what_its_page_shows() {
    assert!(check_against("examples/orders/README.md", &Quickstart::example("orders")) >= 10);
}

#[test]
fn python_of_the_walk_prints_what_it_shows() {
    let text =
        std::fs::read_to_string(Path::new(ROOT).join("docs/tutorials/quickstart.md")).expect("the page is there");
    let blocks = blocks(&text);
    let at = blocks.iter().position(|block| block.language == "python").expect("a python block");
    let quickstart = Quickstart::start();
    let python = std::env::var_os("XTASK_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python).args(["-c", &quickstart.address(&blocks[at].text)]).output();
    let output = output.expect("python is missing; run `cargo xtask test`, which brings it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `cargo xtask test`, which brings a Python with grpcio: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), blocks[at + 1].text);
}

#[test]
pub fn commands_that_print_a_list_print_nothing_else() {
    for command in ["routes", "layers"] {
        let mut process = Command::new(binary());
        let output = without_settings(&mut process).args([command, "--json"]).env("RUST_LOG", "trace").output();
        let output = output.expect("quickstart runs");
        assert!(output.status.success());
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON and nothing beside it");
    }
}

#[test]
fn shown_answers_fit_only_what_they_show() {
    for (shown, found, fit) in [
        ("a\n", "a\n", true),
        ("a\n", "b\n", false),
        ("a\n", "a\nb\n", false),
        ("id: …\n", "id: 7\n", true),
        ("id: …\n", "id: \n", false),
        ("a…c\n", "abc\n", true),
        ("a…c\n", "abd\n", false),
        ("a…c…e\n", "abcde\n", true),
        ("a…c…e\n", "abde\n", false),
        ("a\n…\nd\n", "a\nb\nc\nd\n", true),
        ("a\n…\nd\n", "a\nb\n", false),
        ("", "", true),
        ("", "error\n", false),
    ] {
        assert_eq!(fits(shown, found), fit, "{shown:?} against {found:?}");
    }
}
