//! CLIP_benchmark's tasks on a data set.
//!
//! * [`kind`], [`report`] – the tasks by name, and what one found
//! * [`evaluator`] – a model with what it takes to run a task on a set
//! * `classify`, `retrieve`, `select` – zero-shot tasks
//! * [`probe`] – a classifier trained on features
//! * `associate` – which pictures belong to a word
//! * `caption` – captions, by models that write them
//! * [`outcome`] – what became of each picture, from which the metrics are made
//! * `bootstrap` – how far a metric would be another on other pictures of the same kind

mod associate;
mod bootstrap;
mod caption;
mod classify;
pub mod evaluator;
mod features;
pub mod kind;
pub mod outcome;
pub mod probe;
pub mod report;
mod retrieve;
mod select;

pub use evaluator::{Evaluator, Extra, Loading, TaskOptions};
pub use kind::Task;
pub use report::Report;
