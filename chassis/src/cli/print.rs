//! What the `routes` and `layers` commands print.

use super::say;
use crate::{
    error::Result,
    server::{HttpConfig, admin},
    service::RouteInfo,
    stack,
};

pub(crate) fn print_routes(routes: &[RouteInfo], grpc: &[&str], json: bool) -> Result<()> {
    if json {
        return say(&serde_json::to_string_pretty(&serde_json::json!({
            "http": admin::route_rows(routes),
            "grpc": grpc,
        }))?);
    }
    let width = routes.iter().map(|route| route.path.len()).max().unwrap_or_default();
    let mut text = String::new();
    for route in routes {
        let summary = route.doc.trim().lines().next().unwrap_or_default();
        text.push_str(&format!("{:<7} {:<width$}  {}\n", route.method.as_str(), route.path, summary));
    }
    for name in grpc {
        text.push_str(&format!("{:<7} {name}\n", "gRPC"));
    }
    say(&text)
}

pub(crate) fn print_layers(config: &HttpConfig, json: bool) -> Result<()> {
    let layers = stack::describe(config);
    if json {
        return say(&serde_json::to_string_pretty(&layers)?);
    }
    let mut text = String::new();
    for layer in layers {
        let numbers: Vec<_> = layer.settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        text.push_str(format!("{:<13} {:<55} {}", layer.name, layer.does, numbers.join(", ")).trim_end());
        text.push('\n');
    }
    say(&text)
}
