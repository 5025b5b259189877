//! What following a large service costs. Run by name, in release: `cargo test --release consul_scale -- --ignored --nocapture`.

use std::time::Instant;

use serde_json::json;

use crate::{
    consul_watch::{Watch, resolver},
    support::consul::Agent,
};

/// Resident memory in MiB, and CPU time in seconds, of this process.
fn cost() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    (pages * 4.0 / 1024.0, ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0)
}

#[tokio::test]
#[ignore = "a measurement, not a promise"]
async fn ten_thousand_instances_cost_ten_times_as_much_as_a_thousand() {
    for count in [1_000, 10_000] {
        let agent = Agent::start().await;
        let node = |n: usize| format!("node-{}", n % 100);
        for n in 0..100 {
            let node = json!({ "Node": node(n), "Address": format!("10.0.0.{n}") });
            agent.put("/v1/catalog/register", &node.to_string()).await;
        }
        let instances: Vec<_> = (0..count).collect();
        for some in instances.chunks(32) {
            let operations = some.iter().flat_map(|&n| {
                let (id, meta) =
                    (format!("inventory-{n:032x}"), json!({ "version": "1.2.3", "zone": format!("eu-{}", n % 3) }));
                [
                    json!({ "Service": { "Verb": "set", "Node": node(n), "Service": {
                        "ID": id, "Service": "inventory", "Address": "10.1.2.3", "Port": 1024 + n, "Meta": meta } } }),
                    json!({ "Check": { "Verb": "set", "Check": {
                        "Node": node(n), "CheckID": format!("service:{id}"), "ServiceID": id, "Name": "readiness",
                        "Status": "passing", "Output": "ready" } } }),
                ]
            });
            agent.put("/v1/txn", &json!(operations.collect::<Vec<_>>()).to_string()).await;
        }
        let (memory, cpu) = cost();
        let begun = Instant::now();
        let resolver = resolver(&agent, "inventory");
        let mut watch = Watch::new(&resolver);
        watch.until(|now| now.endpoints.len() == count).await;
        let (after, first) = cost();
        println!(
            "{count}: first list after {:?}, {:.0} ms of CPU, {:.1} MiB more",
            begun.elapsed(),
            (first - cpu) * 1e3,
            after - memory
        );
        let changes = 10;
        for n in 0..changes {
            let more = json!({ "Node": "node-0", "SkipNodeUpdate": true, "Service": {
                "ID": format!("extra-{n}"), "Service": "inventory", "Port": 1 } });
            let told = Instant::now();
            agent.put("/v1/catalog/register", &more.to_string()).await;
            watch.until(|now| now.endpoints.len() == count + n + 1).await;
            println!("{count}: a change seen after {:?}", told.elapsed());
        }
        let (last, all) = cost();
        println!(
            "{count}: {:.1} ms of CPU a change, {:.1} MiB more than at first",
            (all - first) * 1e3 / changes as f64,
            last - memory
        );
    }
}
