//! Which times a query looks at: those of all its selectors together, as Prometheus opens its storage
//! for a query once.

use crate::model::TimeRange;

/// What a selector, or the subqueries around it, look at, seen from a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The time that takes the step's place (Unix milliseconds).
    pub at: Option<i64>,
    /// Milliseconds by which it lies earlier than that.
    pub offset: i64,
    /// Milliseconds that are looked at before that.
    pub back: i64,
    /// Milliseconds that are looked at behind it.
    pub ahead: i64,
}

impl Reach {
    /// These subqueries with another one within them: a fixed time ends what was said before it.
    pub fn of_subquery(self, inner: Self) -> Self {
        match inner.at {
            Some(_) => inner,
            None => {
                let (offset, back) = (self.offset + inner.offset, self.back + inner.back);
                Self { at: self.at, offset, back, ahead: 0 }
            }
        }
    }

    /// Times that a selector within these subqueries looks at when the query has steps from `start`
    /// to `end`. Windows are open on the left.
    pub fn within(self, (start, end): (i64, i64), selector: Self) -> TimeRange {
        let (start, end) = match (selector.at, self.at) {
            (Some(at), _) => (at, at),
            (None, Some(at)) => (at - self.offset - self.back, at - self.offset),
            (None, None) => (start - self.offset - self.back, end - self.offset),
        };
        let (start, end) = (start - selector.offset, end - selector.offset);
        TimeRange::new(start - (selector.back - 1), end + selector.ahead)
    }
}

/// Times that all selectors so far look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent(Option<TimeRange>);

impl Extent {
    /// Adds the times of one more selector.
    pub fn take(&mut self, range: TimeRange) {
        self.0 = Some(self.0.map_or(range, |known| known.hull(range)));
    }

    /// The times of all; all time when there is no selector.
    pub fn range(self) -> TimeRange {
        self.0.unwrap_or(TimeRange::ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_windows_subqueries_and_fixed_times_count() {
        let none = Reach::default();
        let plain = Reach { back: 300, ..none };
        assert_eq!(none.within((1000, 2000), plain), TimeRange::new(701, 2000));
        let earlier = Reach { offset: 50, back: 100, ..none };
        assert_eq!(none.within((1000, 2000), earlier), TimeRange::new(851, 1950));
        let subquery = none.of_subquery(Reach { back: 600, offset: 10, ..none });
        assert_eq!(subquery.within((1000, 2000), plain), TimeRange::new(91, 1990));
        let fixed = Reach { at: Some(5000), ..plain };
        assert_eq!(subquery.within((1000, 2000), fixed), TimeRange::new(4701, 5000));
        let outer = Reach { at: Some(9000), back: 100, ..none };
        assert_eq!(none.of_subquery(outer).within((1000, 2000), plain), TimeRange::new(8601, 9000));
        let smoothed = Reach { ahead: 300, ..plain };
        assert_eq!(subquery.within((1000, 2000), smoothed), TimeRange::new(91, 2290));
    }
}
