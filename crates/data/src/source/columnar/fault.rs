//! What can be wrong with a file.

use std::any::Any;
use std::{fmt, io};

use super::schema::{Leaf, Misfit, top_level};
use crate::error::panic_message;

/// Why a file, or a part of it, cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    /// It is not as it should be.
    Broken(String),
    /// It has other columns than those that are wanted.
    Misfit {
        misfit: Misfit,
        columns: Vec<String>,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Broken(reason) => f.write_str(reason),
            Self::Misfit { misfit, .. } => write!(f, "{misfit:?}"),
        }
    }
}

/// A panic of a format's reader is the file's fault, and not the run's.
pub(super) fn panicked(payload: &(dyn Any + Send)) -> Fault {
    Fault::Broken(format!("damaged: {}", panic_message(payload)))
}

impl Misfit {
    /// Beside the columns that there are.
    pub fn with(self, leaves: &[Leaf]) -> Fault {
        let columns = top_level(leaves).into_iter().map(str::to_owned).collect();
        Fault::Misfit {
            misfit: self,
            columns,
        }
    }
}
