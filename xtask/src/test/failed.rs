//! The failed tests, read from the output of `cargo test`, each with the line that runs it again.

use std::fmt;

/// The failed tests of a run of `cargo test --no-fail-fast`.
#[derive(Debug, Default)]
pub(super) struct Failed {
    targets: Vec<Target>,
    /// Names in the list that stands at the end of the binary whose output is read.
    names: Vec<String>,
    within: bool,
    /// Lines behind the report of a binary that say how it ended.
    cause: bool,
}

/// A test binary, or the documentation of a package, with failures.
#[derive(Debug)]
struct Target {
    /// The options by which cargo selects it: `--test it`.
    options: String,
    names: Vec<String>,
    /// The end of a process that ended by a signal, say.
    cause: String,
}

impl Failed {
    /// Takes in the next line of the output.
    ///
    /// A binary with failures prints `failures:` twice, first with their output and at last with their names alone, so the
    /// last list counts. Behind it cargo says which options select the binary.
    pub(super) fn read(&mut self, line: &str) {
        if let Some((_, rest)) = line.split_once("to rerun pass `") {
            let options = selection(rest.split('`').next().unwrap_or_default());
            let names = std::mem::take(&mut self.names);
            self.targets.push(Target { options, names, cause: String::new() });
            self.cause = true;
        } else if self.cause {
            // `Caused by:`, and an indented line; anything else is the next binary.
            match self.targets.last_mut() {
                Some(target) if line.starts_with("  ") => target.cause = line.trim().to_owned(),
                _ if line.is_empty() || line == "Caused by:" => return,
                _ => {}
            }
            self.cause = false;
        } else if line == "failures:" {
            self.names.clear();
            self.within = true;
        } else if line.starts_with("test result: ") {
            self.within = false;
        } else if self.within
            && let Some(name) = line.strip_prefix("    ")
        {
            self.names.push(name.to_owned());
        }
    }
}

/// The options without the package: all tests run with the whole workspace selected, and so with its features.
fn selection(options: &str) -> String {
    match options.strip_prefix("-p ").and_then(|rest| rest.split_once(' ')) {
        Some((_, target)) => target.to_owned(),
        None => options.to_owned(),
    }
}

/// A word of a command line.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-./".contains(&byte);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.targets.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nfailed tests, each with the line that runs it again:")?;
        for Target { options, names, cause } in &self.targets {
            let again = format!("cargo xtask test --only test -- {options}");
            for name in names {
                writeln!(f, "  {name}\n    {again} -- --exact {}", quoted(name))?;
            }
            if names.is_empty() {
                let cause = if cause.is_empty() { "it named no test" } else { cause };
                writeln!(f, "  {options}: {cause}\n    {again}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Failed;

    /// As cargo 1.95 and its test harness print it; the first test has printed a list of its own.
    const OUTPUT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/chassis-1)

running 3 tests
test cache::tests::one ... FAILED
test cache::tests::two ... ok
test cache::tests::three ... FAILED

failures:

---- cache::tests::one stdout ----
failures:
    not a name
thread 'cache::tests::one' panicked at chassis/src/cache/tests.rs:1:1:

---- cache::tests::three stdout ----
    indented


failures:
    cache::tests::one
    cache::tests::three

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: test failed, to rerun pass `-p chassis-rs --lib`
     Running tests/it/main.rs (target/debug/deps/it-1)
test fine ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
     Running tests/ui.rs (target/debug/deps/ui-1)
\u{1b}[1m\u{1b}[31merror\u{1b}[0m: test failed, to rerun pass `-p chassis-rs --test ui`

Caused by:
  process didn't exit successfully: `target/debug/deps/ui-1` (signal: 6, SIGABRT: process abort signal)
   Doc-tests chassis

failures:
    chassis/src/lib.rs - (line 7)

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: doctest failed, to rerun pass `-p chassis-rs --doc`
error: 3 targets failed:
    `-p chassis-rs --lib`
    `-p chassis-rs --test ui`
    `-p chassis-rs --doc`
";

    #[test]
    fn each_failed_test_comes_with_its_line() {
        let mut failed = Failed::default();
        OUTPUT.lines().for_each(|line| failed.read(line));
        let expected = "
failed tests, each with the line that runs it again:
  cache::tests::one
    cargo xtask test --only test -- --lib -- --exact cache::tests::one
  cache::tests::three
    cargo xtask test --only test -- --lib -- --exact cache::tests::three
  --test ui: process didn't exit successfully: `target/debug/deps/ui-1` (signal: 6, SIGABRT: process abort signal)
    cargo xtask test --only test -- --test ui
  chassis/src/lib.rs - (line 7)
    cargo xtask test --only test -- --doc -- --exact 'chassis/src/lib.rs - (line 7)'
";
        assert_eq!(failed.to_string(), expected);
    }

    #[test]
    fn a_run_without_failures_says_nothing() {
        let mut failed = Failed::default();
        "test fine ... ok\n\ntest result: ok. 1 passed; 0 failed".lines().for_each(|line| failed.read(line));
        assert_eq!(failed.to_string(), "");
    }
}
