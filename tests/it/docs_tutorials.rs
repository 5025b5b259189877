//! The tutorials, followed to the letter: every line is typed in one shell, every file written, every answer compared.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    docs_readme::{ROOT, blocks, commands, fits},
    support::{
        process::{Folder, example},
        session::Session,
    },
};

/// Above what a build of a small program takes whose dependencies are built.
const PATIENCE: Duration = Duration::from_secs(600);

/// Follows a page; gives how many lines were typed. `elsewhere` are the beginnings of lines that the tests' own set-up
/// stands for.
fn follow(page: &str, session: &mut Session, elsewhere: &[&str]) -> usize {
    let text = std::fs::read_to_string(Path::new(ROOT).join(page)).expect("the page is there");
    let mut typed = 0;
    for block in blocks(&text) {
        let at = format!("{page}, block at line {}", block.line);
        match block.language.as_str() {
            "diff" => session.change(&block.text),
            "console" => {
                for (line, shown) in commands(&block.text) {
                    if elsewhere.iter().any(|start| line.starts_with(start)) {
                        continue;
                    }
                    let found = session.line(&line, PATIENCE);
                    let shown = session.here(&shown);
                    assert!(fits(&shown, &found), "{at}: {line}\nshown:\n{shown}\nfound:\n{found}");
                    typed += 1;
                }
            }
            // A file that begins with its name is written.
            "toml" | "rust" => {
                let first = block.text.lines().next().unwrap_or_default();
                let name = ["# ", "// "].iter().find_map(|mark| first.strip_prefix(mark)).unwrap_or_default();
                let is_file = Path::new(name).extension().is_some_and(|kind| kind == "toml" || kind == "rs");
                assert!(is_file, "{at}: names no file");
                session.write(name, &block.text);
            }
            "rust,ignore" | "text" => {}
            other => panic!("{at}: nothing is done with `{other}`"),
        }
    }
    typed
}

/// The repository as a clone of it looks whose examples are built: links to all but the target folder.
fn clone() -> (Folder, PathBuf) {
    let folder = Folder::new();
    for entry in std::fs::read_dir(ROOT).expect("the repository").flatten() {
        if entry.file_name() != "target" {
            std::os::unix::fs::symlink(entry.path(), folder.path().join(entry.file_name())).expect("a link");
        }
    }
    let target = folder.path().join("target");
    std::fs::create_dir(&target).expect("a folder");
    let programs = example("storefront").parent().expect("a folder").to_owned();
    std::os::unix::fs::symlink(programs, target.join("debug")).expect("a link");
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn two_services_and_a_broken_dependency_go_as_the_page_says() {
    example("inventory");
    let (_folder, path) = clone();
    let mut session = Session::start(&path, &[]);
    // The shop's own ports are the defaults, which the page does not name.
    let ports = session.here("export CHASSIS_HTTP__ADDRESS=127.0.0.1:8080 CHASSIS_ADMIN__ADDRESS=127.0.0.1:8081");
    session.line(&ports, PATIENCE);
    assert!(follow("docs/tutorials/two-services.md", &mut session, &["cargo "]) >= 25);
}

/// Makes a project from a template and builds it, which takes minutes when nothing was built before: a
/// step of `cargo xtask test`, behind the one that has tried the templates and built what their projects need.
#[test]
#[ignore = "builds a generated project; cargo xtask test runs it after the templates"]
fn the_first_service_goes_as_the_page_says() {
    // Outside of the workspace, with a clone in it, of which the templates before have built the chassis.
    let folder = std::env::var_os("XTASK_PLAYGROUND").map(PathBuf::from).expect("cargo xtask test says where");
    let _ = std::fs::remove_dir_all(folder.join("hello"));

    let programs = example("quickstart");
    let target = programs.ancestors().nth(2).expect("target/debug/quickstart");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut session = Session::start(
        &folder,
        &[("PATH", path), ("CARGO_TARGET_DIR", target.display().to_string()), ("CARGO_TERM_COLOR", "never".to_owned())],
    );
    let ports = session.here("export CHASSIS_HTTP__ADDRESS=127.0.0.1:8080 CHASSIS_ADMIN__ADDRESS=127.0.0.1:8081");
    session.line(&ports, PATIENCE);
    assert!(follow("docs/tutorials/first-service.md", &mut session, &["git clone "]) >= 25);
    let _ = std::fs::remove_dir_all(folder.join("hello"));
}
