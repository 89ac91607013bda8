//! Data sets to evaluate on: pictures in a fixed order, each known by its number, and what is to be found in them.
//!
//! * `targets` – what every form becomes
//! * [`fn@open`] – from a path to a set, by the form that the path has
//! * `folder` – one folder per class
//! * `objectnet` – ObjectNet, by the classes that are ImageNet's
//! * `shards` – tars in CLIP_benchmark's layout, with `npy` for labels of several classes
//! * `table` – CSV files, by the columns that `sheet` finds
//! * `parquet` – Parquet files with labels
//! * `rows` – what else `openclip_data` reads: captions of COCO and Flickr, Parquet; `numbered` if in one go
//! * `choices` – pictures and captions to be matched: Winoground, SugarCrepe, WinoGAViL
//! * `names` – what the classes are called, and the templates
//! * `pictures` – the pictures themselves

mod choices;
mod folder;
mod names;
mod npy;
mod numbered;
mod objectnet;
pub mod open;
mod parquet;
mod pictures;
mod rows;
mod shards;
mod sheet;
mod table;
mod targets;

pub use names::Names;
pub use open::{OpenSet, open};
pub use targets::{Choice, Cue, Dataset, Labels, Targets};
