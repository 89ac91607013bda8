//! Checkpoints that are whole or not there.
//!
//! A checkpoint is a folder with `model.safetensors` and `open_clip_config.json` (so that it is a `local-dir:` of its own),
//! `optimizer.bpk` and, written last, `state.json` with the counters and a checksum of each file. The folder is filled
//! under a name that starts with a dot and renamed once everything is on disk; a folder without `state.json`, or with
//! one that does not fit, is never resumed from.
//!
//! * `layout`, `state`, `progress`, `shape`, `metric` – names of files, `state.json`, the counters in it, the size of an epoch, the
//!   value of the best one; `reshape` – going on with epochs of another size
//! * [`folder`] – writing one folder, and giving its files a second name
//! * [`find`] – the newest one that is whole
//! * [`keep`] – which older ones may go
//! * [`saver`] – when one is due, and whether its weights are worth it
//! * `writer` – writing it while the run goes on

pub mod find;
pub mod folder;
pub mod keep;
mod layout;
mod metric;
mod progress;
mod reshape;
pub mod saver;
mod shape;
mod state;
mod writer;

pub use find::{Checkpoint, Found, latest, open, optimizer};
pub use folder::{Snapshot, Tuned};
pub use keep::{Retention, sweep};
pub use layout::{BEST, CHECKPOINTS, EMA, LATEST, MODEL, STATE};
pub use metric::Metric;
pub use progress::{Progress, Reached};
pub use saver::{SavePlan, Saver, Saving};
pub use shape::EpochShape;
pub use state::{files, reached};
