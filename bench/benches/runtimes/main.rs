//! The runtime of each plane beside its alternatives, on the work that the plane does, so that the choice
//! stays measured.
//!
//! ```text
//! shards       ranges of chunks, planned as a request's are, read in batches
//! edge         a request over a socket, a hop to a shard, and the shard's frames as the answer
//! background   a segment from its start to its end
//! ```
//! Files are in the system's cache, but where a way reads around it (O_DIRECT), which its name says. Where
//! io_uring is forbidden only what does without it is measured.

use bench::folder::Folder;
use bench::sized;
use criterion::{Criterion, criterion_group, criterion_main};
use engine::io::{self, Support};
use std::path::PathBuf;

/// Segments from their start to their end.
mod background;
/// Answers over sockets.
mod edge;
/// Ranges of chunks.
mod shards;

/// Bytes of the segment that is read.
const SEGMENT_BYTES: usize = 128 << 20;

/// Whether io_uring works here; says so where it doesn't.
fn has_uring() -> bool {
    match io::probe() {
        Support::Uring => true,
        Support::Denied(why) => {
            eprintln!("io_uring is left out: {why}");
            false
        }
    }
}

/// A file as large as a segment, in `folder`.
fn segment(folder: &Folder) -> PathBuf {
    let path = folder.file("000001");
    let bytes: Vec<u8> = (0..sized(SEGMENT_BYTES)).map(|at| ((at * 31) >> 3) as u8).collect();
    std::fs::write(&path, bytes).expect("room for a segment");
    path
}

fn planes(criterion: &mut Criterion) {
    shards::compare(criterion);
    edge::compare(criterion);
    background::compare(criterion);
}

criterion_group!(benches, planes);
criterion_main!(benches);
