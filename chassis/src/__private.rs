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
    chassis::{ended, main},
    client::{
        Client,
        fallback::falls_back,
        select::{AsAnswer, AsJsonAnswer, AsNoAnswer, Outcome},
    },
    identity::BuildInfo,
    problem::{IntoProblem, Problem, ProblemInfo},
    service::{
        AnswerInfo, ArgumentInfo, Arguments, Deprecation, Fields, GrpcRoutes, IntoRoutes, Rejection, RouteInfo,
        RoutePolicy, Routes, Service, Source,
        message::probe::{
            BecomesMessage, BecomesNothing, FieldProbe, HoldsMessage, MessageProbe, TakesField, TakesLifted,
            TakesNothing, TakesRequired,
        },
        select::{
            AsJson, AsNothing, AsReply, AsResponse, CannotFail, HasProblems, HasSchema, MayFail, NoProblems, NoSchema,
            Probe, never, send,
        },
        shape,
        validate::{HasNamedRules, HasRules, NoRules},
    },
};
