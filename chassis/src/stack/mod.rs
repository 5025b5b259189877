//! The order of the layers, and nothing else. Only this folder knows which layer wraps which.

mod inbound;

pub(crate) use inbound::{LayerInfo, describe, inbound};
