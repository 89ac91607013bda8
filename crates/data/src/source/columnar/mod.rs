//! Tables whose rows hold pictures: Parquet and Arrow files.
//!
//! Hugging Face's data sets have a structure of bytes and path, img2dataset a column of bytes, others a column of paths or
//! addresses. A unit that is read from its start to its end is a row group, or a record batch; every row is one item.
//!
//! * `parquet`, `arrow` – the two formats
//! * `schema` – which leaves of a file are read, and for what
//! * `row` – the values of a row as an item
//! * `input` – bytes by range
//! * `unit` – a row group or a batch as a shard
//! * `files` – from the names of files to their units

mod arrow;
mod fault;
mod files;
mod input;
mod parquet;
mod row;
mod schema;
mod unit;

pub(crate) use files::{Format, open};
