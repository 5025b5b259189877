//! The order of the layers, and nothing else. Only this folder knows which layer wraps which.

mod inbound;
mod outbound;

pub(crate) use inbound::{LayerInfo, describe, inbound};
pub(crate) use outbound::{describe as describe_outbound, outbound};
