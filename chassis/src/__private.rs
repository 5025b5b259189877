//! What generated code names. Hidden, and without promises: a macro and the crate that re-exports it are of one version.

pub use std::{process::ExitCode, sync::Arc, time::Duration};

pub use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{delete, get, head, patch, post, put},
};
pub use http::Method;

pub use crate::{
    chassis::main,
    identity::BuildInfo,
    problem::{IntoProblem, Problem},
    service::{
        Arguments, IntoRoutes, Rejection, RouteInfo, RoutePolicy, Routes, Service,
        select::{AsJson, AsNothing, AsReply, AsResponse, CannotFail, MayFail, Probe, send},
    },
};
