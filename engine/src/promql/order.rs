//! Sorting that can be ended: in runs, which are then merged two by two.

use std::cmp::Ordering;

use crate::model::Error;

/// Items that are sorted or merged between two looks at the caller.
const RUN: usize = 1 << 15;

/// Sorts `items`, equal ones in the order in which they came. Fails as soon as `check` does, which is asked in between.
pub fn sort_while<T: Copy>(
    mut items: Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
    mut check: impl FnMut() -> Result<(), Error>,
) -> Result<Vec<T>, Error> {
    for run in items.chunks_mut(RUN) {
        check()?;
        run.sort_by(&compare);
    }
    let mut len = RUN;
    let mut merged = Vec::with_capacity(if len < items.len() { items.len() } else { 0 });
    while len < items.len() {
        for pair in items.chunks(2 * len) {
            let (mut left, mut right) = pair.split_at(len.min(pair.len()));
            while let Some(item) = next_of(&mut left, &mut right, &compare) {
                if merged.len() % RUN == 0 {
                    check()?;
                }
                merged.push(item);
            }
        }
        std::mem::swap(&mut items, &mut merged);
        merged.clear();
        len *= 2;
    }
    Ok(items)
}

/// Takes the lesser of what comes next, `left`'s when they are equal.
#[inline]
fn next_of<'t, T: Copy>(left: &mut &'t [T], right: &mut &'t [T], compare: &impl Fn(&T, &T) -> Ordering) -> Option<T> {
    let from = match (left.first(), right.first()) {
        (Some(one), Some(other)) if compare(one, other) == Ordering::Greater => right,
        (Some(_), _) => left,
        (None, _) => right,
    };
    let (item, rest) = from.split_first()?;
    *from = rest;
    Some(*item)
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
