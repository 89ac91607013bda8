//! Runs that are kept beyond this machine: object stores, and any folder as one, by its path or as `file:///PATH`, through
//! [`Store`].
//!
//! * [`sync`] – a run folder is copied there while the run goes on
//! * [`resume`] – a checkpoint comes back from there

pub mod resume;
pub mod sync;

pub use openclip_data::storage::{RemoteError, Store};
pub use sync::Sync;
