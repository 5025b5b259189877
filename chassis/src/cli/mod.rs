//! The command line of a service binary.

mod docs;
mod healthcheck;
mod print;

pub(crate) use print::{print_layers, print_openapi, print_routes};

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::{
    Error, Result,
    chassis::{Need, Purpose, fetch, load, section},
    config::{self, Loaded, Schema, Sources},
    consul::kv::Kv,
    error::Exit,
    identity::BuildInfo,
    server::HttpConfig,
    settings::{STANDARD_VARIABLES, Settings, defaults},
};

/// Above the options that every command takes.
const GLOBAL: &str = "Options of every command";

/// Run the service, or ask about it
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// A configuration file instead of config/default.toml and config/<profile>.toml; later ones win
    #[arg(long, value_name = "FILE", global = true, help_heading = GLOBAL)]
    pub(crate) config: Vec<PathBuf>,
    /// Set one value, above files and environment: --set http.address=127.0.0.1:0
    #[arg(long, value_name = "KEY=VALUE", global = true, help_heading = GLOBAL)]
    pub(crate) set: Vec<String>,
    /// The configuration profile; CHASSIS_PROFILE otherwise, or dev
    #[arg(long, value_name = "NAME", global = true, help_heading = GLOBAL)]
    pub(crate) profile: Option<String>,
    /// Write the bound addresses here as JSON once the service is ready
    #[arg(long, value_name = "FILE", global = true, help_heading = GLOBAL)]
    pub(crate) ready_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Run the service (the default)
    Serve,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List the routes
    Routes {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the layers a request passes, outermost first, with their numbers
    Layers {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document of the HTTP routes; types without a schema are told on standard error
    Openapi {
        /// Compare with this file instead: 0 when it says the same, 1 and what differs when not
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
    /// Ask the running service whether it is ready; for containers without curl
    Healthcheck {
        /// Ask whether it is alive instead
        #[arg(long, conflicts_with = "startup")]
        live: bool,
        /// Ask whether it has started instead
        #[arg(long)]
        startup: bool,
        /// How long to wait for the answer
        #[arg(long, default_value = "2s", value_name = "TIME")]
        timeout: config::Duration,
    },
    /// Print the service's version, git commit and build time
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a page of the reference
    #[command(name = "__docs", hide = true)]
    Docs { page: String },
}

#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check everything and exit: 0 when it is right, 78 when not
    Check,
    /// Print every value in effect, with where it comes from
    Print {
        /// Print the annotated defaults instead: a file to start from
        #[arg(long)]
        default: bool,
    },
    /// Explain one key: type, default, range, variable, and its value now
    Explain {
        /// For example http.address
        key: String,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
}

/// Reads the command line; on a mistake or a question for help, says what it says and gives the exit code.
pub(crate) fn parse(build: &BuildInfo) -> Result<Cli, Exit> {
    let command = <Cli as CommandFactory>::command().name(build.name).version(build.version);
    let parsed = command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let _ = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Success }
    })
}

impl Cli {
    pub(crate) fn command(&self) -> Command {
        self.command.clone().unwrap_or(Command::Serve)
    }

    pub(crate) fn sources(&self) -> Sources {
        let mut sources = sources_of_process();
        sources.files.clone_from(&self.config);
        sources.set.clone_from(&self.set);
        if let Some(profile) = &self.profile {
            sources.profile.clone_from(profile);
        }
        sources
    }
}

/// The process's own environment with the standard variables mapped.
pub(crate) fn sources_of_process() -> Sources {
    with_standard_variables(Sources::of_process())
}

/// The same sources, which know the variables of the ecosystem.
pub(crate) fn with_standard_variables(sources: Sources) -> Sources {
    Sources {
        standard: STANDARD_VARIABLES.map(|(variable, key)| (variable.to_owned(), key.to_owned())).to_vec(),
        // Read by the build of a service, not by the service.
        not_keys: vec!["CHASSIS_GIT_COMMIT".to_owned()],
        ..sources
    }
}

/// Carries out the commands that need no running service. `None` when the command is another's.
pub(crate) fn run<S>(cli: &Cli, build: &BuildInfo) -> Option<Result<()>>
where
    S: DeserializeOwned + schemars::JsonSchema + Send + Sync + 'static,
{
    let schema = || Schema::with_section::<Settings, S>("app");
    Some(match cli.command() {
        Command::Serve | Command::Routes { .. } | Command::Layers { .. } | Command::Openapi { .. } => return None,
        Command::Version { json } => version(build, json),
        Command::Docs { page } => {
            docs::page(&page, &schema(), <Cli as CommandFactory>::command().name("service")).and_then(|text| say(&text))
        }
        Command::Config(ConfigCommand::Schema) => {
            serde_json::to_string_pretty(schema().as_json()).map_err(Error::from).and_then(|text| say(&text))
        }
        Command::Config(ConfigCommand::Print { default: true }) => say(&schema().annotated_toml(&defaults())),
        Command::Config(command) => waited(fetch(build, cli.sources(), Need::AsConfigured)).and_then(|fetched| {
            let (sources, kv) = fetched?;
            if let Some(why) = kv.as_ref().and_then(Kv::unread_folder) {
                let _ = writeln!(io::stderr().lock(), "consul.kv: shown without what Consul says: {why}");
            }
            let (loaded, _) = load::<S>(&sources, Purpose::Serve)?;
            for note in loaded.notes() {
                let _ = writeln!(io::stderr().lock(), "{}: {note}", build.name);
            }
            look(&loaded, &command)
        }),
        Command::Healthcheck { live, startup, timeout } => {
            let path = if live {
                "/livez"
            } else if startup {
                "/startupz"
            } else {
                "/readyz"
            };
            // Only the address: whatever else is wrong by now, the service runs with what was right. It cannot be in Consul,
            // so Consul is not asked.
            section::<HttpConfig>(&cli.sources(), "http")
                .and_then(|http| healthcheck::ask(&http.address, path, timeout.get()))
                .and_then(|answer| say(&answer))
        }
    })
}

/// Runs what a command has to wait for.
fn waited<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::unavailable("cannot start the async runtime").caused_by(error))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(RUNTIME_END);
    Ok(done)
}

fn look(loaded: &Loaded<Settings>, command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Explain { key } => {
            let text = loaded.explain(key).map_err(|problem| Error::new(Exit::Usage, problem.to_string()))?;
            say(&text)
        }
        ConfigCommand::Print { .. } => say(&loaded.print(true)),
        ConfigCommand::Check | ConfigCommand::Schema => say("the configuration is right"),
    }
}

fn version(build: &BuildInfo, json: bool) -> Result<()> {
    if json {
        return say(&serde_json::to_string(build)?);
    }
    let commit = build.git_commit.unwrap_or("unknown");
    say(&format!("{} {} (commit {commit}, built {})", build.name, build.version, build.built_at))
}

/// Prints to standard output; a reader that has seen enough is no error.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{newline}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints the error that ends the process.
pub(crate) fn complain(build: &BuildInfo, error: &Error) {
    let _ = writeln!(io::stderr().lock(), "{}: {error}", build.name);
}

/// How long the runtime may take to end its blocking threads when all else is done.
pub(crate) const RUNTIME_END: Duration = Duration::from_millis(500);
