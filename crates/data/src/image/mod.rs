//! Encoded pictures to the `u8` planes that the image tower's input is made of.
//!
//! Everything here gives the pixels that Pillow and torchvision give: OpenCLIP's models were trained on
//! those, and a different resampler shows in their features.
//!
//! * [`decode`] – files of pictures to a [`Picture`]; `decode/format.rs` is the table of formats
//! * `picture` – pixels in one of Pillow's modes
//! * `resample` – Pillow's fixed-point bicubic and bilinear filters, and nearest neighbour
//! * `taps` – the filters' weights
//! * `passes` – the two loops of the resampler that take the time, under weights of two kinds
//! * `fast` – a training view of a JPEG of which no more is decoded than it shows
//! * `place` – resize in the picture's own mode, cut, convert to RGB planes
//! * [`resized`] – a picture of another size, for thumbnails and for packing
//! * `eval` – [`EvalTransform`]
//! * `augmentation` – [`Augmentation`], what is left to chance
//! * `train` – [`TrainTransform`]
//! * [`color`] – colour jitter and greyscale
//! * `erase` – rectangles of noise
//! * `transform` – decoding and transforming in one, for the loader
//! * `wide` – loops that run with the processor's wide vectors

mod augmentation;
pub mod color;
mod decode;
mod erase;
mod eval;
mod fast;
mod passes;
mod picture;
mod place;
mod resample;
mod resized;
mod taps;
mod train;
mod transform;
mod wide;

pub use augmentation::Augmentation;
pub use decode::{Limits, PICTURE_EXTENSIONS, decode, format_name, is_picture};
pub use erase::Erasure;
pub use eval::EvalTransform;
pub use picture::{Mode, Picture};
pub use resized::resized;
pub use train::{TrainTransform, View};
pub use transform::{Decoding, Transform, eval_transform, train_transform};
