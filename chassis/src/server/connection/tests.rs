use tokio::task::coop;

use super::*;
use crate::shutdown::PhaseOwner;

const LIMITS: Limits =
    Limits { header_read: Duration::from_secs(10), idle: Duration::from_secs(60), write: Duration::from_secs(30) };

/// Looks at every moment the watch asks for until it ends the connection; returns what it said and when.
fn run(watch: &mut Watch, connection: &Connection, start: Instant) -> (Verdict, Duration) {
    for _ in 0..100 {
        let now = watch.next;
        let verdict = watch.look(connection, Phase::Running, now);
        if verdict != Verdict::Wait {
            return (verdict, now - start);
        }
    }
    (Verdict::Wait, Duration::ZERO)
}

#[tokio::test]
async fn a_silent_connection_ends_with_the_header_timeout() {
    let start = Instant::now();
    let connection = Connection::new(None);
    let mut watch = Watch::new(LIMITS, Version::Http1, start);
    assert_eq!(run(&mut watch, &connection, start), (Verdict::Cut(Ending::HeaderTimeout), LIMITS.header_read));
}

#[tokio::test]
async fn half_a_second_head_ends_with_the_header_timeout() {
    let start = Instant::now();
    let connection = Connection::new(None);
    let mut watch = Watch::new(LIMITS, Version::Http1, start);
    connection.begin_request();
    connection.end_request();
    watch.look(&connection, Phase::Running, start + Duration::from_secs(5));
    connection.bytes_arrived();
    assert!(watch.has_news(&connection, Phase::Running));
    let seen = start + Duration::from_secs(6);
    assert_eq!(watch.look(&connection, Phase::Running, seen), Verdict::Wait);
    let (verdict, after) = run(&mut watch, &connection, seen);
    assert_eq!((verdict, after), (Verdict::Cut(Ending::HeaderTimeout), LIMITS.header_read));
}

#[tokio::test]
async fn a_split_head_has_its_whole_time_whenever_the_last_look_was() {
    let start = Instant::now();
    let connection = Connection::new(None);
    let mut watch = Watch::new(LIMITS, Version::Http1, start);
    // A request was served between the looks, and half of the next head lies there just before the first look is due.
    connection.begin_request();
    connection.end_request();
    connection.bytes_arrived();
    assert!(watch.has_news(&connection, Phase::Running));
    let seen = start + LIMITS.header_read - Duration::from_millis(1);
    assert_eq!(watch.look(&connection, Phase::Running, seen), Verdict::Wait);
    let (verdict, after) = run(&mut watch, &connection, seen);
    assert_eq!((verdict, after), (Verdict::Cut(Ending::HeaderTimeout), LIMITS.header_read));
}

#[tokio::test]
async fn an_idle_connection_ends_between_one_and_one_and_a_half_idle_timeouts() {
    let start = Instant::now();
    // Whatever the other limits are: they set the tick, not the time.
    for write in [Duration::from_secs(2), LIMITS.write, Duration::from_secs(600)] {
        let connection = Connection::new(None);
        connection.begin_request();
        connection.end_request();
        let mut watch = Watch::new(Limits { write, ..LIMITS }, Version::Http1, start);
        let (verdict, after) = run(&mut watch, &connection, start);
        assert_eq!(verdict, Verdict::EndGracefully);
        assert!(after >= LIMITS.idle && after <= LIMITS.idle * 3 / 2, "{after:?}");
    }
}

#[tokio::test]
async fn a_connection_that_does_not_go_when_told_is_cut() {
    let start = Instant::now();
    let connection = Connection::new(None);
    let mut watch = Watch::new(LIMITS, Version::Http2, start);
    let (verdict, told) = run(&mut watch, &connection, start);
    assert_eq!(verdict, Verdict::EndGracefully);
    let (verdict, after) = run(&mut watch, &connection, start);
    assert_eq!(verdict, Verdict::Cut(Ending::Idle));
    assert!(after >= told + LIMITS.write && after <= told + LIMITS.write * 2, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_watched_though_its_task_has_used_up_its_budget() {
    let (_owner, shutdown) = PhaseOwner::new();
    // Takes all of tokio's budget at every poll, as a busy connection does, and says nothing more.
    let served = pin!(poll_fn(|cx| {
        while coop::has_budget_remaining() {
            let _ = pin!(coop::consume_budget()).poll(cx);
        }
        Poll::<hyper::Result<()>>::Pending
    }));
    let connection = Connection::new(None);
    let watched = watch_over(LIMITS, &shutdown, served, |_| {}, Version::Http1, &connection);
    assert_eq!(timeout(LIMITS.header_read * 2, watched).await.ok(), Some(Ending::HeaderTimeout));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_hears_of_every_phase_of_the_stop_at_once() {
    let (owner, shutdown) = PhaseOwner::new();
    let connection = Connection::new(None);
    connection.begin_request();
    connection.end_request();
    let told = std::cell::Cell::new(None);
    let served = pin!(std::future::pending());
    let tell = |_: Pin<&mut std::future::Pending<_>>| told.set(Some(Instant::now()));
    let watched = watch_over(LIMITS, &shutdown, served, tell, Version::Http2, &connection);
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let stop = async {
        for phase in [Phase::Draining, Phase::Stopping, Phase::Cutting] {
            tokio::time::sleep(second).await;
            owner.advance(phase);
        }
    };
    let (ending, ()) = tokio::join!(watched, stop);
    assert_eq!((told.get(), Instant::now()), (Some(start + 2 * second), start + 3 * second));
    assert_eq!(ending, Ending::Cut);
}

#[tokio::test]
async fn a_long_response_is_not_idle() {
    let start = Instant::now();
    let connection = Connection::new(None);
    connection.begin_request();
    let mut watch = Watch::new(LIMITS, Version::Http1, start);
    assert_eq!(run(&mut watch, &connection, start).0, Verdict::Wait);
}

#[tokio::test]
async fn a_caller_that_never_reads_is_let_go_after_the_write_timeout() {
    let start = Instant::now();
    let connection = Connection::new(None);
    connection.begin_request();
    connection.wrote(true);
    let mut watch = Watch::new(LIMITS, Version::Http1, start);
    let (verdict, after) = run(&mut watch, &connection, start);
    assert_eq!(verdict, Verdict::Cut(Ending::WriteTimeout));
    assert!(after <= LIMITS.write * 2, "{after:?}");
}

#[tokio::test]
async fn a_caller_that_opens_no_window_is_let_go_and_one_with_other_work_is_not() {
    let start = Instant::now();
    let connection = Connection::new(None);
    connection.begin_request();
    connection.hold_answer();
    let mut watch = Watch::new(LIMITS, Version::Http2, start);
    let (verdict, after) = run(&mut watch, &connection, start);
    assert_eq!(verdict, Verdict::Cut(Ending::WriteTimeout));
    assert!(after >= LIMITS.write && after <= LIMITS.write * 2, "{after:?}");
    connection.begin_request();
    let mut watch = Watch::new(LIMITS, Version::Http2, start);
    assert_eq!(run(&mut watch, &connection, start).0, Verdict::Wait);
}

#[tokio::test]
async fn pings_on_an_idle_http2_connection_are_not_half_a_head() {
    let start = Instant::now();
    let connection = Connection::new(None);
    connection.begin_request();
    connection.end_request();
    let mut watch = Watch::new(LIMITS, Version::Http2, start);
    watch.look(&connection, Phase::Running, start);
    connection.bytes_arrived();
    assert!(!watch.has_news(&connection, Phase::Running));
    assert_eq!(run(&mut watch, &connection, start).0, Verdict::EndGracefully);
}

#[tokio::test]
async fn an_idle_http1_connection_lingers_when_the_service_stops() {
    let start = Instant::now();
    let connection = Connection::new(None);
    let mut watch = Watch::new(LIMITS, Version::Http1, start);
    assert_eq!(watch.look(&connection, Phase::Stopping, start), Verdict::Wait);
    assert_eq!(watch.look(&connection, Phase::Stopping, start + LINGER), Verdict::EndGracefully);
    let mut watch = Watch::new(LIMITS, Version::Http2, start);
    assert_eq!(watch.look(&connection, Phase::Stopping, start), Verdict::EndGracefully);
}
