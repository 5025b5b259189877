//! Makes the gRPC stubs. protox compiles the proto file in Rust, so no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["hello/v1/hello.proto"], ["proto"])?;
    // For reflection.
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("hello.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
