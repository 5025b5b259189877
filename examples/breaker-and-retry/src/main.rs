//! What happens when the other service is down?
//! `cargo run -p breaker-and-retry -- --config examples/breaker-and-retry/config/default.toml`, then
//! `curl localhost:8080/picnic`.
//!
//! `Picnic` asks `Weather`, which feels as it is told. `asked` in the answers is how many requests have come to it.
//!
//! - `curl -X PUT localhost:8080/weather/flaky`: every third request fails, and no caller of `/picnic` hears of it. A call
//!   that failed is tried again, since a GET does no harm, within a budget: at most a fifth of the calls, or ten in a
//!   second.
//! - `curl -X PUT localhost:8080/weather/down`: ask a few times. At first each call is tried and fails: 502,
//!   `dependency_failed`. After seven failures in a row, or when half of what it saw in ten seconds failed, the breaker
//!   opens: 503, `circuit_open`, at once, and nothing is sent. After a second it lets a call through, to see; then it waits
//!   longer.
//! - `curl -X PUT localhost:8080/weather/fine`: it closes by itself.
//!
//! Look at `curl localhost:8081/admin/dependencies` in between; `curl localhost:8080/readyz` stays `ok`, as all instances
//! have the same dependency, and would all go.
//!
//! Try next: `cache-answers`, for an answer in place of the failure, and `storefront`, where another instance takes over.

use std::sync::{Mutex, PoisonError};

use chassis::{client::CallError, prelude::*};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mood {
    Fine,
    /// Every third request fails.
    Flaky,
    Down,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Forecast {
    text: String,
    /// How many requests have come to the weather service.
    asked: u32,
}

#[derive(Debug, thiserror::Error, Problem)]
#[error("the barometer is broken")]
#[problem(internal)]
struct Broken;

/// The service that is down now and then.
struct Weather(Mutex<(Mood, u32)>);

#[service]
impl Weather {
    /// What the weather will be.
    #[get("/weather")]
    async fn forecast(&self) -> Result<Forecast, Broken> {
        let (mood, asked) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.1 += 1;
            *state
        };
        if mood == Mood::Down || mood == Mood::Flaky && asked.is_multiple_of(3) {
            return Err(Broken);
        }
        Ok(Forecast { text: "sunny".to_owned(), asked })
    }

    /// Tell it how to feel; gives how many requests have come so far.
    #[put("/weather/{mood}")]
    async fn feel(&self, mood: Mood) -> u32 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = mood;
        state.1
    }
}

/// The weather service, as its callers see it.
#[chassis::client]
trait WeatherApi: Send + Sync {
    #[get("/weather")]
    async fn forecast(&self) -> Result<Forecast, CallError>;
}

struct Picnic {
    weather: WeatherApiClient,
}

#[service]
impl Picnic {
    /// Whether to go. The error of the call is handed on as it is.
    #[get("/picnic")]
    async fn picnic(&self) -> Result<Forecast, CallError> {
        self.weather.forecast().await
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let weather = WeatherApiClient::new(chassis.client("weather")?);
    let upstream = Weather(Mutex::new((Mood::Fine, 0)));
    chassis.mount(upstream).mount(Picnic { weather }).serve().await
}
