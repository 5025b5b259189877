//! Sees how many pieces of a handler's work began and how many ended, however they ended.

use std::{future::Future, sync::Arc};

use tokio::{sync::watch, time::timeout};

use super::raw::PATIENCE;

#[derive(Clone)]
pub struct Witness(Arc<watch::Sender<(u32, u32)>>);

pub struct AtWork(Witness);

impl Witness {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new((0, 0))))
    }

    /// Work that lasts until the guard is dropped.
    pub fn begin(&self) -> AtWork {
        self.0.send_modify(|seen| seen.0 += 1);
        AtWork(self.clone())
    }

    /// Work that never ends by itself.
    pub fn hang(&self) -> impl Future<Output = ()> + Send + use<> {
        let witness = self.clone();
        async move {
            let _at_work = witness.begin();
            std::future::pending::<()>().await;
        }
    }

    pub fn seen(&self) -> (u32, u32) {
        *self.0.borrow()
    }

    pub async fn began(&self, count: u32) {
        timeout(PATIENCE, self.0.subscribe().wait_for(|seen| seen.0 >= count)).await.expect("work begins").unwrap();
    }

    pub async fn ended(&self, count: u32) {
        timeout(PATIENCE, self.0.subscribe().wait_for(|seen| seen.1 >= count)).await.expect("work ends").unwrap();
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.send_modify(|seen| seen.1 += 1);
    }
}
