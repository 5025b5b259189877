//! quickstart's `GET /orders/{id}` on bare axum: the yardstick of `cargo xtask bench`.
//!
//! Run it alone: `cargo run --release -p bare-axum`, then `curl localhost:8080/orders/7`.

mod order;

use std::path::PathBuf;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use order::Order;
use tokio::net::TcpListener;

async fn get_order(Path(id): Path<u32>) -> Result<Json<Order>, StatusCode> {
    order::find(id).map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// One thread, as quickstart has it under `runtime.worker_threads = 1`.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let ready_file = std::env::args_os().skip_while(|argument| argument != "--ready-file").nth(1).map(PathBuf::from);
    let address = if ready_file.is_some() { "127.0.0.1:0" } else { "127.0.0.1:8080" };
    let listener = TcpListener::bind(address).await?;
    if let Some(path) = ready_file {
        let partial = path.with_extension("partial");
        std::fs::write(&partial, format!("{{\"http\":\"{}\"}}\n", listener.local_addr()?))?;
        std::fs::rename(&partial, &path)?;
    }
    axum::serve(listener, Router::new().route("/orders/{id}", get(get_order))).await
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn order_is_about_two_hundred_bytes() {
        for id in [1, 7, 4_711, 500_000, order::LAST_ID] {
            let length = serde_json::to_vec(&order::find(id)).expect("an order is plain data").len();
            assert!((205..=230).contains(&length), "order {id} has {length} bytes");
        }
    }

    #[test]
    fn seventh_order_reads_as_the_readme_shows() {
        let seventh = serde_json::to_string(&order::find(7)).expect("an order is plain data");
        assert_eq!(
            seventh,
            concat!(
                r#"{"id":7,"customer":"customer-7","items":[{"sku":"a-71","count":1,"cents":17},"#,
                r#"{"sku":"a-72","count":2,"cents":27},{"sku":"a-73","count":3,"cents":37}],"#,
                r#""total":182,"status":"paid","created_at":"2026-01-01T00:00:07Z"}"#
            )
        );
    }

    #[test]
    fn only_ids_up_to_a_million_exist() {
        assert_eq!(order::find(0), None);
        assert!(order::find(order::LAST_ID).is_some_and(|order| order.created_at == "2026-01-12T13:46:40Z"));
        assert_eq!(order::find(order::LAST_ID + 1), None);
    }
}
