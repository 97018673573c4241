//! A core of a lane that gives jobs back soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use engine::compact::{Lane, LaneWork, Workers};
use engine::model::{Error, ErrorKind};

struct Impatient {
    core: Sender<LaneWork>,
    units: usize,
}

/// Workers of one core that spends about `units` on a job before it gives it back, and how often it was
/// called.
pub fn impatient(units: usize) -> (Workers, Arc<AtomicU64>) {
    let (core, works) = channel::<LaneWork>();
    let turns = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&turns);
    let turn = move |work: &mut LaneWork| {
        counted.fetch_add(1, Ordering::Relaxed);
        work()
    };
    std::thread::spawn(move || works.iter().for_each(|mut work| while turn(&mut work) {}));
    (Workers::lane(Arc::new(Impatient { core, units })), turns)
}

impl Lane for Impatient {
    fn count(&self) -> usize {
        1
    }

    fn send(&self, _core: usize, work: LaneWork) -> Result<(), Error> {
        self.core.send(work).map_err(|_| Error::new(ErrorKind::Unavailable, "the core is gone"))
    }

    fn units_max(&self) -> usize {
        self.units
    }
}
