//! The limits the process lives under and how hard it runs into them: control groups, version 2 only.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Labels, Metrics, process::level};
use crate::telemetry::names;

/// Where the kernel's documentation has version 2 mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The control group of a process.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// The group of this process; `None` where there is no version 2 (other systems, version 1).
    pub(crate) fn of_this_process() -> Option<Self> {
        Self::find(Path::new(MOUNT), &fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    fn find(mount: &Path, membership: &str) -> Option<Self> {
        // A version 1 hierarchy, alone or beside an empty version 2, does not have this file.
        mount.join("cgroup.controllers").exists().then_some(())?;
        let path = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = mount.join(path);
        // Inside a container the path may be the host's while the mount shows only the container's own group.
        Some(Self { directory: if own.is_dir() { own } else { mount.to_owned() } })
    }

    /// Memory charged to the group, bytes.
    pub(crate) fn memory_usage(&self) -> Option<u64> {
        self.read("memory.current")?.trim().parse().ok()
    }

    /// Memory the group may use, bytes; `None` without a limit.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        self.read("memory.max")?.trim().parse().ok()
    }

    /// Processors the group may use; `None` without a limit.
    pub(crate) fn cpu_limit(&self) -> Option<f64> {
        let text = self.read("cpu.max")?;
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (period > 0.0).then(|| quota / period)
    }

    /// One number of `cpu.stat`.
    fn cpu_stat(&self, name: &str) -> Option<u64> {
        let text = self.read("cpu.stat")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.directory.join(file)).ok()
    }

    pub(super) fn observe(&self, metrics: &Metrics) {
        let group = self.clone();
        metrics.observe_level(&names::CGROUP_MEMORY_USAGE, move || level(group.memory_usage()));
        let group = self.clone();
        metrics.observe_level(&names::CGROUP_MEMORY_LIMIT, move || level(group.memory_limit()));
        let group = self.clone();
        metrics.observe_gauge(&names::CGROUP_CPU_LIMIT, move || one(group.cpu_limit()));
        let group = self.clone();
        metrics.observe_counter(&names::CGROUP_CPU_PERIODS, move || one(group.cpu_stat("nr_periods")));
        let group = self.clone();
        metrics.observe_counter(&names::CGROUP_CPU_THROTTLED_PERIODS, move || one(group.cpu_stat("nr_throttled")));
        let group = self.clone();
        metrics.observe_amount(&names::CGROUP_CPU_THROTTLED_TIME, move || {
            one(group.cpu_stat("throttled_usec").map(|micros| Duration::from_micros(micros).as_secs_f64()))
        });
    }
}

/// One series without attributes, or none.
fn one<T>(value: Option<T>) -> Vec<(Labels, T)> {
    value.map(|value| (Labels::new(), value)).into_iter().collect()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A made-up version 2 hierarchy, removed when dropped.
    pub(in super::super) struct Fake(PathBuf);

    impl Fake {
        pub(in super::super) fn new(files: &[(&str, &str)]) -> Self {
            static MADE: AtomicUsize = AtomicUsize::new(0);
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let root = std::env::temp_dir().join(format!("chassis-cgroup-{}-{number}", std::process::id()));
            for (file, text) in files {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Self(root)
        }

        pub(in super::super) fn limited() -> Self {
            Self::new(&[
                ("cgroup.controllers", "cpu memory\n"),
                ("pod/memory.current", "1048576\n"),
                ("pod/memory.max", "2097152\n"),
                ("pod/cpu.max", "150000 100000\n"),
                ("pod/cpu.stat", "usage_usec 9\nnr_periods 40\nnr_throttled 4\nthrottled_usec 2500000\n"),
            ])
        }

        pub(in super::super) fn find(&self, membership: &str) -> Option<Cgroup> {
            Cgroup::find(&self.0, membership)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn limits_and_throttling_are_read() {
        let fake = Fake::limited();
        let group = fake.find("0::/pod\n").unwrap();
        assert_eq!((group.memory_usage(), group.memory_limit()), (Some(1_048_576), Some(2_097_152)));
        assert_eq!(group.cpu_limit(), Some(1.5));
        assert_eq!((group.cpu_stat("nr_periods"), group.cpu_stat("throttled_usec")), (Some(40), Some(2_500_000)));
    }

    #[test]
    fn no_limit_is_no_value() {
        let fake = Fake::new(&[("cgroup.controllers", ""), ("memory.max", "max\n"), ("cpu.max", "max 100000\n")]);
        let group = fake.find("0::/\n").unwrap();
        assert_eq!((group.memory_limit(), group.cpu_limit(), group.memory_usage()), (None, None, None));
    }

    #[test]
    fn a_path_of_the_host_falls_back_to_what_is_mounted() {
        let fake = Fake::new(&[("cgroup.controllers", ""), ("memory.max", "7\n")]);
        assert_eq!(fake.find("0::/kubepods/pod1/x\n").unwrap().memory_limit(), Some(7));
    }

    #[test]
    fn version_1_is_no_group() {
        let fake = Fake::new(&[("memory/memory.limit_in_bytes", "7\n")]);
        assert!(fake.find("4:memory:/x\n0::/\n").is_none());
    }
}
