//! The one way a line leaves the process: a bounded buffer in memory and one thread that writes it out.
//!
//! A line is appended whole under a short lock. The appender that makes an empty buffer non-empty wakes the writer
//! once; the writer then lets lines gather for a moment, so that a busy service makes one system call for thousands of
//! lines and no wake-up per line. An urgent line, a flush or a half-full buffer ends the gathering at once.
//!
//! Whoever reads the output decides how fast it goes, never the request: when the reader stops, the buffer fills,
//! further lines are dropped and counted, and the first thing the reader sees after it resumes is how many are missing.

use std::{
    fmt,
    io::{self, Write},
    ops::AddAssign,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How long the writer lets lines gather before it writes them. Chosen: 100 writes per second at most in normal work,
/// and a delay nobody who watches a terminal notices.
const GATHER: Duration = Duration::from_millis(10);

/// How long the drop of the last handle waits for the reader. Chosen: a stuck reader must not keep a process alive.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the writer waits when a non-blocking output is full. Another process that shares the terminal may have made
/// it so.
const RETRY_FULL: Duration = Duration::from_millis(5);

/// Room beyond the limit that only audit lines may take. Chosen: about 2,500 lines.
const AUDIT_RESERVE: usize = 1024 * 1024;

/// How much a written buffer keeps for reuse; a rare flood gives the rest back.
const KEEP_CAPACITY: usize = 1024 * 1024;

/// Lines that did not get out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Ordinary lines.
    pub(crate) lines: u64,
    /// Audit lines.
    pub(crate) audit: u64,
}

impl Lost {
    fn any(self) -> bool {
        self.lines + self.audit > 0
    }
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.audit += other.audit;
    }
}

/// Writes the lines that say what was lost, each ended by a newline.
pub(crate) type LossLines = Box<dyn Fn(Lost, &mut Vec<u8>) + Send>;

/// Where a sink says that it lost lines.
pub(crate) enum Report {
    /// Into its own output, as soon as that takes lines again.
    Here(LossLines),
    /// Into another sink, at once.
    To(LineSink, LossLines),
}

/// A bounded buffer of log lines and the thread that writes it out. Cheap to clone.
///
/// When the last clone is dropped, what is buffered is written, for at most two seconds.
#[derive(Clone)]
pub struct LineSink {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

struct Shared {
    state: Mutex<State>,
    /// The writer waits here.
    wake: Condvar,
    /// Whoever waits for the writer waits here.
    progress: Condvar,
    limit: usize,
    dropped: AtomicU64,
    dropped_audit: AtomicU64,
}

struct State {
    pending: Vec<u8>,
    /// Lines accepted since the start.
    accepted: u64,
    /// Of these, the lines the writer is done with.
    done: u64,
    /// Lines lost since the last report.
    lost: Lost,
    writer: Phase,
    /// Somebody asks for a write at once.
    hurry: bool,
    closed: bool,
    ended: bool,
}

/// What the writer is doing, and so whether a notification can matter to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for a first line.
    Asleep,
    /// It waits for more lines, a short time.
    Gathering,
    /// It has been called or is writing, and will look again by itself.
    Awake,
}

impl LineSink {
    /// A sink that writes to the process's standard output.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn stdout(limit: usize, report: Report) -> io::Result<Self> {
        Self::new(unbuffered_stdout(), limit, report)
    }

    /// A sink whose lines nobody sees, for commands that print something else.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn nowhere() -> io::Result<Self> {
        Self::new(io::sink(), KEEP_CAPACITY, Report::Here(Box::new(|_, _| {})))
    }

    /// A sink that writes to `output`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn new(output: impl Write + Send + 'static, limit: usize, report: Report) -> io::Result<Self> {
        Self::with_gather(output, limit, report, GATHER)
    }

    fn with_gather(
        output: impl Write + Send + 'static,
        limit: usize,
        report: Report,
        gather: Duration,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                pending: Vec::new(),
                accepted: 0,
                done: 0,
                lost: Lost::default(),
                writer: Phase::Awake,
                hurry: false,
                closed: false,
                ended: false,
            }),
            wake: Condvar::new(),
            progress: Condvar::new(),
            limit,
            dropped: AtomicU64::new(0),
            dropped_audit: AtomicU64::new(0),
        });
        let for_writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            for_writer.write_out(&mut Output { inner: output, in_line: false }, &report, gather);
        })?;
        let owner = Owner { shared: Arc::clone(&shared), thread: Mutex::new(Some(thread)) };
        Ok(Self { shared, _owner: Arc::new(owner) })
    }

    /// Appends one line, given without its newline; `false` when there was no room and it was dropped.
    ///
    /// Never waits for the output. An urgent line is written at once, together with everything before it.
    #[inline]
    pub fn push(&self, line: &[u8], urgent: bool) -> bool {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.pending.len() + line.len() >= shared.limit {
            state.lost.lines += 1;
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        shared.append(state, line, urgent);
        true
    }

    /// Appends an audit line, into room of its own when the buffer is full, and waits for room at most `wait`.
    pub(crate) fn push_audit(&self, line: &[u8], wait: Duration) -> bool {
        let shared = &*self.shared;
        let limit = shared.limit.saturating_add(AUDIT_RESERVE);
        let full = |state: &State| state.pending.len() + line.len() >= limit;
        let mut state = shared.lock();
        if full(&state) && line.len() < limit {
            shared.hurry(&mut state);
            let waited = shared.progress.wait_timeout_while(state, wait, |state| full(state) && !state.ended);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if full(&state) {
            state.lost.audit += 1;
            shared.dropped_audit.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        shared.append(state, line, true);
        true
    }

    /// How many lines did not get out since the start: no room for them, or the output refused them. Includes audit
    /// lines.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed) + self.dropped_audit()
    }

    /// How many audit lines found no room since the start.
    #[must_use]
    pub fn dropped_audit(&self) -> u64 {
        self.shared.dropped_audit.load(Ordering::Relaxed)
    }

    /// Waits until the lines pushed before are written; `false` when that takes longer than `timeout`.
    ///
    /// Holds up the calling thread: at the end of a process, or through `spawn_blocking`.
    pub fn flush(&self, timeout: Duration) -> bool {
        let mut state = self.shared.lock();
        let target = state.accepted;
        if state.done >= target {
            return true;
        }
        self.shared.hurry(&mut state);
        let waited =
            self.shared.progress.wait_timeout_while(state, timeout, |state| state.done < target && !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.done >= target
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn append(&self, mut state: MutexGuard<'_, State>, line: &[u8], urgent: bool) {
        state.pending.extend_from_slice(line);
        state.pending.push(b'\n');
        state.accepted += 1;
        let hurry = urgent || state.pending.len() > self.limit / 2;
        state.hurry |= hurry;
        let call = state.writer == Phase::Asleep || (hurry && state.writer == Phase::Gathering);
        if call {
            state.writer = Phase::Awake;
            drop(state);
            self.wake.notify_one();
        }
    }

    fn hurry(&self, state: &mut State) {
        state.hurry = true;
        if state.writer != Phase::Awake {
            state.writer = Phase::Awake;
            self.wake.notify_one();
        }
    }

    /// The writer's life.
    fn write_out<W: Write>(&self, output: &mut Output<W>, report: &Report, gather: Duration) {
        let mut batch = Vec::new();
        let mut failing = false;
        let reported_here = matches!(report, Report::Here(_));
        loop {
            // A refusing output is not asked again on behalf of the report alone, or this would spin.
            let reportable = !failing || !reported_here;
            let idle = |state: &State| state.pending.is_empty() && !(reportable && state.lost.any());
            let mut state = self.lock();
            while idle(&state) && !state.closed {
                state.writer = Phase::Asleep;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if idle(&state) {
                state.ended = true;
                self.progress.notify_all();
                return;
            }
            if !state.hurry && !state.closed {
                state.writer = Phase::Gathering;
                let gathered = self.wake.wait_timeout_while(state, gather, |state| !state.hurry && !state.closed);
                state = gathered.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.writer = Phase::Awake;
            state.hurry = false;
            std::mem::swap(&mut state.pending, &mut batch);
            let accepted = state.accepted;
            let lost = std::mem::take(&mut state.lost);
            drop(state);
            self.progress.notify_all();

            let lines = batch.len();
            if lost.any() {
                report.write(lost, &mut batch);
            }
            let result = output.write_lines(&batch);
            if !batch.is_empty() {
                failing = result.is_err();
            }
            let mut still_lost = Lost::default();
            if let Err(written) = result {
                // The report went the way of the lines, so the next one says it all.
                still_lost = if reported_here { lost } else { still_lost };
                let refused = batch.get(written..lines).map_or(0, count_lines);
                self.dropped.fetch_add(refused, Ordering::Relaxed);
                still_lost += Lost { lines: refused, audit: 0 };
            }
            batch.clear();
            batch.shrink_to(KEEP_CAPACITY);

            let mut state = self.lock();
            state.done = accepted;
            state.lost += still_lost;
            drop(state);
            self.progress.notify_all();
        }
    }
}

impl Report {
    fn write(&self, lost: Lost, batch: &mut Vec<u8>) {
        match self {
            // Behind the batch: the lines were lost because these filled the buffer.
            Self::Here(lines) => lines(lost, batch),
            Self::To(sink, lines) => {
                let mut text = Vec::new();
                lines(lost, &mut text);
                for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    sink.push(line, true);
                }
            }
        }
    }
}

/// The output, and whether a failed write left it in the middle of a line.
struct Output<W> {
    inner: W,
    in_line: bool,
}

impl<W: Write> Output<W> {
    /// Writes whole lines; on an error says how many bytes of them got out.
    fn write_lines(&mut self, lines: &[u8]) -> Result<(), usize> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.in_line {
            self.write_all(b"\n").map_err(|_| 0_usize)?;
            self.in_line = false;
        }
        self.write_all(lines).inspect_err(|written| self.in_line = *written > 0 && lines[written - 1] != b'\n')
    }

    /// Writes all, or says how much of it was written before the output refused.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.inner.write(&bytes[written..]) {
                Ok(0) => return Err(written),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::park_timeout(RETRY_FULL),
                Err(_) => return Err(written),
            }
        }
        self.inner.flush().map_err(|_| written)
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Standard output without the library's line buffer, which would copy every batch and keep the tail of a failed one.
fn unbuffered_stdout() -> Box<dyn Write + Send> {
    // The tests of this crate share the harness's stdout, where lines and panics of passing tests would stand among its own.
    if cfg!(test) {
        return Box::new(io::sink());
    }
    use std::os::fd::AsFd;
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(io::stdout()),
    }
}

/// Ends the writer when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.wake.notify_one();
        let waited = self.shared.progress.wait_timeout_while(state, CLOSE_TIMEOUT, |state| !state.ended);
        let ended = waited.unwrap_or_else(PoisonError::into_inner).0.ended;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|_| ended) {
            // The writer has nothing left that could panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for LineSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineSink")
            .field("limit", &self.shared.limit)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    /// Long enough that only a reason other than time can end the gathering.
    const NEVER: Duration = Duration::from_secs(3600);

    pub(crate) fn silent() -> Report {
        Report::Here(Box::new(|_, _| {}))
    }

    fn spoken() -> Report {
        Report::Here(Box::new(|lost, out| {
            writeln!(out, "lost {} lines, {} audit", lost.lines, lost.audit).unwrap();
        }))
    }

    /// Keeps what is written, one entry per write.
    #[derive(Clone, Default)]
    pub(crate) struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Writes {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().concat()).unwrap()
        }
    }

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Says when it is entered, then blocks until the sender of permits lets it go on.
    struct Blocked {
        entered: mpsc::SyncSender<()>,
        permits: mpsc::Receiver<()>,
        writes: Writes,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.try_send(());
            // Once the other side is gone, everything passes.
            let _ = self.permits.recv();
            self.writes.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sink whose writer hangs in the write of its first line, and what lets it go.
    fn hanging(limit: usize, report: Report) -> (LineSink, mpsc::SyncSender<()>, Writes) {
        let (entered, has_entered) = mpsc::sync_channel(1);
        let (permit, permits) = mpsc::sync_channel(1);
        let writes = Writes::default();
        let sink = LineSink::new(Blocked { entered, permits, writes: writes.clone() }, limit, report).unwrap();
        sink.push(b"first", true);
        has_entered.recv_timeout(LONG).unwrap();
        (sink, permit, writes)
    }

    #[test]
    fn a_blocked_writer_never_blocks_the_pusher() {
        let (sink, permit, _) = hanging(1000, silent());
        let accepted = (0..10_000).filter(|_| sink.push(b"123456789", false)).count();
        assert_eq!(accepted, 100, "as many lines of ten bytes as fill 1000");
        drop(permit);
    }

    #[test]
    fn dropped_lines_are_counted_and_reported_after_recovery() {
        let (sink, permit, writes) = hanging(20, spoken());
        for _ in 0..5 {
            sink.push(b"12345678", false);
        }
        assert_eq!(sink.dropped(), 3);
        drop(permit);
        assert!(sink.flush(LONG));
        assert_eq!(writes.text(), "first\n12345678\n12345678\nlost 3 lines, 0 audit\n");
        sink.push(b"later", false);
        assert!(sink.flush(LONG));
        assert_eq!(writes.text().matches("lost").count(), 1, "a loss is reported once");
    }

    #[test]
    fn a_line_larger_than_the_buffer_is_reported_although_nothing_else_comes() {
        let writes = Writes::default();
        let sink = LineSink::new(writes.clone(), 10, spoken()).unwrap();
        sink.push(b"a", true);
        sink.flush(LONG);
        assert!(!sink.push(b"12345678901234567890", false));
        drop(sink);
        assert_eq!(writes.text(), "a\nlost 1 lines, 0 audit\n");
    }

    #[test]
    fn lines_of_many_threads_stay_whole_and_in_order() {
        let writes = Writes::default();
        let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sink = sink.clone();
                scope.spawn(move || {
                    (0..500).for_each(|n| assert!(sink.push(format!("{thread} {n}").as_bytes(), n % 50 == 0)));
                });
            }
        });
        assert!(sink.flush(LONG));
        for thread in 0..4 {
            let of_thread: Vec<_> = writes
                .text()
                .lines()
                .filter_map(|l| l.strip_prefix(&format!("{thread} ")))
                .map(str::to_owned)
                .collect();
            assert_eq!(of_thread, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn many_lines_are_one_write() {
        let writes = Writes::default();
        let sink = LineSink::with_gather(writes.clone(), 1 << 20, silent(), NEVER).unwrap();
        for _ in 0..1000 {
            sink.push(b"line", false);
        }
        assert!(sink.flush(LONG));
        assert_eq!(writes.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_urgent_line_or_a_half_full_buffer_ends_the_gathering() {
        for (line, urgent) in [("urgent", true), ("a line that fills more than half", false)] {
            let (entered, has_entered) = mpsc::sync_channel(1);
            let (_, permits) = mpsc::sync_channel(1);
            let output = Blocked { entered, permits, writes: Writes::default() };
            let sink = LineSink::with_gather(output, 50, silent(), NEVER).unwrap();
            sink.push(b"before", false);
            sink.push(line.as_bytes(), urgent);
            has_entered.recv_timeout(LONG).unwrap();
        }
    }

    #[test]
    fn everything_is_written_when_the_last_handle_goes() {
        let writes = Writes::default();
        let sink = LineSink::with_gather(writes.clone(), 1 << 20, silent(), NEVER).unwrap();
        let other = sink.clone();
        sink.push(b"one", false);
        drop(sink);
        other.push(b"two", false);
        drop(other);
        assert_eq!(writes.text(), "one\ntwo\n");
    }

    /// Refuses while told to, and counts how often it was asked.
    #[derive(Clone, Default)]
    struct Refusing {
        works: Arc<std::sync::atomic::AtomicBool>,
        calls: Arc<AtomicU64>,
        writes: Writes,
    }

    impl Write for Refusing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            match (self.works.load(Ordering::SeqCst), call) {
                (true, _) => self.writes.write(bytes),
                // The first write fails in the middle of its second line.
                (false, 0) => self.writes.write(&bytes[..6]),
                (false, _) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_neither_panics_nor_spins_and_its_loss_is_told_when_it_heals() {
        let output = Refusing::default();
        let sink = LineSink::with_gather(output.clone(), 1 << 20, spoken(), NEVER).unwrap();
        sink.push(b"one", false);
        sink.push(b"two", false);
        assert!(sink.flush(LONG));
        assert_eq!((sink.dropped(), output.calls.load(Ordering::SeqCst)), (1, 2));
        sink.push(b"three", false);
        assert!(sink.flush(LONG));
        assert_eq!((sink.dropped(), output.calls.load(Ordering::SeqCst)), (2, 3));
        output.works.store(true, Ordering::SeqCst);
        sink.push(b"four", false);
        assert!(sink.flush(LONG));
        assert_eq!(output.writes.text(), "one\ntw\nfour\nlost 2 lines, 0 audit\n");
    }

    #[test]
    fn audit_lines_have_room_when_ordinary_lines_have_none() {
        let (sink, permit, writes) = hanging(20, spoken());
        while sink.push(b"12345678", false) {}
        assert!(sink.push_audit(b"audit", Duration::ZERO));
        while sink.push_audit(&[b'a'; 100_000], Duration::ZERO) {}
        assert_eq!(sink.dropped_audit(), 1);
        drop(permit);
        assert!(sink.flush(LONG));
        assert!(writes.text().contains("\naudit\n"));
        assert!(writes.text().ends_with("lost 1 lines, 1 audit\n"));
    }

    #[test]
    fn an_audit_line_waits_for_room() {
        let (sink, permit, writes) = hanging(20, silent());
        while sink.push_audit(&[b'a'; 100_000], Duration::ZERO) {}
        while sink.push_audit(b"", Duration::ZERO) {}
        std::thread::scope(|scope| {
            sink.shared.lock().hurry = false;
            let waiting = scope.spawn(|| sink.push_audit(b"patient", LONG));
            // It asks for a write in the same breath as it begins to wait.
            while !sink.shared.lock().hurry {
                std::thread::yield_now();
            }
            drop(permit);
            assert!(waiting.join().unwrap());
        });
        assert!(sink.flush(LONG));
        assert!(writes.text().ends_with("patient\n"));
    }

    #[test]
    fn a_sink_may_report_its_losses_to_another() {
        let (main_writes, broken) = (Writes::default(), Refusing::default());
        broken.calls.store(1, Ordering::SeqCst);
        let main = LineSink::new(main_writes.clone(), 1 << 20, silent()).unwrap();
        let lines: LossLines = Box::new(|lost, out| writeln!(out, "lost {}", lost.lines + lost.audit).unwrap());
        let file = LineSink::new(broken, 1 << 20, Report::To(main.clone(), lines)).unwrap();
        file.push(b"one", true);
        drop(file);
        assert!(main.flush(LONG));
        assert_eq!(main_writes.text(), "lost 1\n");
    }
}
