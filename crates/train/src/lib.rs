//! Training on Burn's Learner.
//!
//! * [`config`] – everything that describes a run
//! * [`run`] – a run from its configuration to its last checkpoint
//! * [`strategy`] – the loop that Burn's `SupervisedTraining` calls
//! * [`task`] – the model as Burn's Learner sees it
//! * [`step`] – the samples of a step, on the device
//! * [`relay`], [`loss`] – the exact gradient of the objective, in micro-batches and over ranks
//! * [`comm`] – ranks and their exchanges
//! * [`optim`], [`schedule`] – optimizers, their groups of parameters, gradient norm, learning rate
//! * [`finetune`] – a classifier in place of captions
//! * [`facts`] – what checkpoints say about a model beside its weights
//! * [`guard`] – which steps are taken: finite ones, without spikes, within f16's range
//! * [`ema`] – the average of the weights
//! * [`precision`], [`memory`] – where numbers are narrow, and what a run takes
//! * [`data`] – training data as Burn's data loader
//! * [`loading`] – what the loader does for the steps, and what they wait for
//! * [`checkpoint`] – checkpoints that are whole or not there
//! * [`remote`] – runs that are kept beyond this machine
//! * [`mod@bench`] – how fast a model encodes and trains
//! * [`plan`] – what a run would need
//! * [`journal`], [`report`] – console, log files, TensorBoard, plots

pub mod bench;
pub mod checkpoint;
pub mod comm;
pub mod config;
pub mod data;
pub mod ema;
mod error;
pub mod facts;
pub mod finetune;
pub mod guard;
pub mod journal;
pub mod loading;
pub mod loss;
pub mod memory;
pub mod optim;
pub mod plan;
pub mod precision;
pub mod relay;
pub mod remote;
mod renderer;
pub mod report;
pub mod run;
pub mod schedule;
pub mod step;
pub mod strategy;
pub mod task;

pub use config::TrainConfig;
pub use error::TrainError;
pub use finetune::Finetune;
pub use precision::Precision;
pub use run::{Outcome, train};
