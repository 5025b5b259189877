//! Nothing on a page is past the tests: every block of code is compiled, run, compared or checked somewhere, or stands in a
//! list here with the reason. And a default that a page tells is the default.

use std::path::{Path, PathBuf};

use chassis::{
    Chassis,
    config::{Defaults, KeyDoc, Schema, Sources},
    settings::Settings,
    testing::TestService,
};

use crate::{
    docs_readme::{Block, ROOT, blocks, commands},
    support::process::Folder,
};

/// Where the blocks of a page are run or compiled, by what the source of that test says.
const COMPILED: &str = include_str!("../src/lib.rs");
const RUN: [&str; 3] =
    [include_str!("docs_readme.rs"), include_str!("docs_tutorials.rs"), include_str!("adopt_pages.rs")];
/// Compares quotes and differences by itself.
const ADOPT: [&str; 2] = ["docs/how-to/adopt.md", "docs/how-to/leave.md"];

/// Blocks that nothing checks: the page, how the block begins, and why.
const UNCHECKED: [(&str, &str, &str); 12] = [
    ("README.md", "git clone", "compared with the first tutorial, which is followed"),
    ("examples/README.md", "$", "example_storefront walks it, with ports and an agent of its own"),
    ("examples/README.md", "StockApiClient::new", "two lines out of two files"),
    ("docs/how-to/configuration.md", "consul kv put", "needs a Consul; consul_kv puts the same"),
    ("docs/how-to/deploying.md", "# of a Deployment", "read by a test below"),
    ("docs/how-to/developing.md", "watchexec", "a watcher is not among the tools of the tests"),
    ("docs/how-to/developing.md", "systemfd", "server_handed hands sockets over as it does"),
    ("docs/how-to/developing.md", "systemd-socket-activate", "server_handed hands sockets over as it does"),
    ("docs/how-to/operating.md", "# Send nothing there", "client_dependencies pulls the same lever"),
    ("docs/how-to/operating.md", "[{", "shortened; client_dependencies looks at each field"),
    ("docs/how-to/templates.md", "", "a step of cargo xtask test generates and runs the templates"),
    ("docs/tutorials/quickstart.md", "import grpc", "docs_readme runs it"),
];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All pages that people write, from the root of the repository.
fn pages() -> Vec<String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => below(&path, found),
                false if path.extension().is_some_and(|kind| kind == "md") => found.push(path),
                false => {}
            }
        }
    }
    let root = Path::new(ROOT);
    let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("ARCHITECTURE.md")];
    for folder in ["docs", "examples"] {
        below(&root.join(folder), &mut found);
    }
    let mut pages: Vec<_> =
        found.iter().map(|path| path.strip_prefix(root).expect("below").display().to_string()).collect();
    pages.retain(|page| !page.starts_with("docs/generated/"));
    pages.sort();
    assert!(pages.len() > 40, "{pages:?}");
    pages
}

fn first_line(block: &Block) -> &str {
    block.text.lines().next().unwrap_or_default()
}

/// The file that a block quotes, and what it quotes of it.
fn quoted(block: &Block) -> Option<(&str, &str)> {
    let (first, rest) = block.text.split_once('\n')?;
    let name = ["// ", "# "].iter().find_map(|mark| first.strip_prefix(mark))?;
    Path::new(ROOT).join(name).is_file().then_some((name, rest))
}

/// Settings, unless they are a file that the page's commands read, or belong to cargo or cargo-generate.
fn is_settings(block: &Block) -> bool {
    let first = first_line(block);
    let of_cargo = ["[dependencies]", "[dev-dependencies]"].contains(&first) || first.starts_with("[favorites.");
    let is_file = first.starts_with("# ") && first.ends_with(".toml");
    block.language == "toml" && !of_cargo && !is_file
}

/// Whether some test looks at this block.
fn is_checked(page: &str, block: &Block) -> bool {
    let named = |sources: &[&str]| sources.iter().any(|source| source.contains(&format!("{page:?}")));
    match block.language.as_str() {
        "rust,ignore" => quoted(block).is_some(),
        "dockerfile" => quoted(block).is_some(),
        // The tutorials' files are written and built.
        language if language.starts_with("rust") => named(&[COMPILED]) || named(&RUN),
        "console" => {
            let only_cargo = || commands(&block.text).iter().all(|(line, _)| line.starts_with("cargo "));
            named(&RUN) || only_cargo()
        }
        "diff" => ADOPT.contains(&page) || named(&RUN),
        // `the_settings_that_a_page_shows_are_right`, below.
        "toml" => true,
        // Formulae, drawings, output.
        "text" => true,
        _ => false,
    }
}

#[test]
fn no_block_of_a_page_is_past_the_tests() {
    let mut open = Vec::new();
    let mut used = [false; UNCHECKED.len()];
    for page in pages() {
        for block in blocks(&read(&page)) {
            if is_checked(&page, &block) {
                continue;
            }
            let known = UNCHECKED.iter().position(|(of, start, _)| *of == page && block.text.starts_with(start));
            match known {
                Some(at) => used[at] = true,
                None => open.push(format!("{page}:{}: `{}` {}", block.line, block.language, first_line(&block))),
            }
        }
    }
    assert!(open.is_empty(), "nothing checks these; run or compile them, or say here why not:\n{}", open.join("\n"));
    let unused: Vec<_> = UNCHECKED.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(unused.is_empty(), "no such block is left: {unused:?}");
}

#[test]
fn code_that_names_its_file_is_in_that_file() {
    let mut found = 0;
    for page in pages() {
        for block in
            blocks(&read(&page)).iter().filter(|block| ["rust,ignore", "dockerfile"].contains(&&*block.language))
        {
            let Some((name, code)) = quoted(block) else { continue };
            assert!(read(name).contains(code), "{page}, block at line {}: not in {name}:\n{code}", block.line);
            found += 1;
        }
    }
    assert!(found >= 15, "the pages quote {found} times");
}

fn schema() -> (Schema, Defaults) {
    (Schema::of::<Settings>(), Defaults::of(&Settings::default()))
}

#[test]
fn the_settings_that_a_page_shows_are_right() {
    let (schema, defaults) = schema();
    let folder = Folder::new();
    let mut read_in = 0;
    for page in pages() {
        for block in blocks(&read(&page)).iter().filter(|block| is_settings(block)) {
            let file = folder.path().join("shown.toml");
            std::fs::write(&file, &block.text).expect("a file");
            let sources = Sources { files: vec![file], ..Sources::default() };
            if let Err(errors) = schema.load::<Settings>(&defaults, &sources) {
                // The page's secrets are not on this machine.
                let wrong: Vec<_> =
                    errors.0.iter().filter(|problem| !problem.to_string().contains("No such file")).collect();
                assert!(wrong.is_empty(), "{page}, block at line {}: {wrong:?}", block.line);
            }
            read_in += 1;
        }
    }
    assert!(read_in >= 9, "the pages show settings {read_in} times");
}

/// A cell of a table without its marks.
fn plain(cell: &str) -> String {
    cell.trim().trim_matches('`').to_owned()
}

/// `10 s`, `"10s"` and `10000ms` are the same; so are `4 MiB` and `"4MiB"`.
fn value(told: &str) -> String {
    let told: String = told.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
    let told = told.replace("min", "m").replace(',', "");
    let units = [("ms", 1.0), ("us", 0.001), ("s", 1000.0), ("m", 60_000.0), ("h", 3_600_000.0)];
    for (unit, factor) in units {
        if let Some(number) = told.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok()) {
            return format!("{}ms", number * factor);
        }
    }
    told.parse::<f64>().map_or(told, |number| number.to_string())
}

/// A row of a table of keys.
struct Row {
    page: String,
    key: String,
    default: String,
    /// `live` or `restart`, where the table says it.
    applies: Option<String>,
}

/// The rows of all tables whose second column is the default; a first column `breaker.…` begins every key of its table.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for page in pages() {
        let text = read(&page);
        let mut head: Option<Vec<String>> = None;
        for line in text.lines() {
            let Some(line) = line.strip_prefix("| ") else {
                head = None;
                continue;
            };
            let cells: Vec<String> = line.trim_end_matches('|').split('|').map(plain).collect();
            let Some(columns) = &head else {
                head = Some(cells);
                continue;
            };
            if columns.get(1).is_none_or(|column| column != "default") || cells[0].starts_with("---") {
                continue;
            }
            let prefix = columns[0].strip_suffix('…').unwrap_or_default();
            let keys: Vec<_> = cells[0].split(", ").map(plain).collect();
            let defaults: Vec<_> = cells[1].split(", ").map(plain).collect();
            let applies = columns.iter().position(|column| column == "applies").map(|at| cells[at].clone());
            for (at, key) in keys.iter().enumerate() {
                let default = defaults.get(at).or(defaults.first()).expect("a cell").clone();
                rows.push(Row { page: page.clone(), key: format!("{prefix}{key}"), default, applies: applies.clone() });
            }
        }
    }
    rows
}

const RESILIENCE: &str = "docs/explanation/resilience.md";
/// Pages whose tables with defaults are all about settings. Others have such tables of attributes and variables too.
const OF_SETTINGS: [&str; 3] = [RESILIENCE, "docs/explanation/health.md", "docs/how-to/discovery.md"];

#[test]
fn a_default_that_a_page_tells_is_the_default() {
    let (schema, defaults) = schema();
    let reference = schema.reference(&defaults);
    let key = |row: &Row| -> Option<&KeyDoc> {
        let full = if row.page == RESILIENCE { format!("clients.<name>.{}", row.key) } else { row.key.clone() };
        reference.iter().find(|doc| doc.key == full)
    };
    let (mut compared, mut wrong) = (0, Vec::new());
    for row in rows() {
        let Some(doc) = key(&row) else {
            assert!(!OF_SETTINGS.contains(&&*row.page), "{}: `{}` is no key", row.page, row.key);
            continue;
        };
        // Unset, a page says what happens.
        if let Some(default) = &doc.default
            && value(default) != value(&row.default)
        {
            wrong.push(format!("{}: `{}` has the default {default}, not {}", row.page, doc.key, row.default));
        }
        if let Some(applies) = row.applies {
            let expected = if doc.reloadable { "live" } else { "restart" };
            if applies != expected {
                wrong.push(format!("{}: `{}` is {expected}, not {applies}", row.page, doc.key));
            }
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 50, "the pages tell the defaults of {compared} keys");
}

#[test]
fn every_key_of_a_destination_is_in_the_page_about_resilience() {
    let (schema, defaults) = schema();
    let told: Vec<_> = rows().into_iter().filter(|row| row.page == RESILIENCE).map(|row| row.key).collect();
    let keys = schema.reference(&defaults);
    let missing: Vec<_> = keys
        .iter()
        .filter_map(|doc| doc.key.strip_prefix("clients.<name>."))
        .filter(|key| !told.iter().any(|told| told == key))
        .collect();
    assert!(missing.is_empty(), "{RESILIENCE} does not have {missing:?}");
    assert!(told.len() >= 44, "{}", told.len());
}

/// A link out of the book, which a reader of the book can follow.
const REPOSITORY: &str = "https://github.com/chassis-rs/chassis/blob/main/";

#[test]
fn links_from_the_book_into_the_repository_find_a_file() {
    let mut found = 0;
    for page in pages().iter().filter(|page| page.starts_with("docs/")) {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if let Some(path) = link.strip_prefix(REPOSITORY) {
                let file = path.split('#').next().unwrap_or_default();
                assert!(Path::new(ROOT).join(file).is_file(), "{page}: {link}");
                found += 1;
            }
            // As many steps up as the page has folders above it are out of `docs/`, and so out of the book.
            let out = link.matches("../").count() >= page.matches('/').count();
            assert!(ADOPT.contains(&&**page) || !out, "{page}: {link} is dead in the book");
        }
    }
    assert!(found >= 8, "{found} links");
}

#[tokio::test]
async fn probes_that_an_orchestrator_is_told_to_ask_are_answered() {
    let page = read("docs/how-to/deploying.md");
    let all = blocks(&page);
    let yaml = &all.iter().find(|block| block.language == "yaml").expect("what the orchestrator is told").text;
    let service = TestService::start(|chassis: Chassis| chassis).await.unwrap();
    let mut asked = 0;
    for line in yaml.lines().filter(|line| line.contains("httpGet:")) {
        let path = line.split("path: ").nth(1).and_then(|rest| rest.split(',').next()).expect("a path");
        assert!(line.ends_with("port: operators }"), "{line}");
        assert_eq!(service.operator(path).await.unwrap().status, 200, "{path}");
        asked += 1;
    }
    assert_eq!(asked, 3);
    service.stop().await.unwrap();
    // The service is told what the orchestrator is told, and that is what the page's command tries.
    let grace = yaml.lines().find_map(|line| line.strip_prefix("terminationGracePeriodSeconds: ")).expect("a time");
    assert!(yaml.contains(&format!("CHASSIS_SHUTDOWN__ORCHESTRATOR_GRACE, value: {grace}s")));
    assert!(page.contains(&format!("CHASSIS_SHUTDOWN__ORCHESTRATOR_GRACE={grace}s quickstart config check\n")));
}
