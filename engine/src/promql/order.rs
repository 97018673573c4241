//! Sorting that can be ended: in runs, which are then merged two by two.

use std::cmp::Ordering;

use crate::model::Error;

/// Items that are sorted or merged between two looks at the caller.
const RUN: usize = 1 << 15;

/// Items that are sorted at once where they are.
const PART: usize = 1 << 18;

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

/// Sorts `items` where they are, equal ones in any order, and parts of long ones by themselves. Fails as soon as
/// `check` does, which is asked in between.
pub fn sort_in_place_while<T>(
    items: &mut [T],
    compare: impl Fn(&T, &T) -> Ordering + Copy,
    mut check: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    if items.len() <= PART {
        items.sort_unstable_by(compare);
        return Ok(());
    }
    let mut left = vec![items];
    while let Some(part) = left.pop() {
        check()?;
        if part.len() <= PART {
            part.sort_unstable_by(compare);
            continue;
        }
        let (lesser, _, greater) = part.select_nth_unstable_by(part.len() / 2, compare);
        left.extend([greater, lesser]);
    }
    Ok(())
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
    fn a_sort_in_place_is_as_any_other_and_ends_between_two_parts() {
        let items =
            |count: usize| -> Vec<u32> { (0..count as u32).map(|at| at.wrapping_mul(2_654_435_761) >> 7).collect() };
        for count in [0, 1, PART, PART + 1, 3 * PART + 77] {
            let (mut sorted, mut expected, mut looks) = (items(count), items(count), 0);
            let look = || {
                looks += 1;
                Ok(())
            };
            sort_in_place_while(&mut sorted, Ord::cmp, look).unwrap();
            expected.sort_unstable();
            assert!(sorted == expected && looks >= count / (PART + 1), "{count}: {looks}");
            assert!(count > PART || looks == 0, "{count}: {looks}");
        }
        let gone = Error::invalid("gone");
        let mut looks = 0;
        let ended = sort_in_place_while(&mut items(4 * PART), Ord::cmp, || {
            looks += 1;
            if looks > 3 { Err(gone.clone()) } else { Ok(()) }
        });
        assert_eq!((ended, looks), (Err(gone.clone()), 4));
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
