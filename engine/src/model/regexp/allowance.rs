//! What the regexps of one request may take.

use std::sync::Arc;

use super::super::budget::{Budget, Reservation};
use super::super::error::Error;

/// Most bytes that the regexps of one request take together once they are compiled.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Most ranges of all classes of the regexps of one request, which take about a second to be parsed.
const REQUEST_RANGES_MAX: usize = 4 << 20;

/// What the regexps of one request may take of the process' memory. By default it is any amount, which nothing
/// counts: so are regexps compiled that no request brings.
#[derive(Debug)]
pub struct Allowance {
    memory: Option<Arc<Budget>>,
    left: u64,
    ranges_left: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { memory: None, left: u64::MAX, ranges_left: usize::MAX }
    }
}

impl Allowance {
    /// That of a request, whose regexps count in `memory` as long as they are kept.
    pub fn of_request(memory: &Arc<Budget>) -> Self {
        Self { memory: Some(Arc::clone(memory)), left: REQUEST_BYTES_MAX, ranges_left: REQUEST_RANGES_MAX }
    }

    /// Memory for what is there while something is parsed or compiled.
    pub fn hold(&self, bytes: u64) -> Result<Option<Reservation>, Error> {
        self.memory.as_ref().map(|memory| memory.reserve(bytes)).transpose()
    }

    /// Takes `ranges` of the allowance, which a pattern was found to have.
    pub(super) fn take_ranges(&mut self, ranges: usize) -> Result<(), Error> {
        self.ranges_left = self.ranges_left.checked_sub(ranges).ok_or_else(|| {
            let message =
                format!("their classes have more than {REQUEST_RANGES_MAX} ranges; ask for fewer or smaller ones");
            Error::limit("regexps of one request", message)
        })?;
        Ok(())
    }

    /// Takes `bytes` of the allowance for what was compiled, for which `held` counts from now on.
    pub(super) fn take(&mut self, held: &mut Option<Reservation>, bytes: u64) -> Result<(), Error> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let advice = "ask for fewer of them, or with smaller classes and fewer repetitions";
            let message = format!("they take more than {REQUEST_BYTES_MAX} bytes compiled; {advice}");
            Error::limit("regexps of one request", message)
        })?;
        held.as_mut().map_or(Ok(()), |held| held.resize(bytes))
    }
}
