//! Where does this value come from? `cd examples/config-layers && cargo run -p config-layers`, then
//! `curl localhost:8080/greeting/ada`.
//!
//! Each of these is stronger than the ones above it:
//!
//! 1. `Default` below;
//! 2. `config/default.toml` in the working directory;
//! 3. `config/prod.toml`, with `CHASSIS_PROFILE=prod`;
//! 4. `CHASSIS_APP__GREETING=hey`;
//! 5. `--set app.greeting=ahoy`.
//!
//! `cargo run -p config-layers -- config explain app.greeting` says which one it was, and `config print` says it of every
//! key. While the service runs, `curl localhost:8081/admin/config` does; the secret stays hidden in all of them.
//!
//! Try next: edit `config/default.toml` while the service runs, and ask again after two seconds. Then write
//! `greting = "hello"` there: the service goes on with the last good values, and `curl localhost:8081/health` says why.

use std::sync::Arc;

use chassis::{config::Secret, prelude::*};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The service's own settings: the section `[app]`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The word before the name.
    #[schemars(extend("x-reloadable" = true))]
    greeting: String,
    /// How often it is said.
    #[schemars(range(min = 1, max = 10))]
    times: u8,
    /// The key of a service that this one would call.
    api_key: Secret<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { greeting: "hi".to_owned(), times: 1, api_key: Secret::default() }
    }
}

#[derive(Serialize, JsonSchema)]
struct Greeting {
    text: String,
    /// Whether there is a key; nobody is told which.
    has_key: bool,
}

struct Greeter {
    settings: watch::Receiver<Arc<Settings>>,
}

#[service]
impl Greeter {
    /// Greet somebody, as the settings are now.
    #[get("/greeting/{name}")]
    async fn greeting(&self, name: String) -> Greeting {
        let now = self.settings.borrow().clone();
        let text = vec![format!("{}, {name}", now.greeting); now.times.into()].join("! ");
        Greeting { text, has_key: !now.api_key.expose().is_empty() }
    }
}

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    // `chassis.settings()` has the values of the start; this follows those marked `x-reloadable`.
    let settings = chassis.settings_watch();
    chassis.mount(Greeter { settings }).serve().await
}
