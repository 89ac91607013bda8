//! What the targets do with an input that a data set or a picture could be. The test `corpus` does the same with the inputs of
//! `tests/parity/data/corpus`.

mod captions;
mod csv;
pub mod files;
mod picture;
mod shards;
mod tables;
mod tar;

pub use captions::captions;
pub use csv::csv;
pub use picture::picture;
pub use shards::shards;
pub use tables::tables;
pub use tar::tar;
