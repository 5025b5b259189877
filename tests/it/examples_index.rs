//! `examples/README.md` is the index: no example is missing from it, and each says at its top how it is run.

use std::path::{Path, PathBuf};

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
    let larger = ["inventory", "no-macros", "orders", "quickstart", "storefront"];
    let adoption = |name: &str| name.starts_with("adopt-") || name == "own-tracing-subscriber";
    for example in examples().iter().filter(|name| !larger.contains(&name.as_str()) && !adoption(name)) {
        let top = tops(example).remove(0);
        let question = top.find('?').zip(top.find('`')).is_some_and(|(question, command)| question < command);
        assert!(question, "{example} begins with no question: {top}");
        let last = top.rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("Try next: "), "{example} ends with {last:?}");
    }
}
