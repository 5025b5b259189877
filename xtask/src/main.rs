//! The project's own commands, run as `cargo xtask COMMAND`. CI calls the same names.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user on the terminal")]

mod bench;
mod consul;
mod docs;
mod features;
mod generate;
mod new;
mod shell;
mod templates;
mod test;
mod tidy;

use std::process::ExitCode;

/// Every failure ends the command, so one printable error is enough.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [OPTIONS]       everything CI checks; installs what the tests need, or says what is missing; `--help` lists options
  tidy                 read the tree: floors, dead paths, file sizes, words that must not be there
  features             every cargo feature has a meaning and builds alone; none and all do too
  docs [--check]       write docs/generated/ from the quickstart binary, or say which page is stale
  generate [--check]   write the gRPC health code from its .proto, or say that it is stale
  new NAME             a service from a template, beside this checkout; `cargo xtask new --help` lists the options
  templates [--fast]   generate projects from the templates, build, test and run them; `--help` lists the options
  bench [OPTIONS]      quickstart against bare axum; `cargo xtask bench --help` lists the options";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match (command.as_str(), rest.as_slice()) {
        ("test", _) => test::run(&rest),
        ("tidy", []) => tidy::run(),
        ("features", []) => features::run(),
        ("docs", []) => docs::run(docs::Mode::Write),
        ("docs", [flag]) if flag == "--check" => docs::run(docs::Mode::Check),
        ("generate", []) => generate::run(docs::Mode::Write),
        ("generate", [flag]) if flag == "--check" => generate::run(docs::Mode::Check),
        ("new", _) => new::run(&rest),
        ("templates", _) => templates::run(&rest),
        ("bench", _) => bench::run(&rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error}");
            ExitCode::FAILURE
        }
    }
}
