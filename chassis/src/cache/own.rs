//! The failures that are one caller's own: its time was up, or its call was cancelled.

use std::{any::Any, error::Error};

use tokio::time::error::Elapsed;
use tonic::{Code, Status};

use crate::{
    client::{CallError, code_of_error}, // floor: the errors that fetches fail with
    clock::now,
    context::RequestContext,
    error::BoxError,
};

/// Whether a fetch failed because of the caller that made it, so that others, which may have more time, must not share it.
///
/// The types of errors that calls out have are known; of any other type only the time of the request being served is.
pub(super) fn is_own<E: 'static>(error: &E) -> bool {
    let any: &dyn Any = error;
    let known = match (any.downcast_ref::<CallError>(), any.downcast_ref::<Status>(), any.downcast_ref::<BoxError>()) {
        (Some(error), ..) => error.is_deadline_exceeded(),
        (_, Some(status), _) => gave_up(status),
        (.., Some(error)) => is_late(&**error),
        _ => any.is::<Elapsed>(),
    };
    known || request_is_over()
}

/// Returns whether one of these says that a time was up.
pub(super) fn is_late(error: &(dyn Error + 'static)) -> bool {
    let late = |error: &(dyn Error + 'static)| {
        error.is::<Elapsed>()
            || error.downcast_ref::<CallError>().is_some_and(CallError::is_deadline_exceeded)
            || error.downcast_ref::<Status>().is_some_and(gave_up)
    };
    code_of_error(error) == Code::DeadlineExceeded
        || std::iter::successors(Some(error), |error| (*error).source()).any(late)
}

fn gave_up(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
}

/// Returns whether the time of the request being served is up.
fn request_is_over() -> bool {
    let deadline = RequestContext::with_current(|context| context.and_then(RequestContext::deadline));
    deadline.is_some_and(|deadline| deadline <= now())
}
