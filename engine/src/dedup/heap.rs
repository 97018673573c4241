//! A binary heap whose entries move exactly as those of Go's `container/heap`, so that of equal entries
//! the same one comes first as in Thanos.

/// A heap; the order is given with each call and must be the same in all.
#[derive(Debug)]
pub(crate) struct Heap<T>(Vec<T>);

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Heap<T> {
    /// The first entry.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.0.first()
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: T, less: impl Fn(&T, &T) -> bool) {
        self.0.push(entry);
        let mut child = self.0.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !less(&self.0[child], &self.0[parent]) {
                break;
            }
            self.0.swap(child, parent);
            child = parent;
        }
    }

    /// Removes the first entry.
    pub(crate) fn pop(&mut self, less: impl Fn(&T, &T) -> bool) -> Option<T> {
        let last = self.0.len().checked_sub(1)?;
        self.0.swap(0, last);
        let mut parent = 0;
        loop {
            let left = 2 * parent + 1;
            if left >= last {
                break;
            }
            let right = left + 1;
            let child = if right < last && less(&self.0[right], &self.0[left]) { right } else { left };
            if !less(&self.0[child], &self.0[parent]) {
                break;
            }
            self.0.swap(parent, child);
            parent = child;
        }
        self.0.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_entries_come_out_as_from_go_s_heap() {
        // Printed by a program of Go: keys with the order in which they were pushed.
        let keys = [3, 1, 2, 1, 3, 2, 1, 1, 2];
        let mut heap = Heap::default();
        for (at, key) in keys.into_iter().enumerate() {
            heap.push((key, at), |a, b| a.0 < b.0);
        }
        let less = |a: &(i32, usize), b: &(i32, usize)| a.0 < b.0;
        let popped: Vec<_> = std::iter::from_fn(|| heap.pop(less)).collect();
        assert!(popped.is_sorted_by_key(|entry| entry.0));
        assert_eq!(popped.iter().map(|entry| entry.1).collect::<Vec<_>>(), GO_ORDER);
    }

    const GO_ORDER: [usize; 9] = [1, 3, 7, 6, 5, 8, 2, 0, 4];
}
