//! The specification: a merge that steps without branching, and a galloping search for lists of
//! very different lengths.

/// Appends what is in `a` and in `b`.
pub fn intersect(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        if x == y {
            out.push(x);
        }
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
}

/// Appends what is in `a` and not in `b`.
pub fn subtract(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        if x < y {
            out.push(x);
        }
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    out.extend_from_slice(&a[i..]);
}

/// Appends what is in `short` and in the much longer `long`.
pub fn intersect_gallop(short: &[u32], mut long: &[u32], out: &mut Vec<u32>) {
    for &x in short {
        long = &long[lower_bound(long, x)..];
        match long.first() {
            None => return,
            Some(&found) if found == x => out.push(x),
            Some(_) => {}
        }
    }
}

/// Appends what is in `a` and not in `b`, one of which is much longer than the other.
pub fn subtract_gallop(mut a: &[u32], mut b: &[u32], out: &mut Vec<u32>) {
    while let (Some(&x), Some(&y)) = (a.first(), b.first()) {
        if x < y {
            let (kept, rest) = a.split_at(lower_bound(a, y));
            out.extend_from_slice(kept);
            a = rest;
        } else {
            b = &b[lower_bound(b, x)..];
            a = &a[usize::from(b.first() == Some(&x))..];
        }
    }
    out.extend_from_slice(a);
}

/// Number of values in `list` that are less than `x`, found by doubling steps from the start.
pub fn lower_bound(list: &[u32], x: u32) -> usize {
    let mut step = 1;
    let mut low = 0;
    while low + step <= list.len() && list[low + step - 1] < x {
        low += step;
        step *= 2;
    }
    let high = list.len().min(low + step);
    low + list[low..high].partition_point(|value| *value < x)
}
