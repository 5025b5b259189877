//! The domain as HTTP routes and gRPC methods. What one does beyond calling the domain belongs into the domain.

use std::sync::Arc;

use chassis::prelude::*;
use tokio::sync::watch;

use crate::{
    domain::{GreetError, Greeting, greet},
    grpc::proto,
    settings::Settings,
};

/// Greets as the settings say that are in effect.
pub(crate) struct Greeter {
    settings: watch::Receiver<Arc<Settings>>,
}

impl Greeter {
    pub(crate) fn new(settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self { settings }
    }
}

#[service(grpc = proto::greeter_server::Greeter)]
impl Greeter {
    /// Greet somebody.
    #[get("/hello/{name}")]
    #[rpc(Hello)]
    async fn hello(&self, name: String) -> Result<Greeting, GreetError> {
        let settings = Arc::clone(&self.settings.borrow());
        greet(&settings.greeting, &name, settings.longest_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_changed_setting_is_in_the_next_answer() {
        let (settings, seen) = watch::channel(Arc::new(Settings::default()));
        let greeter = Greeter::new(seen);
        assert_eq!(greeter.hello("ada".to_owned()).await.map(|greeting| greeting.text), Ok("Hello, ada!".to_owned()));

        settings.send_replace(Arc::new(Settings { greeting: "Moin".to_owned(), ..Settings::default() }));
        assert_eq!(greeter.hello("ada".to_owned()).await.map(|greeting| greeting.text), Ok("Moin, ada!".to_owned()));
    }
}
