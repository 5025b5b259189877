//! The commit that a build is made from, read from the files of the enclosing repository.
//!
//! No `git` is run: a macro must be fast, and a build machine may not have it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is known of the commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The commit's full hash; `None` before the first commit, or outside of a repository.
    pub(crate) commit: Option<String>,
    /// The files that change when the commit does, so that cargo can watch them.
    pub(crate) files: Vec<PathBuf>,
}

impl Head {
    /// The head of the repository that encloses a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        folder.ancestors().find_map(git_dir).map(|dir| Self::read(&dir)).unwrap_or_default()
    }

    fn read(dir: &Path) -> Self {
        let head = dir.join("HEAD");
        let Ok(content) = fs::read_to_string(&head) else {
            return Self::default();
        };
        let mut files = vec![head];
        let commit = match content.trim().strip_prefix("ref: ") {
            None => Some(content.trim().to_owned()),
            Some(name) => {
                // A linked worktree has its own HEAD; the branches are in the main one's folder.
                let common = match fs::read_to_string(dir.join("commondir")) {
                    Ok(path) => dir.join(path.trim()),
                    Err(_) => dir.to_owned(),
                };
                resolve(&common, name, &mut files)
            }
        };
        // Grows with every commit and checkout, also where the branch moves from the packed list to a file of its own.
        let log = dir.join("logs/HEAD");
        if log.is_file() {
            files.push(log);
        }
        Self { commit: commit.filter(|hash| is_hash(hash)), files }
    }
}

fn git_dir(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    // In a linked worktree or a submodule it is a file that names the folder.
    let content = fs::read_to_string(git).ok()?;
    Some(folder.join(content.trim().strip_prefix("gitdir: ")?))
}

fn resolve(common: &Path, name: &str, files: &mut Vec<PathBuf>) -> Option<String> {
    let own = common.join(name);
    if let Ok(hash) = fs::read_to_string(&own) {
        files.push(own);
        return Some(hash.trim().to_owned());
    }
    let packed = common.join("packed-refs");
    let content = fs::read_to_string(&packed).ok()?;
    files.push(packed);
    content.lines().find_map(|line| {
        let (hash, branch) = line.split_once(' ')?;
        (branch == name).then(|| hash.to_owned())
    })
}

/// SHA-1 or SHA-256 in hexadecimal.
fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A folder of files that is gone at the end of the test.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("chassis-git-{}-{name}", std::process::id()));
            for (path, content) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
                fs::write(path, content).expect("a file");
            }
            Self(root)
        }

        fn head(&self, folder: &str) -> (Option<String>, Vec<String>) {
            let head = Head::of(&self.0.join(folder));
            let relative = |path: &PathBuf| {
                let path = path.canonicalize().expect("a file");
                let root = self.0.canonicalize().expect("a folder");
                path.strip_prefix(root).expect("inside").to_string_lossy().into_owned()
            };
            (head.commit, head.files.iter().map(relative).collect())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_branch_is_followed_from_a_folder_inside() {
        let tree = Tree::new(
            "branch",
            &[
                ("repo/.git/HEAD", "ref: refs/heads/main\n"),
                ("repo/.git/refs/heads/main", &format!("{HASH}\n")),
                ("repo/.git/logs/HEAD", "…"),
                ("repo/service/src/main.rs", ""),
            ],
        );
        let (commit, files) = tree.head("repo/service");
        assert_eq!(commit.as_deref(), Some(HASH));
        assert_eq!(files, ["repo/.git/HEAD", "repo/.git/refs/heads/main", "repo/.git/logs/HEAD"]);
    }

    #[test]
    fn a_packed_branch_is_found() {
        let tree = Tree::new(
            "packed",
            &[
                (".git/HEAD", "ref: refs/heads/main\n"),
                (".git/packed-refs", &format!("# pack-refs with: peeled\n{HASH} refs/heads/main\n")),
            ],
        );
        assert_eq!(tree.head(""), (Some(HASH.to_owned()), vec![".git/HEAD".to_owned(), ".git/packed-refs".to_owned()]));
    }

    #[test]
    fn a_detached_head_is_the_commit() {
        let tree = Tree::new("detached", &[(".git/HEAD", HASH)]);
        assert_eq!(tree.head("").0.as_deref(), Some(HASH));
    }

    #[test]
    fn a_linked_worktree_finds_its_branch_in_the_main_one() {
        let tree = Tree::new(
            "worktree",
            &[
                ("main/.git/worktrees/w/HEAD", "ref: refs/heads/topic\n"),
                ("main/.git/worktrees/w/commondir", "../..\n"),
                ("main/.git/refs/heads/topic", HASH),
                ("w/.git", "gitdir: ../main/.git/worktrees/w\n"),
            ],
        );
        let (commit, files) = tree.head("w");
        assert_eq!(commit.as_deref(), Some(HASH));
        assert_eq!(files, ["main/.git/worktrees/w/HEAD", "main/.git/refs/heads/topic"]);
    }

    #[test]
    fn a_repository_without_a_commit_has_none() {
        let tree = Tree::new("empty", &[(".git/HEAD", "ref: refs/heads/main\n")]);
        assert_eq!(tree.head(""), (None, vec![".git/HEAD".to_owned()]));
    }
}
