//! `cargo xtask bench --outbound`: what the client stack adds to a call.
//!
//! The program measures and judges itself; the count of allocations gates, since it does not depend on the machine.

use crate::{Result, shell};

const PACKAGE: &str = "outbound";

pub(super) fn run(arguments: &[&String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err("--outbound takes no other option".into());
    }
    shell::run(&mut shell::cargo(["run", "--release", "--quiet", "--locked", "--package", PACKAGE]))
}
