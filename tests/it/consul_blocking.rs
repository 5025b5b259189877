//! Blocking queries against a real agent: what a follower sees when the agent comes back as another.

use std::{io::Read, time::Duration};

use chassis::consul::{Consul, ConsulConfig, Cursor};
use tokio::time::timeout;

use crate::support::consul::{Agent, PATIENCE};

/// Longer than the test's patience, and the longest that Consul holds a query: what comes at all did not wait for its end.
const WAIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_change_is_seen_at_once_and_also_when_the_agent_came_back_empty() {
    let mut agent = Agent::start().await;
    let consul = agent.client();
    let mut cursor = Cursor::new();
    let nothing = consul.blocking("/v1/kv/a", &mut cursor, WAIT).await.unwrap().expect("the first query is answered");
    assert_eq!(nothing.status, 404);
    assert!(cursor.index() > 0, "nothing there has an index too");

    // Many writes, so that the index of an empty agent is far behind.
    for value in 0..50 {
        agent.put("/v1/kv/a", &value.to_string()).await;
    }
    let caught_up = async {
        loop {
            let answer = consul.blocking("/v1/kv/a?raw", &mut cursor, WAIT).await.unwrap();
            if answer.is_some_and(|answer| answer.body == "49") {
                return;
            }
        }
    };
    timeout(PATIENCE, caught_up).await.expect("the last write is seen");

    let seen = timeout(PATIENCE, consul.blocking("/v1/kv/a?raw", &mut cursor, WAIT));
    let (changed, ()) = tokio::join!(seen, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        agent.put("/v1/kv/a", "50").await;
    });
    assert_eq!(changed.expect("seen at once").unwrap().expect("a change").body, "50");
    let same = consul.blocking("/v1/kv/a?raw", &mut cursor, Duration::from_millis(50)).await.unwrap();
    assert!(same.is_none(), "nothing has changed: {same:?}");

    let before = cursor.index();
    agent.kill().await;
    consul.blocking("/v1/kv/a?raw", &mut cursor, WAIT).await.expect_err("nobody answers");
    agent.forget();
    agent.begin().await;
    let answer = async {
        loop {
            if let Ok(answer) = consul.blocking("/v1/kv/a?raw", &mut cursor, WAIT).await {
                return answer;
            }
        }
    };
    let answer = timeout(PATIENCE, answer).await.expect("no query waits with the old index");
    assert_eq!(answer.expect("another history is news").status, 404);
    assert!(cursor.index() < before, "the index began at the beginning");
}

#[tokio::test(start_paused = true)]
async fn a_query_that_consul_does_not_hold_is_not_waited_for_as_one_that_it_does() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let consul = Consul::new(&ConsulConfig { address, ..ConsulConfig::default() }).unwrap();
    // Time stands still until the query is there; it is never answered.
    let asked = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 1024]).unwrap();
        (stream, listener, read)
    });
    let began = tokio::time::Instant::now();
    let mut cursor = Cursor::new();
    let answer = consul.blocking("/v1/kv/a", &mut cursor, WAIT).await;
    answer.expect_err("nobody answers");
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(asked.await.unwrap().2 > 0);
}
