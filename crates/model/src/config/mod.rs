//! OpenCLIP's configuration files as types.
//!
//! * [`model`] – `model_cfg`: the two towers and how they meet
//! * [`multimodal`] – what CoCa adds: caption decoder, attention pooling, a class token behind the text
//! * [`preprocess`] – `preprocess_cfg`: what a picture goes through before the image tower
//! * [`resnet`] – image towers whose layers are a list
//! * [`timm`] – image towers that are named by timm's architectures

mod model;
mod multimodal;
mod preprocess;
mod resnet;
mod timm;

pub use model::*;
pub use multimodal::*;
pub use preprocess::*;
pub use resnet::*;
pub use timm::*;
