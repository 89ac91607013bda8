//! What a family of towers says about itself, and the words in which it does.
//!
//! * [`ImageFamily`], [`TextFamily`] – the questions: which configurations, which network, how its parameters start, in which order they
//!   stand, what they cost, under which other keys they are published. A family answers all of them in its own folder.
//! * [`Init`] – how a parameter starts
//! * [`depth`] – where a parameter stands between input and output
//! * [`cost`] – operations, and values that training keeps
//! * [`keys`] – by which keys a family is known, and the keys of other libraries
//! * [`param`] – a parameter as a state dict describes it

pub mod cost;
pub mod depth;
mod image;
pub mod init;
pub mod keys;
pub mod param;
mod text;

pub use cost::Cost;
pub use image::ImageFamily;
pub use init::Init;
pub use param::{Layout, ParamInfo};
pub use text::TextFamily;
