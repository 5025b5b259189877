//! The configuration of the whole service: loaded with all mistakes at once, and taken over again while it runs.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{Core, serve::last_steps};
use crate::{
    coherence,
    config::{ConfigErrors, ConfigProblem, Loaded, Outcome, ReloadStatus, Schema, Sources},
    discovery::{RegistryKind, registration::LEAVE},
    error::{Error, Result},
    health::Criticality,
    settings::{DEV_PROFILE, Settings, defaults},
    telemetry::{self, otlp::OtlpSettings},
};

/// What the configuration is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To serve, or to see whether a start would.
    Serve,
    /// To list what the service is made of: nothing is called, registered or written, so where others are, and files for
    /// that, may be missing. CI prints the document without them.
    List,
}

/// Loads the configuration with the service's own part, all mistakes at once.
pub(crate) fn load<S>(sources: &Sources, purpose: Purpose) -> Result<(Loaded<Settings>, OtlpSettings)>
where
    S: DeserializeOwned + JsonSchema,
{
    let otlp = OtlpSettings::from_env(&sources.env);
    let settings = load_settings::<S>(sources, purpose);
    match (settings, otlp) {
        (Ok(settings), Ok(otlp)) => Ok((settings, otlp)),
        (settings, otlp) => {
            let mut problems = settings.err().map(|errors| errors.0).unwrap_or_default();
            let variables = otlp.err().unwrap_or_default();
            problems.extend(
                variables.into_iter().map(|problem| ConfigProblem::new(problem.variable, problem.message, None)),
            );
            Err(Error::config(ConfigErrors::new(problems).to_string()))
        }
    }
}

pub(super) fn load_settings<S>(sources: &Sources, purpose: Purpose) -> Result<Loaded<Settings>, ConfigErrors>
where
    S: DeserializeOwned + JsonSchema,
{
    let rules = |settings: &Settings| {
        let mut problems = settings.log.problems();
        let register = settings.discovery.register;
        if let Err(message) = telemetry::formats(&settings.telemetry) {
            problems.push(ConfigProblem::new("telemetry.propagators", message, None));
        }
        let mut mistakes = coherence::addresses(&settings.http.address, &settings.admin);
        mistakes.extend(coherence::admin_token(&settings.admin));
        mistakes.extend(coherence::identity(&settings.service));
        mistakes.extend(settings.telemetry.metrics.problems());
        match purpose {
            Purpose::Serve => {
                mistakes.extend(coherence::clients(&settings.clients, register));
                mistakes.extend(coherence::files(&settings.clients, &settings.log.audit));
                mistakes.extend(coherence::announced(&coherence::Announced {
                    consul: &settings.consul,
                    discovery: &settings.discovery,
                    service: &settings.service,
                    clients: &settings.clients,
                    http: &settings.http.address,
                    dev: sources.profile == DEV_PROFILE,
                }));
            }
            // As if a registry knew all that are not set.
            Purpose::List => mistakes.extend(coherence::clients(&settings.clients, RegistryKind::Memory)),
        }
        problems.extend(mistakes.into_iter().map(|(key, message)| ConfigProblem::new(key, message, None)));
        // Shutdown hooks are not known here; they are counted in at start.
        let leave = if register == RegistryKind::None { Duration::ZERO } else { LEAVE };
        if let Some(conflict) = coherence::stop(&settings.shutdown, last_steps(0) + leave) {
            problems.push(ConfigProblem::new(coherence::STOP_KEY, conflict.message(), None));
        }
        problems
    };
    let loaded = Schema::with_section::<Settings, S>("app").load_with(&defaults(), sources, rules)?;
    loaded.section::<S>("app")?;
    Ok(loaded)
}

/// Takes over what a reload changed, and says how it went.
pub(super) async fn apply_reloads<S: DeserializeOwned + JsonSchema>(
    core: Arc<Core>,
    values: watch::Receiver<Loaded<Settings>>,
    mut status: watch::Receiver<ReloadStatus>,
    settings: watch::Sender<Loaded<Settings>>,
    app: watch::Sender<Arc<S>>,
) {
    let health = core.health.own_reporter("config", Criticality::NotCritical);
    health.up();
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().clone();
        match &now.outcome {
            Outcome::Failed(errors) => {
                core.telemetry.metrics.config_reloaded(false);
                tracing::error!(%errors, "the changed configuration is wrong: the last good one stays in effect");
                health.degraded(errors.to_string());
            }
            _ => {
                let loaded = values.borrow().clone();
                let config = loaded.value().clone();
                // Validated as a whole before it came here.
                if let Err(error) = core.telemetry.logs.configure(&config.log) {
                    tracing::error!(%error, "log.filter cannot be taken over");
                }
                core.telemetry.sampler.set_ratio(config.telemetry.sampling.ratio);
                core.destinations.configure(&config);
                if let Ok(section) = loaded.section::<S>("app") {
                    app.send_replace(Arc::new(section));
                }
                settings.send_replace(loaded);
                core.telemetry.metrics.config_reloaded(true);
                let waiting = now.needs_restart.join(", ");
                if waiting.is_empty() {
                    tracing::info!(changed = now.changed.join(", "), "configuration reloaded");
                    health.up();
                } else {
                    tracing::warn!(
                        changed = now.changed.join(", "),
                        needs_restart = waiting,
                        "configuration reloaded in part"
                    );
                    health.up_with(format!("a restart is needed for {waiting}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Purpose, load};
    use crate::{
        cli::sources_of_process,
        config::{ReloadPlan, Sources},
        settings::NoSettings,
    };

    #[test]
    fn a_filter_that_cannot_be_read_names_the_variable_it_came_from() {
        let env = vec![("RUST_LOG".to_owned(), "infoo".to_owned())];
        let sources = Sources { env, dir: "no-such-folder".into(), ..sources_of_process() };
        let error =
            load::<NoSettings>(&sources, Purpose::Serve).map(|_| ()).expect_err("infoo is no level").to_string();
        assert!(error.contains("log.filter") && error.ends_with("(environment RUST_LOG)"), "{error}");
    }

    #[test]
    fn what_the_layers_of_a_destination_take_over_needs_no_restart() {
        let loaded = |values: &[(&str, &str)]| {
            let key = |key: &str| format!("CHASSIS_CLIENTS__STOCK__{key}");
            let mut env = vec![(key("TARGET"), "memory://stock".to_owned())];
            env.extend(values.iter().map(|(name, value)| (key(name), (*value).to_owned())));
            let sources = Sources { env, dir: "no-such-folder".into(), ..sources_of_process() };
            load::<NoSettings>(&sources, Purpose::Serve).expect("good settings").0
        };
        let values = [
            ("IDEMPOTENT", "[\"*\"]"),
            ("BALANCE__DECAY", "20s"),
            ("BALANCE__DEFAULT_RTT", "1s"),
            ("BALANCE__FAILURE_PENALTY", "60s"),
            ("BALANCE__SLOW_START", "30s"),
            ("BALANCE__PANIC_THRESHOLD", "0.2"),
            ("BALANCE__PREFER_ZONE", "false"),
        ];
        let (old, new) = (loaded(&[]), loaded(&values));
        let plan = ReloadPlan::new(&old, &new);
        assert_eq!((plan.needs_restart.as_slice(), plan.changed.len()), (&[][..], values.len()), "{plan:?}");
        let taken = plan.apply(&old, &new).expect("a mixture that makes sense");
        let stock = &taken.value().clients["stock"];
        assert_eq!((stock.idempotent.as_slice(), stock.balance.prefer_zone), (&["*".to_owned()][..], false));
    }
}
