//! Settings from Consul's key-value store, read before the whole configuration is checked.

use std::time::Duration;

use super::identify;
use crate::{
    config::{self, ConfigErrors, ConfigProblem, Schema, Sources},
    consul::{
        Consul, ConsulConfig,
        kv::{Kv, local_only},
    },
    error::{Error, Result},
    identity::BuildInfo,
    settings::{ServiceConfig, Settings, defaults},
    telemetry::otlp::OtlpSettings,
};

/// How long a command that can do without the store waits for it. Chosen: an agent beside the instance answers within
/// milliseconds.
const SHORT: Duration = Duration::from_secs(1);

/// How much depends on the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// What `consul.kv.required` and `consul.kv.wait` say.
    AsConfigured,
    /// It is asked shortly, and done without.
    IfThere,
}

/// Puts what the store says into the sources, when `consul.kv.enabled` says so in the other sources.
///
/// # Errors
/// The store is required and does not answer: exit code 69, or 78 when other mistakes are seen without it.
pub(crate) async fn fetch(build: &BuildInfo, sources: Sources, need: Need) -> Result<(Sources, Option<Kv>)> {
    // Looked at here, and then again as a whole.
    let mut sources = sources.pinned();
    let schema = Schema::of::<Settings>();
    // A mistake in here is told with all others when the whole is loaded.
    let Ok(consul) = schema.peek::<ConsulConfig>(&defaults(), &sources, "consul") else { return Ok((sources, None)) };
    let Ok(service) = schema.peek::<ServiceConfig>(&defaults(), &sources, "service") else {
        return Ok((sources, None));
    };
    if !consul.kv.enabled {
        return Ok((sources, None));
    }
    if !Consul::mistakes(&consul).is_empty() {
        return Ok((sources, None));
    }
    let Ok(otlp) = OtlpSettings::from_env(&sources.env) else { return Ok((sources, None)) };
    let identity = identify(build, &sources.profile, &otlp, &service);
    sources.local_only = local_only();
    let mut kv = Kv::new(&consul, &identity.service, &sources.profile);
    let limit = match need {
        Need::AsConfigured => consul.kv.wait.get(),
        Need::IfThere => consul.kv.wait.get().min(SHORT),
    };
    match kv.fetch(limit).await {
        Err(error) if need == Need::AsConfigured && consul.kv.required => {
            return Err(with_local_mistakes(error, &sources));
        }
        // What could not be read is told by the check `consul_kv` while the service runs. It may hold the profile.
        fetched => {
            sources.profile_is_known = fetched.is_err();
            sources.remote = kv.layers().now();
        }
    }
    Ok((sources, Some(kv)))
}

/// The refusal, with the mistakes that are seen without the store: a wrong variable may be why it was not found. What is
/// only missing may be in there.
fn with_local_mistakes(error: Error, sources: &Sources) -> Error {
    let loaded = Schema::of::<Settings>().load::<Settings>(&defaults(), sources);
    let mistakes = loaded.err().map(|errors| errors.0).unwrap_or_default();
    let mut mistakes: Vec<_> = mistakes.into_iter().filter(|problem| !problem.message.starts_with("missing")).collect();
    if mistakes.is_empty() {
        return error;
    }
    let told = error.to_string();
    let told = told.strip_prefix("consul.kv: ").unwrap_or(&told);
    mistakes.push(ConfigProblem::new("consul.kv", told, None));
    Error::config(ConfigErrors::new(mistakes).to_string())
}

/// One section of the configuration, for a command that must work whatever else is wrong or away: Consul is not asked.
///
/// # Errors
/// Exit code 78 with all mistakes of the section.
pub(crate) fn section<T: serde::de::DeserializeOwned>(sources: &Sources, name: &str) -> Result<T> {
    let read: Result<T, config::ConfigErrors> = Schema::of::<Settings>().peek(&defaults(), sources, name);
    read.map_err(Error::from)
}
