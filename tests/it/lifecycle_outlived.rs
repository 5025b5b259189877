//! A `main` that goes on when the service of `Chassis::run` has stopped: it is no unkillable process.

use std::{path::PathBuf, process::Stdio, time::Duration};

use chassis::{Chassis, config::Sources};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Command,
    time::{interval, timeout},
};

use crate::support::process::{Folder, PATIENCE};

/// Where the process below says how far it is.
const PLACE: &str = "OUTLIVED_FOLDER";

/// The process: a service, and something beside it that no signal ends.
#[tokio::test]
#[ignore = "started by the test below, in a process of its own"]
async fn a_main_that_outlives_its_service() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let set = ["http.address=127.0.0.1:0", "admin.address=127.0.0.1:0"].map(str::to_owned).to_vec();
    let sources = Sources { dir: "no-such-folder".into(), set, ..Sources::default() };
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources).unwrap();
    let handle = chassis.handle();
    let beside = async {
        handle.bound().await;
        std::fs::write(place.join("serves"), "").unwrap();
        std::future::pending::<()>().await;
    };
    let service = async {
        chassis.run().await.unwrap();
        std::fs::write(place.join("stopped"), "").unwrap();
    };
    tokio::join!(service, beside);
}

async fn appears(file: PathBuf) {
    let looked = async {
        let mut tick = interval(Duration::from_millis(5));
        while !file.exists() {
            tick.tick().await;
        }
    };
    timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("no {}", file.display()));
}

#[tokio::test]
async fn a_signal_ends_the_service_and_the_third_the_process() {
    let folder = Folder::new();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args(["--ignored", "--exact", "lifecycle_outlived::a_main_that_outlives_its_service"])
        .env(PLACE, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut process = process.spawn().unwrap();
    let pid = Pid::from_raw(process.id().unwrap().cast_signed()).unwrap();
    appears(folder.path().join("serves")).await;
    kill_process(pid, Signal::TERM).unwrap();
    appears(folder.path().join("stopped")).await;
    assert!(process.try_wait().unwrap().is_none(), "the rest of main goes on");
    kill_process(pid, Signal::TERM).unwrap();
    // Two signals that come before the first is looked at are one to the kernel.
    kill_process(pid, Signal::INT).unwrap();
    let ended = timeout(PATIENCE, process.wait()).await.expect("the third signal ends it").unwrap();
    assert!([Some(143), Some(130)].contains(&ended.code()), "{ended}");
}
