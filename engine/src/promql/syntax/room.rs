//! Room on the stack for what goes down a high tree.

use std::panic::resume_unwind;
use std::thread;

use super::ast::Expr;
use crate::model::{Error, ErrorKind};

/// Trees up to this height need no more than any thread has.
const USUAL_HEIGHT: u32 = 100;

/// Bytes for a tree of [`super::HEIGHT_MAX`]; the system gives only what is touched.
const STACK_BYTES: usize = 256 << 20;

/// How high the tree of `expr` is; a leaf is 1 high.
pub fn height(expr: &Expr) -> u32 {
    1 + expr.children().into_iter().map(height).max().unwrap_or(0)
}

/// Runs `work`, which goes down a tree of this height: of an unusual one on a thread of its own. Unavailable
/// when there is none to be had.
pub fn with_room<T: Send>(height: u32, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    if height <= USUAL_HEIGHT {
        return Ok(work());
    }
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES);
        let spawned = builder.spawn_scoped(scope, work).map_err(|error| {
            let message = format!("no thread for a query of {height} operators: {error}");
            Error::new(ErrorKind::Unavailable, message)
        })?;
        Ok(spawned.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
