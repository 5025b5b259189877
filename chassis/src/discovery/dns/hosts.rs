//! `/etc/hosts`: names of the system's own, which come before DNS as `getent` has it (hosts(5), nsswitch.conf(5)).

use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc};

/// The file. nsswitch.conf(5) may put DNS before it; no distribution does, and musl's C library knows no other order.
pub(super) const PATH: &str = "/etc/hosts";

/// The names in the file as it was read last.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    path: Arc<Path>,
    content: Vec<u8>,
    names: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// Nothing is read yet.
    pub(super) fn new(path: Arc<Path>) -> Self {
        Self { path, content: Vec::new(), names: HashMap::new() }
    }

    /// Reads the file. Says whether it is another than before. A file that cannot be read is one without names.
    pub(super) async fn read(&mut self) -> bool {
        let path = Arc::clone(&self.path);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let content = read.ok().and_then(Result::ok).unwrap_or_default();
        let changed = content != self.content;
        if changed {
            self.names = names(&String::from_utf8_lossy(&content));
            self.content = content;
        }
        changed
    }

    /// The addresses of a name, in the order of the file. The name counts as it is given: search domains do not apply, and one
    /// that ends with a dot is meant for DNS.
    pub(super) fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }
}

/// The addresses of each name. A name may be on several lines, and a line may have several names. What cannot be read as an
/// address takes its line with it, as in the C library.
fn names(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let addresses = names.entry(name.to_ascii_lowercase()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_is_read_as_the_c_library_reads_it() {
        let text = "# a comment\n\
                    127.0.0.1\tlocalhost\n\
                    10.0.0.1   inventory.internal Inventory  inv # orders\n\
                    10.0.0.2 inventory\r\n\
                    fd00::1 inventory inventory\n\
                    ::ffff:10.0.0.3 mapped\n\
                    #10.0.0.9 inventory\n\
                    10.0.0.300 broken inventory\n\
                    fe80::1%lo0 scoped\n\
                    10.0.0.4\n";
        let names = names(text);
        let of = |name: &str| names.get(name).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        let all = |addresses: &[&str]| Some(addresses.iter().map(|&address| address.to_owned()).collect());
        assert_eq!(of("inventory"), all(&["10.0.0.1", "10.0.0.2", "fd00::1"]));
        assert_eq!(of("inventory.internal"), all(&["10.0.0.1"]));
        assert_eq!(of("inv"), all(&["10.0.0.1"]));
        assert_eq!(of("localhost"), all(&["127.0.0.1"]));
        assert_eq!(of("mapped"), all(&["::ffff:10.0.0.3"]));
        assert_eq!((of("broken"), of("scoped"), of("orders")), (None, None, None));
    }
}
