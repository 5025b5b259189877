//! The order of the layers, and nothing else. Only this folder knows which layer wraps which.

mod inbound;
mod outbound;
mod own;

pub(crate) use inbound::{LayerInfo, inbound, router};
pub(crate) use outbound::outbound;
pub(crate) use own::OwnLayer;

use std::collections::BTreeMap;

use crate::{client::ClientConfig, server::config::HttpConfig};

/// The layers on the way in, `own` among them, then those on the way out to each destination.
pub(crate) fn describe(
    http: &HttpConfig,
    own: &[OwnLayer],
    clients: &BTreeMap<String, ClientConfig>,
) -> Vec<LayerInfo> {
    let outbound = clients.iter().flat_map(|(name, config)| outbound::describe(name, config));
    inbound::describe(http, own.iter().map(OwnLayer::name)).into_iter().chain(outbound).collect()
}
