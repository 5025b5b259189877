//! What the `routes` and `layers` commands print.

use std::{fs, io::Write as _, path::Path};

use serde_json::Value;

use super::say;
use crate::{
    error::{Error, Exit, Result},
    openapi::Document,
    server::admin,
    service::{RouteInfo, RouteKind},
    settings::Settings,
    stack::{self, OwnLayer},
};

pub(crate) fn print_routes(routes: &[RouteInfo], grpc: &[&str], json: bool) -> Result<()> {
    let (http, rpcs): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.kind == RouteKind::Http);
    if json {
        return say(&serde_json::to_string_pretty(&serde_json::json!({
            "http": admin::route_rows(http),
            "rpc": admin::route_rows(rpcs),
            "grpc": grpc,
        }))?);
    }
    let rows = http.iter().map(|route| (route.method.as_str(), &*route.path, summary(route)));
    // Of a tonic server only the name is known.
    let served = grpc.iter().flat_map(|name| {
        let of_service: Vec<_> = rpcs.iter().filter(|rpc| service_of(&rpc.path) == *name).collect();
        let alone = of_service.is_empty().then_some(("gRPC", *name, ""));
        let rpcs = of_service.into_iter().map(|rpc| ("gRPC", rpc.path.trim_start_matches('/'), summary(rpc)));
        rpcs.chain(alone).collect::<Vec<_>>()
    });
    let rows: Vec<_> = rows.chain(served).collect();
    let width = rows.iter().map(|(_, path, _)| path.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (method, path, summary) in rows {
        text.push_str(format!("{method:<7} {path:<width$}  {summary}").trim_end());
        text.push('\n');
    }
    say(&text)
}

fn summary(route: &RouteInfo) -> &'static str {
    route.doc.trim().lines().next().unwrap_or_default()
}

/// `orders.v1.Orders` of `/orders.v1.Orders/GetOrder`.
fn service_of(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// `own` are the layers of the service's own.
pub(crate) fn print_layers(config: &Settings, own: &[OwnLayer], json: bool) -> Result<()> {
    let layers = stack::describe(&config.http, own, &config.clients);
    if json {
        return say(&serde_json::to_string_pretty(&layers)?);
    }
    let mut text = String::new();
    let mut client = None;
    for layer in layers {
        if layer.client != client {
            text.push_str(&format!("\ncalls to {}:\n", layer.client.as_deref().unwrap_or_default()));
            client.clone_from(&layer.client);
        }
        let numbers: Vec<_> = layer.settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        text.push_str(format!("{:<13} {:<55} {}", layer.name, layer.does, numbers.join(", ")).trim_end());
        text.push('\n');
    }
    say(&text)
}

/// How many differences are worth reading before the document is simply written anew.
const DIFFERENCES_SHOWN: usize = 20;

/// Prints the document, or compares it with a file. What is not described goes to standard error.
pub(crate) fn print_openapi(document: &Document, check: Option<&Path>) -> Result<()> {
    let undescribed = document.undescribed();
    if !undescribed.is_empty() {
        let list = undescribed.join("\n  ");
        let text = format!("not described, derive schemars::JsonSchema for:\n  {list}\n");
        // Nobody there to read it is no error.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
    match check {
        Some(file) => compare(document, file),
        None => say(&document.to_string()),
    }
}

fn compare(document: &Document, file: &Path) -> Result<()> {
    let name = file.display();
    let write_anew = format!("write it anew with `openapi > {name}`");
    let text = fs::read(file)
        .map_err(|error| Error::unavailable(format!("cannot read {name}; {write_anew}")).caused_by(error))?;
    let committed: Value = serde_json::from_slice(&text)
        .map_err(|error| Error::new(Exit::Unhealthy, format!("{name} is not JSON; {write_anew}")).caused_by(error))?;
    let differences = document.differences(&committed);
    if differences.is_empty() {
        return say(&format!("{name} says what the service does"));
    }
    let shown = differences.iter().take(DIFFERENCES_SHOWN).cloned().collect::<Vec<_>>().join("\n  ");
    let more = match differences.len().saturating_sub(DIFFERENCES_SHOWN) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    Err(Error::new(
        Exit::Unhealthy,
        format!("{name} does not say what the service does (- the file, + the service); {write_anew}\n  {shown}{more}"),
    ))
}
