//! The steps of `cargo xtask test`, and the choice of some of them.

use crate::Result;

/// One step. `T` is what the steps of a run hand on.
pub(super) struct Step<T: 'static> {
    pub(super) name: &'static str,
    /// Steps that have to run before this one, also when it was chosen alone.
    pub(super) needs: &'static [&'static str],
    pub(super) run: fn(&mut T) -> Result<()>,
}

/// The steps that the command line asks for; all of them by default.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    only: Option<String>,
    from: Option<String>,
    /// For `cargo test`.
    pub(super) arguments: Vec<String>,
}

impl Choice {
    pub(super) fn read(arguments: &[String]) -> Result<Self> {
        let split = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
        let (options, rest) = arguments.split_at(split);
        let arguments = rest.iter().skip(1).cloned().collect();
        let choice = match options.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => Self { arguments, ..Self::default() },
            ["--only", step] => Self { only: Some((*step).to_owned()), from: None, arguments },
            ["--from", step] => Self { only: None, from: Some((*step).to_owned()), arguments },
            other => return Err(format!("found `{}`\n{}", other.join(" "), super::USAGE).into()),
        };
        if !choice.arguments.is_empty() && choice.only.as_deref() != Some("test") {
            return Err("arguments behind -- are for cargo test; type cargo xtask test --only test -- ARGUMENTS".into());
        }
        Ok(choice)
    }
}

/// The chosen steps and those that they need, in the order of all.
pub(super) fn chosen<'a, T>(all: &'a [Step<T>], choice: &Choice) -> Result<Vec<&'a Step<T>>> {
    let find = |name: &str| {
        let found = all.iter().position(|step| step.name == name);
        found.ok_or_else(|| format!("there is no step `{name}`; the steps are {}", names(all)))
    };
    let mut wanted = vec![false; all.len()];
    match (&choice.only, &choice.from) {
        (Some(name), _) => wanted[find(name)?] = true,
        (None, Some(name)) => wanted[find(name)?..].fill(true),
        (None, None) => wanted.fill(true),
    }
    // A step needs earlier ones only, so one way back finds all.
    for index in (0..all.len()).rev() {
        if wanted[index] {
            for need in all[index].needs {
                wanted[find(need)?] = true;
            }
        }
    }
    Ok(all.iter().zip(wanted).filter_map(|(step, wanted)| wanted.then_some(step)).collect())
}

pub(super) fn names<T>(steps: &[Step<T>]) -> String {
    steps.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step<()>] = &[
        Step { name: "tools", needs: &[], run: |()| Ok(()) },
        Step { name: "lint", needs: &[], run: |()| Ok(()) },
        Step { name: "test", needs: &["tools"], run: |()| Ok(()) },
        Step { name: "docs", needs: &["test"], run: |()| Ok(()) },
    ];

    fn choose(line: &str) -> Result<String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Ok(chosen(STEPS, &Choice::read(&words)?)?.iter().map(|step| step.name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_chosen_step_brings_those_it_needs() {
        for (line, expected) in [
            ("", "tools lint test docs"),
            ("--only lint", "lint"),
            ("--only test", "tools test"),
            ("--only docs", "tools test docs"),
            ("--from test", "tools test docs"),
            ("--only test -- --test it", "tools test"),
        ] {
            assert_eq!(choose(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_wrong_choice_says_what_to_type() {
        for (line, expected) in [
            ("--only nothing", "there is no step `nothing`; the steps are tools, lint, test, docs"),
            ("--only", "found `--only`\nusage: cargo xtask test"),
            ("--only lint -- --test it", "type cargo xtask test --only test -- ARGUMENTS"),
            ("-- --test it", "type cargo xtask test --only test -- ARGUMENTS"),
        ] {
            let error = choose(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn arguments_of_cargo_test_keep_their_own_dashes() {
        let words = ["--only", "test", "--", "--test", "it", "--", "--exact", "a::b"].map(str::to_owned);
        assert_eq!(Choice::read(&words).unwrap().arguments, ["--test", "it", "--", "--exact", "a::b"]);
    }
}
