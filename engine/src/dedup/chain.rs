//! All samples of all replicas in time order, each timestamp once.
//!
//! Which replica wins a shared timestamp follows from the order in which a binary heap of replicas
//! is refilled; Prometheus compacts overlapping blocks this way, so the heap below moves its
//! entries exactly as Go's `container/heap` does.

use super::Pick;

/// Appends the samples of `replicas` (ascending timestamps in milliseconds) in time order; of equal
/// timestamps one stays.
pub fn merge(replicas: &[&[i64]], picks: &mut Vec<Pick>) {
    let mut heap = Heap { replicas, at: vec![0; replicas.len()], entries: Vec::with_capacity(replicas.len()) };
    for replica in 1..replicas.len() {
        if heap.time(replica).is_some() {
            heap.push(replica);
        }
    }
    let mut current = match replicas.first() {
        Some([_, ..]) => Some(0),
        _ => heap.pop(),
    };
    let mut last = None;
    while let Some(replica) = current {
        let Some(time) = heap.time(replica) else {
            current = heap.pop();
            continue;
        };
        if Some(time) == last {
            heap.at[replica] += 1;
            continue;
        }
        if heap.first_time().is_some_and(|first| first <= time) {
            heap.push(replica);
            current = heap.pop();
            let chosen = current.expect("a heap that was just pushed to holds an entry");
            if heap.time(chosen) == last {
                continue;
            }
        }
        let chosen = current.expect("a replica is current until it is exhausted");
        picks.push(Pick { replica: chosen as u32, sample: heap.at[chosen] as u32 });
        last = heap.time(chosen);
        heap.at[chosen] += 1;
    }
}

/// A binary heap of replicas by the time of their next sample.
struct Heap<'a> {
    replicas: &'a [&'a [i64]],
    at: Vec<usize>,
    entries: Vec<usize>,
}

impl Heap<'_> {
    fn time(&self, replica: usize) -> Option<i64> {
        self.replicas[replica].get(self.at[replica]).copied()
    }

    fn first_time(&self) -> Option<i64> {
        self.time(*self.entries.first()?)
    }

    fn less(&self, left: usize, right: usize) -> bool {
        self.time(self.entries[left]) < self.time(self.entries[right])
    }

    fn push(&mut self, replica: usize) {
        self.entries.push(replica);
        let mut child = self.entries.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.less(child, parent) {
                break;
            }
            self.entries.swap(child, parent);
            child = parent;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let last = self.entries.len().checked_sub(1)?;
        self.entries.swap(0, last);
        let popped = self.entries.pop();
        let mut parent = 0;
        loop {
            let left = 2 * parent + 1;
            if left >= last {
                break;
            }
            let right = left + 1;
            let child = if right < last && self.less(right, left) { right } else { left };
            if !self.less(child, parent) {
                break;
            }
            self.entries.swap(parent, child);
            parent = child;
        }
        popped
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
