//! Results as CLIP_benchmark writes them: a JSON file for each model and set, and tables of many.
//!
//! * [`record`] – one file
//! * [`table`] – many of them as CSV or Markdown
//! * [`plot`] – as a picture

pub mod plot;
pub mod record;
pub mod table;

pub use record::Record;
