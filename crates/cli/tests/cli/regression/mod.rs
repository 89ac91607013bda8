//! One test per mended report, named after what went wrong, each with the right value.

mod inference;
mod limits;
mod pictures;
mod resume;
mod settings;
mod steps;
mod tables;
mod weights;
