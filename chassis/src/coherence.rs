//! Whether the parts of a service agree: routes with each other, with the settings, and with what the chassis serves itself.
//!
//! Every part may be right alone and still make nonsense with another: a route that asks for more time than the server
//! gives, a stop that takes longer than the orchestrator waits. Such a service does not start, and says all of it at once.
//! Pure: [`check`] is given the facts and has no other source. A new rule is one function and one line in [`RULES`]; it
//! names both sides as `Type::handler` or as a key, says what was found and against what, and what to change.

mod announce;
mod clients;
mod start;

use std::{collections::HashMap, fmt, time::Duration};

use http::Method;

use crate::{
    config::{self, ByteSize},
    error::Error,
    server::HttpConfig, // floor: settings are values, and lie below
    service::{RouteInfo, RouteKind},
    shutdown::ShutdownConfig,
};

pub(crate) use announce::{Announced, announced};
pub(crate) use clients::{Mistake, clients};
pub(crate) use start::{addresses, admin_token, files, identity};

/// Everything that the rules look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// What is known of the mounted routes, rpcs among them.
    pub(crate) routes: &'a [RouteInfo],
    /// The gRPC services by name, in the order in which they were added.
    pub(crate) grpc: &'a [(&'static str, GrpcSource)],
    /// What the chassis itself answers with GET.
    pub(crate) own_routes: &'a [&'static str],
    /// The gRPC services that the chassis itself serves beside those.
    pub(crate) own_grpc: &'a [&'static str],
    pub(crate) http: &'a HttpConfig,
    pub(crate) shutdown: &'a ShutdownConfig,
    /// How long the steps of the stop may take that no setting names.
    pub(crate) last_steps: Duration,
}

/// Where a gRPC service comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrpcSource {
    /// A tonic server.
    Server,
    /// The rpcs of a mounted service.
    Mounted,
}

/// Two parts of the service that disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// One side: a handler, a key, or the name of a service.
    what: String,
    /// What was found, against what, and what to change.
    message: String,
}

impl Conflict {
    pub(crate) fn new(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self { what: what.into(), message: message.into() }
    }

    /// What was found, against what, and what to change.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.message)
    }
}

type Rule = fn(&Facts<'_>) -> Vec<Conflict>;

/// The rules by name. What one finds is a reason not to start.
const RULES: &[(&str, Rule)] = &[
    ("a route's timeout is no longer than the server's", timeout_above_the_servers),
    ("a route's body limit is no larger than the server's", body_limit_above_the_servers),
    ("a limit lets something through", limits_of_nothing),
    ("the routes of a handler agree on its concurrency", two_limits_of_one_handler),
    ("a sunset comes after the deprecation", sunset_before_deprecation),
    ("no two routes answer the same request", overlapping_routes),
    ("no route stands where the chassis's own is", routes_of_the_chassis),
    ("no gRPC service is served twice", grpc_services_twice),
    ("a stop ends before the orchestrator kills", stop_above_the_orchestrators_grace),
];

/// Every conflict. `told` are those that were found elsewhere, where more is known.
pub(crate) fn check(facts: &Facts<'_>, told: &[Conflict]) -> Vec<Conflict> {
    let mut conflicts: Vec<_> = RULES.iter().flat_map(|(_, rule)| rule(facts)).chain(told.iter().cloned()).collect();
    let mut known = std::collections::HashSet::new();
    conflicts.retain(|conflict| known.insert(conflict.to_string()));
    conflicts
}

/// The refusal to start, exit code 78, that names them all.
pub(crate) fn refusal(conflicts: &[Conflict]) -> Option<Error> {
    if conflicts.is_empty() {
        return None;
    }
    let plural = if conflicts.len() == 1 { "" } else { "s" };
    let mut text = format!("{} conflict{plural} between the parts of the service:", conflicts.len());
    for conflict in conflicts {
        text.push_str(&format!("\n  {conflict}"));
    }
    Some(Error::config(text))
}

/// What is worth a warning and no refusal: a service must be able to restart the day after. `now` in seconds since 1970.
pub(crate) fn warnings(routes: &[RouteInfo], now: i64) -> Vec<Conflict> {
    let gone = routes.iter().filter(|route| {
        route.policy.deprecated.and_then(|deprecated| deprecated.sunset).is_some_and(|sunset| sunset <= now)
    });
    gone.map(|route| {
        let message = "its sunset has passed and it is still served: remove the route, or move the sunset";
        Conflict::new(side(route), message)
    })
    .collect()
}

fn timeout_above_the_servers(facts: &Facts<'_>) -> Vec<Conflict> {
    let server = facts.http.request_timeout;
    // Over gRPC the server has no limit: its callers set one.
    let http = facts.routes.iter().filter(|route| route.kind == RouteKind::Http);
    let longer = http.filter_map(|route| Some((route, config::Duration(route.policy.timeout?))));
    longer
        .filter(|(_, timeout)| *timeout > server)
        .map(|(route, timeout)| {
            let message = format!(
                "asks for timeout = {timeout}, which is longer than http.request_timeout = {server}; shorten the route's \
                 timeout or raise http.request_timeout"
            );
            Conflict::new(side(route), message)
        })
        .collect()
}

fn body_limit_above_the_servers(facts: &Facts<'_>) -> Vec<Conflict> {
    // Over gRPC the server has none: the route's is the limit of the message itself.
    let http = facts.routes.iter().filter(|route| route.kind == RouteKind::Http);
    let limited = http.filter_map(|route| Some((route, ByteSize(route.policy.body_limit?))));
    let server = facts.http.body_limit;
    limited
        .filter(|(_, limit)| *limit > server)
        .map(|(route, limit)| {
            let message = format!(
                "asks for body_limit = {limit}, which is larger than http.body_limit = {server}; lower the route's or raise \
                 http.body_limit"
            );
            Conflict::new(side(route), message)
        })
        .collect()
}

fn limits_of_nothing(facts: &Facts<'_>) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for route in facts.routes {
        if route.policy.concurrency == Some(0) {
            let message =
                "found concurrency = 0, which turns every request away; give at least 1, or leave the key out";
            conflicts.push(Conflict::new(side(route), message));
        }
        if route.policy.timeout == Some(Duration::ZERO) {
            let message = "found timeout = 0, which ends every request at once; give it time, or leave the key out";
            conflicts.push(Conflict::new(side(route), message));
        }
    }
    conflicts
}

fn two_limits_of_one_handler(facts: &Facts<'_>) -> Vec<Conflict> {
    let mut first: HashMap<(&str, &str), (&RouteInfo, u32)> = HashMap::new();
    let mut conflicts = Vec::new();
    for route in facts.routes.iter().filter(|route| !route.service.is_empty()) {
        let Some(limit) = route.policy.concurrency else { continue };
        let (known, its) = *first.entry((route.service, route.handler)).or_insert((route, limit));
        if its != limit {
            let message = format!(
                "asks for concurrency = {limit}, and as {} {} for {its}; the routes of one handler share their limit: \
                 give the same number",
                known.method, known.path
            );
            conflicts.push(Conflict::new(side(route), message));
        }
    }
    conflicts
}

fn sunset_before_deprecation(facts: &Facts<'_>) -> Vec<Conflict> {
    let early = facts.routes.iter().filter(|route| {
        route
            .policy
            .deprecated
            .is_some_and(|deprecated| deprecated.sunset.is_some_and(|sunset| sunset < deprecated.since))
    });
    early
        .map(|route| {
            let message = "its sunset lies before its deprecation; move one of the dates (RFC 9745, section 4)";
            Conflict::new(side(route), message)
        })
        .collect()
}

fn overlapping_routes(facts: &Facts<'_>) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for (at, route) in facts.routes.iter().enumerate() {
        for other in &facts.routes[..at] {
            let Some(clash) = clash_of(route, other) else { continue };
            let (first, second) = sides(other, route);
            let message = match clash {
                Clash::Same if route.kind == RouteKind::Rpc => {
                    format!("answers the same rpc as {first}; leave `#[rpc]` on one of them")
                }
                Clash::Same => format!("answers the same requests as {first}; change the path or the method of one"),
                Clash::Names => format!(
                    "names a parameter of the path in another way than {first}, at the same place; give it the same name in both"
                ),
                Clash::Wildcard => format!(
                    "has a parameter where {first} has a wildcard, or the other way round; move one of them to a path of its own"
                ),
            };
            conflicts.push(Conflict::new(second, message));
        }
    }
    conflicts
}

/// Whether one of these routes cannot be served beside one of those. What the rules tell is not told again.
pub(crate) fn overlap(these: &[RouteInfo], those: &[RouteInfo]) -> bool {
    these.iter().any(|route| those.iter().any(|other| clash_of(route, other).is_some()))
}

fn routes_of_the_chassis(facts: &Facts<'_>) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for route in facts.routes {
        for own in facts.own_routes.iter().filter(|own| takes_own(route, own)) {
            let message = format!("stands where the chassis answers GET {own} itself; choose another path");
            conflicts.push(Conflict::new(side(route), message));
        }
    }
    conflicts
}

/// Returns whether the chassis runs a background task of this name itself.
pub(crate) fn is_own_task(name: &str) -> bool {
    matches!(name, "consul_kv" | "registration") || name.starts_with("leader:")
}

/// Whether the route stands where the chassis answers GET itself.
pub(crate) fn takes_own(route: &RouteInfo, own: &str) -> bool {
    route.kind == RouteKind::Http && clash(&route.path, own).is_some() && route.method == Method::GET
}

fn grpc_services_twice(facts: &Facts<'_>) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for (at, (name, source)) in facts.grpc.iter().enumerate() {
        // The rpcs of a mounted service may stand beside a tonic server of that name, which then answers the rest of the
        // methods: so streams are served beside them.
        if facts.grpc[..at].contains(&(name, *source)) {
            let message = match source {
                GrpcSource::Server => "two tonic servers of this name were passed to Chassis::grpc; remove one",
                GrpcSource::Mounted => {
                    "two mounted services serve rpcs of this name; put the rpcs of one gRPC service into one impl block"
                }
            };
            conflicts.push(Conflict::new(format!("gRPC service {name}"), message));
        }
        if facts.own_grpc.contains(name) {
            conflicts.push(Conflict::new(
                format!("gRPC service {name}"),
                "the chassis serves it itself; remove the service's own",
            ));
        }
    }
    conflicts
}

fn stop_above_the_orchestrators_grace(facts: &Facts<'_>) -> Vec<Conflict> {
    stop(facts.shutdown, facts.last_steps).into_iter().collect()
}

/// The key that the rule of the stop is about.
pub(crate) const STOP_KEY: &str = "shutdown.orchestrator_grace";

/// Whether a stop in which everything hangs ends before the orchestrator kills. The settings alone decide, so it is told
/// with their mistakes too.
pub(crate) fn stop(config: &ShutdownConfig, last_steps: Duration) -> Option<Conflict> {
    let given = config.orchestrator_grace?;
    let (delay, grace, flush) = (config.drain_delay, config.grace, config.flush);
    let rest = delay.get() + flush.get() + last_steps;
    let longest = rest + grace.get();
    if longest <= given.get() {
        return None;
    }
    let advice = match given.get().checked_sub(rest) {
        Some(left) => format!("lower shutdown.grace to at most {}", config::Duration(left)),
        None => "shorten shutdown.drain_delay and shutdown.flush".to_owned(),
    };
    let message = format!(
        "found {given}, and a stop can take {}: shutdown.drain_delay {delay} + shutdown.grace {grace} + shutdown.flush {flush} \
         + last steps {}; {advice}, or raise the orchestrator's own value and this one",
        config::Duration(longest),
        config::Duration(last_steps),
    );
    Some(Conflict::new(STOP_KEY, message))
}

/// How two templates get into each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clash {
    /// They are the same.
    Same,
    /// They are the same but for the names of their parameters.
    Names,
    /// One has a wildcard where the other has a parameter.
    Wildcard,
}

fn clash_of(route: &RouteInfo, other: &RouteInfo) -> Option<Clash> {
    match clash(&route.path, &other.path) {
        Some(Clash::Same) if route.method != other.method => None,
        // One method: they would be one route, whatever its parameters are called.
        Some(Clash::Names) if route.method == other.method => Some(Clash::Same),
        clash => clash,
    }
}

/// What axum's router (matchit) would say of two templates.
///
/// It keeps one parameter or one wildcard at each place, below the literals, which come first. Parameters of other names
/// are one place, and may be, as long as something different follows.
fn clash(one: &str, other: &str) -> Option<Clash> {
    let (mut left, mut right) = (pieces(one), pieces(other));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some(if one == other { Clash::Same } else { Clash::Names }),
            (Some(Piece::Parameter), Some(Piece::Wildcard)) | (Some(Piece::Wildcard), Some(Piece::Parameter)) => {
                return Some(Clash::Wildcard);
            }
            (left, right) if left == right => {}
            _ => return None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Literal(char),
    Parameter,
    Wildcard,
}

/// A template taken apart; `{{` and `}}` are braces.
fn pieces(template: &str) -> impl Iterator<Item = Piece> + '_ {
    let mut rest = template;
    std::iter::from_fn(move || {
        let c = rest.chars().next()?;
        if rest.starts_with("{{") || rest.starts_with("}}") {
            rest = &rest[2..];
            return Some(Piece::Literal(c));
        }
        if c != '{' {
            rest = &rest[c.len_utf8()..];
            return Some(Piece::Literal(c));
        }
        let (name, behind) = rest[1..].split_once('}').unwrap_or((rest, ""));
        rest = behind;
        Some(if name.starts_with('*') { Piece::Wildcard } else { Piece::Parameter })
    })
}

/// `Orders::order (GET /orders/{id})`.
fn side(route: &RouteInfo) -> String {
    named(&short(route.service), route)
}

/// Two of them, with their modules when that is all that tells them apart.
fn sides(one: &RouteInfo, other: &RouteInfo) -> (String, String) {
    let (short_one, short_other) = (short(one.service), short(other.service));
    if one.service != other.service && short_one == short_other {
        return (named(one.service, one), named(other.service, other));
    }
    (named(&short_one, one), named(&short_other, other))
}

fn named(service: &str, route: &RouteInfo) -> String {
    let separator = if service.is_empty() { "" } else { "::" };
    format!("{service}{separator}{} ({} {})", route.handler, route.method, route.path)
}

/// A type's name without its modules: `Orders<Store>` for `shop::Orders<db::Store>`.
pub(crate) fn short(name: &str) -> String {
    let mut out = String::new();
    for piece in name.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        out.push_str(piece.rsplit("::").next().unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests;
