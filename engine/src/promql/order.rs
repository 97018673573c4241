//! Sorting that can be ended: in runs, which are then merged two by two.

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::model::Error;

/// Items that are sorted or merged between two looks at the caller.
const RUN: usize = 1 << 14;

/// Sorts `items`, equal ones in the order in which they came. Fails as soon as `check` does, which is asked in between.
pub fn sort_while<T>(
    mut items: Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
    mut check: impl FnMut() -> Result<(), Error>,
) -> Result<Vec<T>, Error> {
    for run in items.chunks_mut(RUN) {
        check()?;
        run.sort_by(&compare);
    }
    let mut len = RUN;
    while len < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        let mut rest = items.into_iter();
        while rest.len() > 0 {
            let left: Vec<T> = rest.by_ref().take(len).collect();
            let right: Vec<T> = rest.by_ref().take(len).collect();
            let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
            while let Some(item) = next_of(&mut left, &mut right, &compare) {
                if merged.len() % RUN == 0 {
                    check()?;
                }
                merged.push(item);
            }
        }
        items = merged;
        len *= 2;
    }
    Ok(items)
}

/// The lesser of what comes next, `left`'s when they are equal.
fn next_of<T, I: Iterator<Item = T>>(
    left: &mut Peekable<I>,
    right: &mut Peekable<I>,
    compare: &impl Fn(&T, &T) -> Ordering,
) -> Option<T> {
    match (left.peek(), right.peek()) {
        (Some(one), Some(other)) if compare(one, other) == Ordering::Greater => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_together_as_one_stable_sort_would_have_them() {
        for count in [0, 1, RUN - 1, RUN, RUN + 1, 2 * RUN, 5 * RUN + 77] {
            let items: Vec<(u32, usize)> =
                (0..count).map(|at| ((at as u32).wrapping_mul(2_654_435_761) >> 20, at)).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            let mut looks = 0;
            let sorted = sort_while(
                items,
                |left, right| left.0.cmp(&right.0),
                || {
                    looks += 1;
                    Ok(())
                },
            );
            assert_eq!(sorted.unwrap(), expected);
            assert!(looks >= count / RUN, "{looks}");
        }
    }

    #[test]
    fn a_sort_ends_between_two_runs_and_between_two_parts_of_a_merge() {
        let gone = Error::invalid("gone");
        for last in [0, 3, 6] {
            let mut looks = 0;
            let sorted = sort_while((0..4 * RUN).rev().collect(), usize::cmp, || {
                looks += 1;
                if looks > last { Err(gone.clone()) } else { Ok(()) }
            });
            assert_eq!((sorted, looks), (Err(gone.clone()), last + 1));
        }
    }
}
