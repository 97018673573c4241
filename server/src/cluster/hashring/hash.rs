//! The hash that places a series: XXH64 of the tenant and each name and value, every one followed by the byte
//! 0xff.

use engine::codec::EncodedLabels;
use xxhash_rust::xxh64::{Xxh64, xxh64};

const SEPARATOR: u8 = 0xff;

/// Bytes of a tenant and its series that are hashed at once.
const ROOM: usize = 2048;

/// Bytes that are copied at once, as most names and values are no longer.
const SHORT: usize = 32;

/// The hash of a series of `tenant`.
pub fn series_hash<'a>(tenant: &str, labels: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> u64 {
    let mut hash = Xxh64::new(0);
    let mut put = |text: &[u8]| {
        hash.update(text);
        hash.update(&[SEPARATOR]);
    };
    put(tenant.as_bytes());
    for (name, value) in labels {
        put(name);
        put(value);
    }
    hash.digest()
}

/// Hashes many series of one tenant whose labels are encoded.
pub struct SeriesHasher {
    tenant: String,
    /// What is hashed at once: the tenant, and behind it names and values of the last series.
    room: Box<[u8; ROOM]>,
}

impl SeriesHasher {
    /// A hasher of series of `tenant`.
    pub fn new(tenant: &str) -> Self {
        let mut room = Box::new([SEPARATOR; ROOM]);
        if let Some(start) = room.get_mut(..tenant.len()) {
            start.copy_from_slice(tenant.as_bytes());
        }
        Self { tenant: tenant.to_owned(), room }
    }

    /// The [`series_hash`] of a series.
    pub fn hash(&mut self, labels: EncodedLabels<'_>) -> u64 {
        match self.lay_out(labels.0).and_then(|end| self.room.get(..end)) {
            Some(bytes) => xxh64(bytes, 0),
            None => series_hash(&self.tenant, labels.iter()),
        }
    }

    /// Puts names and values behind the tenant, and gives where they end; `None` where there is no room for them
    /// or a length takes more than one byte.
    ///
    /// ```text
    /// run   ( 0x0a length { 0x0a length name 0x12 length value } ) …
    /// room  tenant 0xff ( name 0xff value 0xff ) …
    /// ```
    fn lay_out(&mut self, run: &[u8]) -> Option<usize> {
        let (mut end, mut at) = (self.tenant.len() + 1, 0);
        while at < run.len() {
            let [_, len, _, name_len] = *run.get(at..)?.first_chunk::<4>()?;
            let value = at + 6 + usize::from(name_len);
            let value_len = *run.get(value - 1)?;
            if (len | name_len | value_len) >= 0x80 {
                return None;
            }
            end = self.put(end, run, (at + 4, name_len))?;
            end = self.put(end, run, (value, value_len))?;
            at = value + usize::from(value_len);
        }
        Some(end)
    }

    /// Puts `len` bytes of `run` from `at` on at `end` of the room, and gives where they end.
    #[inline(always)]
    fn put(&mut self, end: usize, run: &[u8], (at, len): (usize, u8)) -> Option<usize> {
        let len = usize::from(len);
        match (self.room.get_mut(end..end + SHORT), run.get(at..at + SHORT)) {
            // What comes with it is overwritten by what comes next.
            (Some(to), Some(from)) if len <= SHORT => to.copy_from_slice(from),
            _ => self.room.get_mut(end..end + len)?.copy_from_slice(run.get(at..at + len)?),
        }
        *self.room.get_mut(end + len)? = SEPARATOR;
        Some(end + len + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_series_hash_as_their_names_and_values() {
        let text = |len: usize| "n".repeat(len);
        let tenants = [String::new(), "t".to_owned(), text(33), text(ROOM - 70), text(ROOM - 1), text(ROOM + 5)];
        for tenant in &tenants {
            let mut hasher = SeriesHasher::new(tenant);
            for lens in [&[][..], &[1, 2], &[8, 31, 32, 33, 5, 0], &[60, 70, 3, 9], &[127, 128, 3, 300], &[9; 400]] {
                let texts: Vec<String> = lens.iter().map(|len| text(*len)).collect();
                let pairs = || texts.chunks_exact(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()));
                let mut run = Vec::new();
                pairs().for_each(|(name, value)| EncodedLabels::push(name, value, &mut run));
                assert_eq!(hasher.hash(EncodedLabels(&run)), series_hash(tenant, pairs()), "{tenant} {lens:?}");
            }
        }
    }
}
