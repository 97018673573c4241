//! What the regexps of one request may take.

use std::sync::Arc;

use super::super::budget::{Budget, Reservation};
use super::super::error::Error;

/// Most bytes that the regexps of one request take together once they are compiled: as many as the largest alone.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// What the regexps of one request may take of the process' memory. By default it is any amount, which nothing
/// counts: so are regexps compiled that no request brings.
#[derive(Debug)]
pub struct Allowance {
    memory: Option<Arc<Budget>>,
    left: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { memory: None, left: u64::MAX }
    }
}

impl Allowance {
    /// That of a request, whose regexps count in `memory` as long as they are kept.
    pub fn of_request(memory: &Arc<Budget>) -> Self {
        Self { memory: Some(Arc::clone(memory)), left: REQUEST_BYTES_MAX }
    }

    /// Memory for what is there while something is parsed or compiled.
    pub fn hold(&self, bytes: u64) -> Result<Option<Reservation>, Error> {
        self.memory.as_ref().map(|memory| memory.reserve(bytes)).transpose()
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
