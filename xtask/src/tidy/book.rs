//! The book: every page is in its summary, and a link with `#heading` finds that heading.

use std::collections::HashMap;

use super::prose::{between, join};
use super::{Finding, Source};

const FOLDER: &str = "docs/";
const SUMMARY: &str = "docs/SUMMARY.md";

/// Pages of `docs/` that no reader of the book would find.
pub(super) fn pages_not_in_the_summary(sources: &[Source]) -> Vec<Finding> {
    let summary = sources.iter().find(|source| source.path == SUMMARY).map_or("", |source| &source.text);
    let named: Vec<String> =
        summary.lines().flat_map(|line| between(line, "](", ")")).map(|link| join(FOLDER, link)).collect();
    let page = |path: &str| path.starts_with(FOLDER) && path.ends_with(".md") && path != SUMMARY;
    let missing = sources.iter().filter(|source| page(&source.path) && !named.contains(&source.path));
    missing.map(|source| Finding::new(&source.path, 1, format!("is not in {SUMMARY}"))).collect()
}

/// Links to a heading that is not in the document they name.
pub(super) fn dead_anchors(sources: &[Source]) -> Vec<Finding> {
    let pages: HashMap<&str, Vec<String>> = sources
        .iter()
        .filter(|source| source.path.ends_with(".md") && !source.path.starts_with("templates/"))
        .map(|source| (source.path.as_str(), anchors(&source.text)))
        .collect();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| pages.contains_key(source.path.as_str())) {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, link) in
            outside_code(&source.text).flat_map(|(line, text)| links(text).map(move |link| (line, link)))
        {
            let Some((path, anchor)) = link.split_once('#').filter(|_| !link.contains(':')) else { continue };
            let page = if path.is_empty() { source.path.clone() } else { join(folder, path) };
            // A page that is not there is `dead_paths`' to tell.
            if pages.get(page.as_str()).is_some_and(|anchors| !anchors.iter().any(|known| known == anchor)) {
                findings.push(Finding::new(&source.path, line, format!("link to `{link}`: no such heading in {page}")));
            }
        }
    }
    findings
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    between(line, "](", ")")
}

/// The lines of a document that are not in a fenced block, counted from 1.
fn outside_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((index + 1, line))
    })
}

/// What the headings of a document are called in links; a name that comes again is counted.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in outside_code(text) {
        let Some(heading) = line.starts_with('#').then(|| line.trim_start_matches('#')) else { continue };
        let name: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || "-_".contains(c) => Some(c),
                _ => None,
            })
            .collect();
        let numbered = |count: usize| if count == 0 { name.clone() } else { format!("{name}-{count}") };
        let free = (0..).map(numbered).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::{anchors, dead_anchors, pages_not_in_the_summary};
    use crate::tidy::Source;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn page_that_the_summary_forgets_is_found() {
        let tree = [
            source("docs/SUMMARY.md", "- [A](how-to/a.md)\n"),
            source("docs/how-to/a.md", ""),
            source("docs/b.md", ""),
            source("README.md", ""),
        ];
        let found = pages_not_in_the_summary(&tree);
        assert_eq!(found.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["docs/b.md"]);
    }

    #[test]
    fn headings_are_named_as_the_readers_of_markdown_name_them() {
        let text = "# A `b`, c\n## Settings in Consul\n```sh\n# not one\n```\n## a-b_c\n## A `b`, c\n";
        assert_eq!(anchors(text), ["a-b-c", "settings-in-consul", "a-b_c", "a-b-c-1"]);
    }

    #[test]
    fn link_to_a_heading_that_is_gone_is_found() {
        let tree = [
            source(
                "docs/a.md",
                "# Top\n[b](b.md#there) [c](b.md#gone) [d](#top) [e](#gone) [f](x:y#z) [g](none.md#z)\n",
            ),
            source("docs/b.md", "## There\n"),
        ];
        let found = dead_anchors(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|finding| finding.path == "docs/a.md" && finding.line == 2));
    }
}
