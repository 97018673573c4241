//! Overlapping chunks of one series set apart, so that the chunks of each replica follow each other.

use crate::model::TimeRange;

/// The replica that each chunk of a series belongs to, given the chunks' closed ranges in ascending
/// order of their start: the first replica whose last chunk ended before, else a new one. Replicas
/// are numbered from 0.
pub fn split(chunks: &[TimeRange]) -> Vec<u32> {
    let mut ends: Vec<i64> = Vec::new();
    chunks
        .iter()
        .map(|chunk| {
            let free = ends.iter().position(|end| *end < chunk.min_time);
            let replica = free.unwrap_or(ends.len());
            match free {
                Some(at) => ends[at] = chunk.max_time,
                None => ends.push(chunk.max_time),
            }
            replica as u32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pairs: &[(i64, i64)]) -> Vec<TimeRange> {
        pairs.iter().map(|(min, max)| TimeRange::new(*min, *max)).collect()
    }

    #[test]
    fn chunks_that_follow_each_other_stay_together() {
        assert_eq!(split(&ranges(&[(0, 9), (10, 19), (20, 29)])), [0, 0, 0]);
    }

    #[test]
    fn a_chunk_that_shares_a_millisecond_goes_to_the_next_free_replica() {
        assert_eq!(split(&ranges(&[(0, 10), (10, 20), (11, 30), (12, 40), (41, 50)])), [0, 1, 0, 2, 0]);
    }
}
