//! What is still believed of instances when Consul came back without its memory: pure, with the time as an argument.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crate::discovery::Endpoint;

/// How long an instance that Consul has lost is kept. Chosen: longer than instances take to notice and to register again: a
/// third of the TTL and jitter (8 s by default), 10 s in Kratos, 15 s in Micronaut, and the restart itself.
const KEEP: Duration = Duration::from_secs(30);

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) endpoints: Vec<Endpoint>,
    /// `X-Consul-Index`.
    pub(super) index: u64,
}

/// What was known before Consul began anew.
#[derive(Debug, Default)]
pub(super) struct Recollection {
    index: u64,
    /// Whether Consul was away since the last answer: what was missed is not known.
    away: bool,
    /// The last answer's.
    endpoints: Vec<Endpoint>,
    /// Those of the history before, until then.
    lost: Option<(Vec<Endpoint>, Instant)>,
}

impl Recollection {
    /// Takes in an answer; gives the list that is to be used.
    ///
    /// An index that went back tells another history: Consul came back empty, or from an older snapshot. So may any answer
    /// after a failure, whatever its index is: an empty one counts on, too. What it does not name then is not known to be gone.
    /// Inside one history, what it does not name is gone.
    pub(super) fn take(&mut self, answer: Answer, now: Instant) -> Vec<Endpoint> {
        if std::mem::take(&mut self.away) || answer.index < self.index {
            let mut lost = std::mem::take(&mut self.endpoints);
            lost.extend(self.lost.take().map(|(lost, _)| lost).unwrap_or_default());
            let named: HashSet<_> = answer.endpoints.iter().map(|endpoint| &endpoint.id).collect();
            lost.retain(|endpoint| !named.contains(&endpoint.id));
            self.lost = now.checked_add(KEEP).filter(|_| !lost.is_empty()).map(|until| (lost, until));
        }
        self.index = answer.index;
        self.endpoints = answer.endpoints;
        self.list(now)
    }

    /// A query has failed.
    pub(super) const fn failed(&mut self) {
        self.away = true;
    }

    /// The list once the time of what was lost is over.
    pub(super) fn forget(&mut self, now: Instant) -> Option<Vec<Endpoint>> {
        let over = self.lost.as_ref().is_some_and(|(_, until)| *until <= now);
        over.then(|| self.list(now))
    }

    /// How long what was lost is still kept.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let least = Duration::from_millis(1);
        self.lost.as_ref().map(|(_, until)| until.saturating_duration_since(now).max(least))
    }

    fn list(&mut self, now: Instant) -> Vec<Endpoint> {
        self.lost.take_if(|(_, until)| *until <= now);
        let mut list = self.endpoints.clone();
        if let Some((lost, _)) = &mut self.lost {
            // One that is back is not lost, also when it leaves again.
            let known: HashSet<_> = list.iter().map(|endpoint| endpoint.id.clone()).collect();
            lost.retain(|endpoint| !known.contains(&endpoint.id));
            list.extend(lost.iter().cloned());
            list.sort_by(|a, b| a.id.cmp(&b.id));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ids: &[u16], index: u64) -> Answer {
        Answer { endpoints: ids.iter().map(|&id| Endpoint::at("host", id)).collect(), index }
    }

    fn ports(list: &[Endpoint]) -> Vec<u16> {
        list.iter().map(|endpoint| endpoint.port).collect()
    }

    #[test]
    fn what_leaves_within_one_history_is_gone_and_what_an_empty_consul_lost_is_kept_for_a_while() {
        let start = Instant::now();
        let mut memory = Recollection::default();
        assert_eq!(ports(&memory.take(answer(&[11, 12, 13], 90), start)), [11, 12, 13]);
        assert_eq!(ports(&memory.take(answer(&[12, 13], 95), start)), [12, 13], "one said goodbye");
        assert_eq!(memory.wait(start), None);

        // Back, and empty.
        assert_eq!(ports(&memory.take(answer(&[], 3), start)), [12, 13]);
        assert_eq!(memory.wait(start), Some(KEEP));
        // One registers again, a new one comes; then the first leaves for good.
        assert_eq!(ports(&memory.take(answer(&[12, 14], 8), start)), [12, 13, 14]);
        assert_eq!(ports(&memory.take(answer(&[14], 9), start)), [13, 14]);
        assert!(memory.forget(start + KEEP / 2).is_none());
        assert_eq!(memory.forget(start + KEEP).map(|list| ports(&list)), Some(vec![14]));
        assert_eq!((memory.wait(start), memory.forget(start + KEEP)), (None, None));
    }

    #[test]
    fn what_an_answer_after_a_failure_does_not_name_is_kept_for_a_while_whatever_its_index_is() {
        let start = Instant::now();
        let mut memory = Recollection::default();
        memory.take(answer(&[11, 12], 20), start);
        memory.failed();
        assert_eq!(
            ports(&memory.take(answer(&[], 900), start)),
            [11, 12],
            "an empty Consul that was written to already"
        );
        assert_eq!(memory.forget(start + KEEP), Some(Vec::new()));
        // Nothing is missing, so nothing is kept.
        memory.take(answer(&[11], 901), start);
        memory.failed();
        memory.take(answer(&[11], 901), start);
        assert_eq!(memory.wait(start), None);
        assert_eq!(ports(&memory.take(answer(&[], 902), start)), [0; 0], "the failure is past");
    }

    #[test]
    fn a_second_loss_does_not_forget_the_first() {
        let start = Instant::now();
        let mut memory = Recollection::default();
        memory.take(answer(&[11, 12], 90), start);
        memory.take(answer(&[11], 8), start);
        let later = start + KEEP / 2;
        assert_eq!(ports(&memory.take(answer(&[], 2), later)), [11, 12]);
        assert_eq!(memory.wait(later), Some(KEEP));
    }
}
