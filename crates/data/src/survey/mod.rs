//! Looking at a data set as a whole: what is in it, whether all of it can be read, how fast, and in which form it is kept.
//!
//! * [`walk`] – every item of a source, worked on by all cores and handed over in order
//! * [`verify`] – what cannot be read
//! * [`pack`] – into balanced tar shards
//! * [`mod@bench`] – how fast each stage is
//! * [`inspect`] – counts, sizes and captions, with [`histogram`] and [`pick`]
//! * [`mod@fetch`] – pictures of a few samples by name
//! * `sample` – one sample, read and decoded; `options`, `problems` – what all of them share
//!
//! Nothing here but [`mod@bench`] keeps more of a sample than its figures, so that the size of a set does not matter.

pub mod bench;
pub mod fetch;
pub mod histogram;
pub mod inspect;
mod options;
pub mod pack;
pub mod pick;
mod problems;
mod sample;
pub mod verify;
pub mod walk;

pub use self::options::SurveyOptions;
pub use self::problems::{ProblemCount, Problems};
