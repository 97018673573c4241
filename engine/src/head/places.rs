//! Where the labels of each series are in the inverted index: runs of numbers in pages, so that growing
//! moves none of them.
//!
//! ```text
//! page   run of a series │ run │ …       at most 2^16 numbers, no run goes on in the next page
//! at     page u16 │ number within it u16
//! ```

/// Numbers of a page; the first grows up to that. A series has fewer labels.
const PAGE: usize = 1 << 16;

/// Runs of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// Never empty ones.
    pages: Vec<Vec<u32>>,
}

impl Places {
    /// Whether another run fits.
    pub(super) fn has_room(&self) -> bool {
        self.pages.len() < PAGE
    }

    /// Adds a run of at most 2^16 numbers; gives where it starts.
    #[inline]
    pub(super) fn push(&mut self, run: impl ExactSizeIterator<Item = u32>) -> u32 {
        let fits = self.pages.last().is_some_and(|page| page.len() + run.len() <= PAGE);
        if !fits {
            self.pages.push(Vec::with_capacity(if self.pages.is_empty() { run.len() } else { PAGE }));
        }
        let number = self.pages.len() - 1;
        let page = &mut self.pages[number];
        let start = page.len();
        page.extend(run);
        (number * PAGE + start.min(PAGE - 1)) as u32
    }

    /// The run of `len` numbers that starts at `at`.
    #[inline]
    pub(super) fn get(&self, at: u32, len: usize) -> &[u32] {
        let run = || self.pages.get(at as usize / PAGE)?.get(at as usize % PAGE..)?.get(..len);
        run().unwrap_or(&[])
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let numbers: usize = self.pages.iter().map(Vec::capacity).sum();
        numbers * size_of::<u32>() + self.pages.capacity() * size_of::<Vec<u32>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_from_whatever_page_they_are_in() {
        let mut places = Places::default();
        let runs: Vec<Vec<u32>> = (0..30_000u32).map(|run| (0..run % 23).map(|at| run * 31 + at).collect()).collect();
        let starts: Vec<u32> = runs.iter().map(|run| places.push(run.iter().copied())).collect();
        assert!(places.pages.len() > 3 && places.has_room());
        for (run, start) in runs.iter().zip(starts) {
            assert_eq!(places.get(start, run.len()), run);
        }
        let longest = places.push((0..PAGE as u32).collect::<Vec<_>>().into_iter());
        assert!(places.get(longest, PAGE).iter().copied().eq(0..PAGE as u32));
        assert_eq!(places.get(longest, PAGE + 1), [0; 0]);
    }
}
