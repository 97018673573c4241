//! All samples of all replicas in time order, each timestamp once.
//!
//! Which replica wins a shared timestamp follows from the order in which a binary heap of replicas
//! is refilled; Prometheus compacts overlapping blocks this way, so the heap moves its entries
//! exactly as Go's `container/heap` does.

use super::Pick;
use super::heap::Heap;

/// Appends the samples of `replicas` (ascending timestamps in milliseconds) in time order; of equal
/// timestamps one stays.
pub fn merge(replicas: &[&[i64]], picks: &mut Vec<Pick>) {
    Chain::default().resume(replicas, usize::MAX, picks);
}

/// A merge that can be interrupted.
#[derive(Debug, Default)]
pub struct Chain {
    /// The next sample of each replica; empty before the merge has begun.
    at: Vec<usize>,
    heap: Heap<usize>,
    current: Option<usize>,
    last: Option<i64>,
}

impl Chain {
    /// Goes on with the merge of `replicas`, which are the same each time, and looks at `samples_max` of
    /// their samples at most; whether there are more.
    pub fn resume(&mut self, replicas: &[&[i64]], samples_max: usize, picks: &mut Vec<Pick>) -> bool {
        let time = |replica: usize, at: &[usize]| replicas[replica].get(at[replica]).copied();
        let less = |at: &[usize], left: usize, right: usize| time(left, at) < time(right, at);
        if self.at.is_empty() {
            self.begin(replicas);
        }
        let Self { at, heap, current, last } = self;
        let mut looked_at = 0;
        while let Some(replica) = *current {
            if looked_at >= samples_max {
                return true;
            }
            match time(replica, at) {
                None => *current = heap.pop(|left, right| less(at, *left, *right)),
                Some(next) => {
                    looked_at += 1;
                    if Some(next) == *last {
                        at[replica] += 1;
                        continue;
                    }
                    if heap.peek().and_then(|first| time(*first, at)).is_some_and(|first| first <= next) {
                        heap.push(replica, |left, right| less(at, *left, *right));
                        *current = heap.pop(|left, right| less(at, *left, *right));
                    }
                }
            }
            // Behind a replica that ends comes the first of the heap, without a look at the second.
            let Some(chosen) = *current else { break };
            if time(chosen, at) == *last {
                continue;
            }
            picks.push(Pick { replica: chosen as u32, sample: at[chosen] as u32 });
            *last = time(chosen, at);
            at[chosen] += 1;
        }
        false
    }

    fn begin(&mut self, replicas: &[&[i64]]) {
        self.at.resize(replicas.len(), 0);
        let less = |left: &usize, right: &usize| replicas[*left].first() < replicas[*right].first();
        for (replica, _) in replicas.iter().enumerate().skip(1).filter(|(_, times)| !times.is_empty()) {
            self.heap.push(replica, less);
        }
        self.current = (!replicas.is_empty()).then_some(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(replicas: &[&[i64]]) -> Vec<i64> {
        let mut picks = Vec::new();
        merge(replicas, &mut picks);
        picks.iter().map(|pick| replicas[pick.replica as usize][pick.sample as usize]).collect()
    }

    #[test]
    fn every_timestamp_comes_once_and_in_order() {
        assert_eq!(times(&[&[1, 3, 5], &[1, 2, 5, 6], &[], &[0, 6, 7]]), [0, 1, 2, 3, 5, 6, 7]);
        assert_eq!(times(&[&[], &[1], &[1]]), [1]);
        assert!(times(&[]).is_empty());
    }

    #[test]
    fn of_two_replicas_that_share_all_timestamps_the_second_wins() {
        let mut picks = Vec::new();
        merge(&[&[1, 2, 3], &[1, 2, 3]], &mut picks);
        assert!(picks.iter().all(|pick| pick.replica == 1), "{picks:?}");
    }

    #[test]
    fn behind_a_replica_that_ends_the_first_of_the_heap_wins() {
        let replicas: [&[i64]; 3] = [&[5, 20, 30], &[6, 20, 30], &[0, 10]];
        let mut picks = Vec::new();
        merge(&replicas, &mut picks);
        // As Prometheus' ChainSampleIterator picks.
        assert!(picks.iter().map(|pick| pick.replica).eq([2, 0, 1, 2, 1, 1]), "{picks:?}");
        picks.clear();
        merge(&[&[], &[7], &[7]], &mut picks);
        assert!(picks.iter().map(|pick| pick.replica).eq([1]), "{picks:?}");
    }

    #[test]
    fn a_merge_that_is_interrupted_picks_the_same() {
        let replicas: [&[i64]; 4] = [&[1, 3, 5], &[1, 2, 5, 6], &[], &[0, 6, 7]];
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        merge(&replicas, &mut whole);
        for samples_max in 1..5 {
            let mut chain = Chain::default();
            parts.clear();
            while chain.resume(&replicas, samples_max, &mut parts) {}
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn the_result_is_the_sorted_union() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let replicas: Vec<Vec<i64>> = (0..1 + next(5))
                .map(|_| {
                    let mut column: Vec<i64> = (0..next(20)).map(|_| next(30) as i64).collect();
                    column.sort_unstable();
                    column.dedup();
                    column
                })
                .collect();
            let views: Vec<&[i64]> = replicas.iter().map(Vec::as_slice).collect();
            let mut union: Vec<i64> = replicas.concat();
            union.sort_unstable();
            union.dedup();
            assert_eq!(times(&views), union, "{replicas:?}");
        }
    }
}
