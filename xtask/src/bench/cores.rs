//! Server on one core, load on another: both on one core would measure the scheduler.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// The two cores in use, or none when the machine gives only one.
#[derive(Debug)]
pub(super) struct Cores {
    pair: Option<(usize, usize)>,
}

impl Cores {
    /// Puts this thread, and those it starts from now on, on the load's core.
    pub(super) fn take() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let pair = cores.next().zip(cores.next());
        match pair {
            Some((_, load)) => pin(load)?,
            None => println!("only one core: server and load share it, so the figures are of little worth"),
        }
        Ok(Self { pair })
    }

    /// A process started inside inherits the server's core with its first instruction.
    pub(super) fn on_server_core<T>(&self, start: impl FnOnce() -> std::io::Result<T>) -> Result<T> {
        let Some((server, load)) = self.pair else { return Ok(start()?) };
        pin(server)?;
        let started = start();
        pin(load)?;
        Ok(started?)
    }
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}
