//! The pages of the reference, made from the same source as the program. `cargo xtask docs` writes them to `docs/generated/`.

use clap::Command;

use crate::{Error, Result, cause::Cause, config::Schema, error::Exit, settings::defaults, telemetry::metrics};

pub(super) fn page(name: &str, schema: &Schema, command: Command) -> Result<String> {
    match name {
        "config" => Ok(schema.reference_markdown(&defaults())),
        "metrics" => Ok(metrics::reference_markdown()),
        "causes" => Ok(causes()),
        "cli" => Ok(cli(command)),
        _ => Err(Error::new(Exit::Usage, format!("found page {name:?}, expected config, metrics, causes or cli"))),
    }
}

fn causes() -> String {
    let mut page = String::from(
        "# Causes of refusal\n\nOne word for each cause, the same in the metric `chassis.rejections`, the field `error_type` of the access \
         log, the member `code` of a problem, and the `reason` of a gRPC `ErrorInfo`.\n\n\
         | cause | HTTP | gRPC | never processed | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for cause in Cause::ALL {
        page.push_str(&format!(
            "| `{}` | {} | {:?} | {} | {} |\n",
            cause.as_str(),
            cause.http_status().as_u16(),
            cause.grpc_code(),
            if cause.never_processed() { "yes" } else { "no" },
            cause.title(),
        ));
    }
    page
}

fn cli(mut command: Command) -> String {
    command.build();
    let mut page = String::from("# Command line\n\nEvery service binary has it.\n");
    write_command(&mut page, &mut command, "service");
    page.push_str(
        "\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n| 0 | done, or ended in order |\n| 1 | `healthcheck`: not healthy |\n\
         | 2 | the command line makes no sense |\n| 69 | something the service needs is not to be had |\n\
         | 70 | a fault of the service |\n| 78 | the configuration is wrong |\n",
    );
    page
}

fn write_command(page: &mut String, command: &mut Command, path: &str) {
    let help = command.render_long_help().to_string();
    page.push_str(&format!("\n## `{path}`\n\n```text\n{}\n```\n", help.trim_end()));
    for sub in command.get_subcommands_mut() {
        if sub.is_hide_set() {
            continue;
        }
        let path = format!("{path} {}", sub.get_name());
        write_command(page, sub, &path);
    }
}
