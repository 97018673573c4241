//! Whether enough replicas of every series are written.

use crate::ingest::refusal::{Refusal, RefusalKind};

/// The outcomes of a request's series so far.
pub(super) struct Quorum {
    series: Vec<Tally>,
    /// Replicas that must be written.
    needed: u8,
    /// Failures after which that can't be any more.
    failures_max: u8,
    /// Failures of what no receiver will ever take after which another attempt is not worth it, whatever became of the
    /// other replicas.
    hopeless_max: u8,
    undecided: usize,
    refusals: Vec<Refusal>,
}

/// What became of the replicas of one series.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    written: u8,
    failed: u8,
    /// Failures that another attempt would meet again.
    lasting: u8,
    /// Those of them that no limit is behind, which may be raised.
    hopeless: u8,
}

impl Quorum {
    /// Waits for `replicas` of each of `series`; `factor` is the replication factor. One that is
    /// already replicated is written once.
    pub(super) fn new(series: usize, replicas: usize, factor: usize, is_replica: bool) -> Self {
        // With two replicas one is enough, so that one receiver may be away, as with two Prometheus.
        let needed = if is_replica || factor == 2 { 1 } else { factor / 2 + 1 };
        Self {
            series: vec![Tally::default(); series],
            needed: needed as u8,
            failures_max: (replicas - needed.min(replicas) + 1) as u8,
            // Of two replicas one may be away for long: what the other refuses is not kept back until it returns.
            hopeless_max: if factor == 2 && !is_replica { 1 } else { (replicas - needed.min(replicas) + 1) as u8 },
            undecided: series,
            refusals: Vec::new(),
        }
    }

    /// The series `ids` were written to one receiver, or not.
    pub(super) fn note(&mut self, ids: &[u32], outcome: Result<(), Refusal>) {
        let lasting = match &outcome {
            Ok(()) => None,
            Err(refusal) => Some(!matches!(refusal.kind, RefusalKind::Unavailable | RefusalKind::Internal)),
        };
        let is_limit = matches!(&outcome, Err(Refusal { kind: RefusalKind::Limit, .. }));
        for id in ids {
            let tally = &mut self.series[*id as usize];
            let was_decided = tally.written >= self.needed || tally.lasting >= self.failures_max;
            match lasting {
                None => tally.written += 1,
                Some(lasting) => {
                    tally.failed += 1;
                    tally.lasting += u8::from(lasting);
                    tally.hopeless += u8::from(lasting && !is_limit);
                }
            }
            let is_decided = tally.written >= self.needed || tally.lasting >= self.failures_max;
            self.undecided -= usize::from(is_decided && !was_decided);
        }
        self.refusals.extend(outcome.err());
    }

    /// Whether no answer that is still to come can change the outcome. Receivers that are away don't
    /// decide: the others say whether another attempt would help.
    pub(super) fn is_decided(&self) -> bool {
        self.undecided == 0
    }

    /// Written, or why not: a series that failed for good everywhere, or in one of two replicas, is refused for good,
    /// and another attempt is asked for where receivers were away.
    pub(super) fn outcome(self) -> Result<(), Refusal> {
        if self.series.is_empty() {
            // What is said of metric families alone.
            return Refusal::merge(self.refusals).map_or(Ok(()), Err);
        }
        let failed: Vec<&Tally> = self.series.iter().filter(|tally| tally.written < self.needed).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let try_again =
            failed.iter().any(|tally| tally.lasting < self.failures_max && tally.hopeless < self.hopeless_max);
        let Some(mut merged) = Refusal::merge(self.refusals.clone()) else {
            return Err(Refusal::unavailable("receivers did not answer"));
        };
        if try_again {
            merged.kind = RefusalKind::Unavailable;
        } else {
            let lasting = self.refusals.iter().map(|refusal| refusal.kind);
            let lasting = lasting.filter(|kind| !matches!(kind, RefusalKind::Unavailable | RefusalKind::Internal));
            merged.kind = lasting.min().unwrap_or(RefusalKind::Unavailable);
        }
        Err(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: RefusalKind) -> Result<(), Refusal> {
        Err(Refusal { kind, message: format!("{kind:?}") })
    }

    /// The status of one series whose replicas end like `outcomes`.
    fn status(factor: usize, outcomes: &[Option<RefusalKind>]) -> u16 {
        let mut quorum = Quorum::new(1, factor, factor, false);
        for outcome in outcomes {
            quorum.note(&[0], outcome.map_or(Ok(()), refused));
        }
        quorum.outcome().map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    #[test]
    fn a_majority_decides_and_unavailable_receivers_ask_for_another_attempt() {
        use RefusalKind::{Conflict, Limit, Unavailable};
        let (ok, conflict, limit, away) = (None, Some(Conflict), Some(Limit), Some(Unavailable));
        for (factor, outcomes, expected) in [
            (1, &[ok][..], 200),
            (1, &[conflict], 409),
            (1, &[away], 503),
            (2, &[ok, away], 200),
            (2, &[conflict, away], 409),
            (2, &[away, conflict], 409),
            (2, &[away, away], 503),
            (2, &[limit, away], 503),
            (2, &[limit, limit], 429),
            (2, &[conflict, conflict], 409),
            (3, &[ok, ok, away], 200),
            (3, &[ok, away, away], 503),
            (3, &[ok, conflict, conflict], 409),
            (3, &[ok, conflict, away], 503),
            (3, &[conflict, conflict, away], 409),
        ] {
            assert_eq!(status(factor, outcomes), expected, "{factor} {outcomes:?}");
        }
    }

    #[test]
    fn a_request_is_decided_when_each_of_its_series_is() {
        let mut quorum = Quorum::new(2, 3, 3, false);
        quorum.note(&[0, 1], Ok(()));
        quorum.note(&[0], Ok(()));
        assert!(!quorum.is_decided());
        quorum.note(&[1], refused(RefusalKind::Unavailable));
        assert!(!quorum.is_decided());
        quorum.note(&[1], Ok(()));
        assert!(quorum.is_decided());
        assert_eq!(quorum.outcome(), Ok(()));
    }

    #[test]
    fn a_request_without_series_is_refused_where_what_it_says_of_families_is() {
        let mut quorum = Quorum::new(0, 1, 1, false);
        quorum.note(&[], Ok(()));
        assert!(quorum.is_decided());
        assert_eq!(quorum.outcome(), Ok(()));
        let mut quorum = Quorum::new(0, 1, 1, false);
        quorum.note(&[], refused(RefusalKind::Unavailable));
        assert_eq!(quorum.outcome(), refused(RefusalKind::Unavailable));
    }

    #[test]
    fn what_is_a_replica_already_is_written_once() {
        let mut quorum = Quorum::new(1, 1, 3, true);
        quorum.note(&[0], Ok(()));
        assert!(quorum.is_decided());
    }
}
