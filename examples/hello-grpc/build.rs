//! Makes the gRPC stubs. protox compiles the proto file in Rust, so no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["hello/v1/hello.proto"], ["proto"])?;
    // For reflection.
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("hello.bin"), descriptors.encode_to_vec())?;
    // prost and its codec as the chassis has them: no dependencies of this crate's own, and no second version.
    let mut config = tonic_prost_build::Config::new();
    config.prost_path("::chassis::prost");
    tonic_prost_build::configure()
        .codec_path("::chassis::tonic_prost::ProstCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
