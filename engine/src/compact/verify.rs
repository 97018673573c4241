//! Checking a block that was written, before anybody else sees it.

use std::path::Path;

use crate::block::verify::verify;
use crate::model::{Error, ErrorKind};

/// Reads all of the block in the folder `dir` back: every checksum, every reference, the order of
/// everything and the counts. An error of kind `Corrupt` says the first thing that is wrong.
pub fn verify_written(dir: &Path) -> Result<(), Error> {
    let report = verify(dir)?;
    if report.is_sound() {
        return Ok(());
    }
    let first = report.faults.first().cloned().unwrap_or_else(|| format!("{:?}", report.health));
    let message = format!("invalid result block {}: {} faults, the first: {first}", dir.display(), report.fault_count);
    Err(Error::new(ErrorKind::Corrupt, message))
}
