//! The process as its kernel sees it, read from `/proc/self` when a reader collects. Elsewhere than on Linux absent.

use std::{fs, time::Duration};

use opentelemetry::KeyValue;

use super::{Labels, Metrics};
use crate::telemetry::names::{self, attribute};

pub(super) fn observe(metrics: &Metrics) {
    metrics.observe_amount(&names::PROCESS_CPU_TIME, || {
        let Some(stat) = Stat::read() else { return Vec::new() };
        let mode =
            |mode: &'static str, time: Duration| (vec![KeyValue::new(attribute::CPU_MODE, mode)], time.as_secs_f64());
        vec![mode("user", stat.user_time), mode("system", stat.system_time)]
    });
    metrics.observe_level(&names::PROCESS_MEMORY_USAGE, || level(Stat::read().map(|stat| stat.resident_bytes)));
    metrics.observe_level(&names::PROCESS_MEMORY_VIRTUAL, || level(Stat::read().map(|stat| stat.virtual_bytes)));
    metrics.observe_level(&names::PROCESS_THREADS, || level(Stat::read().map(|stat| stat.threads)));
    metrics.observe_level(&names::PROCESS_FILE_DESCRIPTORS, || level(file_descriptors()));
    metrics.observe_level(&names::PROCESS_FILE_DESCRIPTOR_LIMIT, || level(file_descriptor_limit()));
    metrics.observe_gauge(&names::PROCESS_UPTIME, || {
        let uptime = Stat::read().and_then(|stat| since_boot()?.checked_sub(stat.started));
        uptime.map(|uptime| (Labels::new(), uptime.as_secs_f64())).into_iter().collect()
    });
}

/// One series without attributes, or none.
pub(super) fn level(value: Option<u64>) -> Vec<(Labels, i64)> {
    value.map(|value| (Labels::new(), i64::try_from(value).unwrap_or(i64::MAX))).into_iter().collect()
}

/// What `/proc/self/stat` says (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    user_time: Duration,
    system_time: Duration,
    threads: u64,
    /// After the machine's boot.
    started: Duration,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    #[cfg(target_os = "linux")]
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&text, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64)
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> Option<Self> {
        None
    }

    fn parse(text: &str, ticks_per_second: u64, page_size: u64) -> Option<Self> {
        // The second field is the program's name in parentheses and may itself contain spaces and parentheses; the
        // numbers below are those of the manual page, which counts from 1.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks = |field| Some(Duration::from_millis(number(field)? * 1000 / ticks_per_second.max(1)));
        Some(Self {
            user_time: ticks(14)?,
            system_time: ticks(15)?,
            threads: number(20)?,
            started: ticks(22)?,
            virtual_bytes: number(23)?,
            resident_bytes: number(24)? * page_size,
        })
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Option<Duration> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Some(Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Option<Duration> {
    None
}

fn file_descriptors() -> Option<u64> {
    // The directory being read is itself one of the descriptors it lists.
    let listed = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    listed.checked_sub(1)
}

#[cfg(unix)]
fn file_descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(unix))]
fn file_descriptor_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let text =
            "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 9 0 1000 4096000 25 18446744073709551615";
        let stat = Stat::parse(text, 100, 4096).unwrap();
        assert_eq!(
            stat,
            Stat {
                user_time: Duration::from_millis(2500),
                system_time: Duration::from_millis(1500),
                threads: 9,
                started: Duration::from_secs(10),
                virtual_bytes: 4_096_000,
                resident_bytes: 102_400,
            }
        );
        assert_eq!(Stat::parse("7 (short) S 1", 100, 4096), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_opened_file_is_counted() {
        let limit = file_descriptor_limit().unwrap();
        let many: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let open = file_descriptors().unwrap();
        assert!(open >= many.len() as u64 && open <= limit, "{open} of {limit}");
    }
}
