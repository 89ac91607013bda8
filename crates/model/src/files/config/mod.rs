//! OpenCLIP's configuration files as types.
//!
//! * [`hf`](HfTextOptions) – text towers that are named by Hugging Face's models
//! * [`model`](ModelConfig) – `model_cfg`: the two towers and how they meet
//! * [`multimodal`](MultimodalConfig) – what CoCa adds: caption decoder and a class token behind the text
//! * [`preprocess`](PreprocessConfig) – `preprocess_cfg`: what a picture goes through before the image tower
//! * [`timm`](TimmOptions) – image towers that are named by timm's architectures
//! * `check` – sizes and keys that no model has

mod check;
mod hf;
mod model;
mod multimodal;
mod preprocess;
mod timm;

pub(crate) use check::*;
pub use hf::*;
pub use model::*;
pub use multimodal::*;
pub use preprocess::*;
pub use timm::*;
