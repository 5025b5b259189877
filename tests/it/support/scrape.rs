//! Numbers out of `/metrics`.

use chassis::testing::TestService;
use tokio::time::timeout;

use super::raw::PATIENCE;

/// The sum of the series of this family that have all of these labels, written as in the scrape: `reason="idle"`.
pub fn sum(scrape: &str, family: &str, labels: &[&str]) -> f64 {
    let of_family = |line: &&str| line.split(['{', ' ']).next() == Some(family);
    let lines = scrape.lines().filter(of_family).filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until the metric has this value.
pub async fn until(service: &TestService, family: &str, labels: &[&str], value: f64) {
    let mut last = String::new();
    let reached = timeout(PATIENCE, async {
        loop {
            last = service.metrics().await.unwrap();
            if sum(&last, family, labels) == value {
                break;
            }
        }
    });
    if reached.await.is_err() {
        let lines: Vec<_> = last.lines().filter(|line| line.starts_with(family)).collect();
        panic!("expected {value} for {family} {labels:?}, found {lines:#?}");
    }
}

/// Waits until no request is in flight.
pub async fn until_nothing_is_in_flight(service: &TestService) {
    until(service, "http_server_active_requests", &[], 0.0).await;
}

/// Waits until so many connections of the main port ended for this reason.
pub async fn until_ended(service: &TestService, reason: &str, count: f64) {
    let reason = format!("reason=\"{reason}\"");
    until(service, "chassis_connections_ended_total", &["listener=\"http\"", &reason], count).await;
}
