//! The model that the towers make, and its parameters.
//!
//! * [`Clip`] – two towers, one space, one temperature
//! * [`coca`], [`generate`] – captions: the decoder's logits, beam search and sampling
//! * [`loss`] – contrastive losses and the captions' loss of all logits at once
//! * [`params`] – parameters under OpenCLIP's key names
//! * [`init`] – their first values
//! * [`finite`] – whether they are numbers
//! * [`depth`], [`lock`] – the layers of a tower in order, and freezing
//! * [`profile`] – parameters and operations
//! * [`pixels`] – decoded pictures and token ids onto the device

pub mod clip;
pub mod coca;
pub mod depth;
pub mod finite;
pub mod generate;
pub mod init;
pub mod lock;
pub mod loss;
pub mod params;
pub mod pixels;
pub mod profile;

pub use clip::{Clip, ClipOutput, l2_normalize};
