//! A caller: `cargo run --example call -- ada`, and another address after the name if it is not the usual one.

use std::{env, error::Error};

use proto::{HelloRequest, greeter_client::GreeterClient};

mod proto {
    tonic::include_proto!("greetings.v1");
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "a program for the terminal")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "ada".to_owned());
    let address = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());

    let mut greeter = GreeterClient::connect(address).await?;
    let greeting = greeter.hello(HelloRequest { name }).await?.into_inner();
    println!("{}", greeting.text);
    Ok(())
}
