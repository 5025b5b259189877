//! The pages of the reference, made from the same source as the program. `cargo xtask docs` writes them to `docs/generated/`.

use clap::Command;

use crate::{
    Error, Result,
    cause::Cause,
    config::Schema,
    error::Exit,
    settings::{STANDARD_VARIABLES, defaults},
    telemetry::{log, metrics},
};

pub(super) fn page(name: &str, schema: &Schema, command: Command) -> Result<String> {
    match name {
        "config" => Ok(config(schema)),
        "metrics" => Ok(metrics::reference_markdown()),
        "causes" => Ok(causes()),
        "logs" => Ok(log::fields::reference_markdown()),
        "cli" => Ok(cli(command)),
        _ => {
            Err(Error::new(Exit::Usage, format!("found page {name:?}, expected config, metrics, causes, logs or cli")))
        }
    }
}

fn config(schema: &Schema) -> String {
    let mut page = String::from(
        "# Configuration keys\n\n\
         Every key has a default or may stay unset. Where values come from, and which source wins: \
         [configuration](../how-to/configuration.md).\nThe same as a file to start from: [default.toml](default.toml); for editors: \
         [config.schema.json](config.schema.json).\n\n\
         Some keys have a variable of the ecosystem too; the `CHASSIS_` variable wins.\n\n| variable | key |\n| --- | --- |\n",
    );
    for (variable, key) in STANDARD_VARIABLES {
        page.push_str(&format!("| `{variable}` | `{key}` |\n"));
    }
    page + "\n" + &schema.reference_markdown(&defaults())
}

fn causes() -> String {
    let mut page = String::from(
        "# Causes of refusal\n\nOne word for each cause, the same in the metric `chassis.rejections`, the field `error.type` of the access \
         log, the\nmember `code` of a problem, and the `reason` of a gRPC `ErrorInfo`. A cause that was never processed is safe to \
         retry,\nwhatever the method; any other where the request is idempotent.\n\n\
         | cause | HTTP | gRPC | never processed | title | given today by |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for cause in Cause::ALL {
        page.push_str(&format!(
            "| `{}` | {} | `{}` | {} | {} | {} |\n",
            cause.as_str(),
            cause.http_status().as_u16(),
            metrics::code_name(cause.grpc_code()),
            if cause.never_processed() { "yes" } else { "no" },
            cause.title(),
            given_by(cause),
        ));
    }
    page.push_str(
        "\nWords of the same kind that are no refusals of this service, and so are not in `chassis.rejections`:\n\n\
         | word | where | means |\n| --- | --- | --- |\n\
         | `dependency_failed` | `code`, `error.type` | a call out failed, and the handler handed that on: 502, 503 or 504, `UNAVAILABLE` \
         or `DEADLINE_EXCEEDED` |\n\
         | `aborted` | `error.type` | the caller went away |\n\
         | `broken_off` | `error.type` | the answer broke off after its head |\n\
         | a code of your own | `code`, `error.type` | a domain error, by `#[derive(Problem)]` |\n",
    );
    page
}

/// Who says it now. The match is whole, so that a new cause is not forgotten.
const fn given_by(cause: Cause) -> &'static str {
    match cause {
        Cause::DeadlineExceeded => "the time limit of the caller, the route or the server; a call out",
        Cause::Overloaded => "nobody yet: kept for a load shedder",
        Cause::RateLimited => "an extractor of another crate, by its status 429",
        Cause::CircuitOpen => "a call out: no endpoint is available",
        Cause::BulkheadFull => "a route's `concurrency`; the limit of a call out",
        Cause::Unauthenticated => "the operators' port; an extractor of another crate, by its status 401",
        Cause::PermissionDenied => "an extractor of another crate, by its status 403",
        Cause::PayloadTooLarge => "the body limit of the server or the route",
        Cause::InvalidRequest => "arguments and their rules, `Accept`, the check of the host",
        Cause::NotFound => "the router; the operators' port; an extractor of another crate, by its status 404",
        Cause::MethodNotAllowed => "the router",
        Cause::Draining => "nobody yet: a stop refuses no request",
        Cause::NoEndpoints => "a call out: no connection, or an empty list",
        Cause::Internal => "a panic; an answer that cannot be written",
    }
}

fn cli(mut command: Command) -> String {
    command.build();
    let mut page = String::from("# Command line\n\nEvery service binary has it; `service` stands for its name.\n");
    write_command(&mut page, command, "service");
    page.push_str(
        "\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n| 0 | done, or ended in order |\n| 1 | `healthcheck`: not healthy; `openapi --check`: not the same |\n\
         | 2 | the command line makes no sense |\n| 69 | something the service needs is not to be had |\n\
         | 70 | a fault of the service |\n| 78 | the configuration is wrong |\n\
         | 130, 143 | a third SIGINT or SIGTERM ended it at once |\n",
    );
    page
}

fn write_command(page: &mut String, mut command: Command, path: &str) {
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## `{path}`\n\n```text\n{}\n```\n", help.join("\n")));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        // What every command takes is said once, at the top.
        let own = sub.clone().mut_args(|arg| {
            let said = arg.is_global_set();
            arg.hide(said)
        });
        write_command(page, own, &path);
    }
}
