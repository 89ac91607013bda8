//! OpenCLIP's configuration files as types.
//!
//! * [`hf`] – text towers that are named by Hugging Face's models
//! * [`model`] – `model_cfg`: the two towers and how they meet
//! * [`multimodal`] – what CoCa adds: caption decoder, attention pooling, a class token behind the text
//! * [`preprocess`] – `preprocess_cfg`: what a picture goes through before the image tower
//! * [`resnet`] – image towers whose layers are a list
//! * [`timm`] – image towers that are named by timm's architectures

mod hf;
mod model;
mod multimodal;
mod preprocess;
mod resnet;
mod timm;

pub use hf::*;
pub use model::*;
pub use multimodal::*;
pub use preprocess::*;
pub use resnet::*;
pub use timm::*;
