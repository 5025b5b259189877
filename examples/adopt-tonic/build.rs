//! Makes the gRPC stubs: the catalogue's own, and the inventory's, which it calls.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=../inventory/proto");
    let catalogue = protox::compile(["catalogue/v1/catalogue.proto"], ["proto"])?;
    // For reflection.
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("catalogue.bin"), catalogue.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(catalogue)?;
    let inventory = protox::compile(["inventory/v1/inventory.proto"], ["../inventory/proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(inventory)?;
    Ok(())
}
