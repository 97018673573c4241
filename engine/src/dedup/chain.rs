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
    let mut at = vec![0; replicas.len()];
    let mut heap = Heap::default();
    let time = |replica: usize, at: &[usize]| replicas[replica].get(at[replica]).copied();
    let less = |at: &[usize], left: usize, right: usize| time(left, at) < time(right, at);
    for replica in 1..replicas.len() {
        if time(replica, &at).is_some() {
            heap.push(replica, |left, right| less(&at, *left, *right));
        }
    }
    let mut current = match replicas.first() {
        Some([_, ..]) => Some(0),
        _ => heap.pop(|left, right| less(&at, *left, *right)),
    };
    let mut last = None;
    while let Some(replica) = current {
        let Some(next) = time(replica, &at) else {
            current = heap.pop(|left, right| less(&at, *left, *right));
            continue;
        };
        if Some(next) == last {
            at[replica] += 1;
            continue;
        }
        if heap.peek().and_then(|first| time(*first, &at)).is_some_and(|first| first <= next) {
            heap.push(replica, |left, right| less(&at, *left, *right));
            current = heap.pop(|left, right| less(&at, *left, *right));
            let chosen = current.expect("a heap that was just pushed to holds an entry");
            if time(chosen, &at) == last {
                continue;
            }
        }
        let chosen = current.expect("a replica is current until it is exhausted");
        picks.push(Pick { replica: chosen as u32, sample: at[chosen] as u32 });
        last = time(chosen, &at);
        at[chosen] += 1;
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
