//! What went wrong, by what to do about it.

use std::fmt;

use engine::model::{Error, ErrorKind};

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Trying again can't help: somebody has to look at it.
    Halt(Error),
    /// The next run may get through.
    Retry(Error),
}

impl Trouble {
    /// What `error`, met while blocks are read or written, asks for: a bucket or a disk that fails may
    /// work again, everything else stays as it is.
    pub fn of(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Canceled | ErrorKind::Deadline => Self::Retry(error),
            _ => Self::Halt(error),
        }
    }

    /// Whether it is data that is damaged.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Halt(error) if error.kind() == ErrorKind::Corrupt)
    }

    /// The same with a place before it.
    pub fn within(self, place: impl fmt::Display) -> Self {
        match self {
            Self::Halt(error) => Self::Halt(error.within(place)),
            Self::Retry(error) => Self::Retry(error.within(place)),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halt(error) => write!(f, "critical error detected: {error}"),
            Self::Retry(error) => write!(f, "retriable error: {error}"),
        }
    }
}

/// Everything that went wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles(Vec<Trouble>);

impl Troubles {
    /// One error that the next run may not meet.
    pub fn retry(error: Error) -> Self {
        Self(vec![Trouble::Retry(error)])
    }

    /// One more.
    pub fn push(&mut self, trouble: Trouble) {
        self.0.push(trouble);
    }

    /// Those of a part of the run, if there were any.
    pub fn take(&mut self, part: Result<(), Self>) {
        if let Err(troubles) = part {
            self.0.extend(troubles.0);
        }
    }

    /// Whether somebody has to look.
    pub fn need_attention(&self) -> bool {
        self.0.iter().any(|trouble| matches!(trouble, Trouble::Halt(_)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the next run may go better by itself.
    pub fn may_pass(&self) -> bool {
        self.0.iter().any(|trouble| matches!(trouble, Trouble::Retry(_)))
    }

    /// Good when nothing went wrong.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, trouble) in self.0.iter().enumerate() {
            write!(f, "{}{trouble}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}
