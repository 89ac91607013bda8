//! The nearest of many vectors, exactly, straight from the files of an embeddings folder.
//!
//! * `npy` – one array, mapped into memory
//! * `collection` – the arrays of a folder, one behind another, and whose metadata are where
//! * `dots` – dot products with the vector instructions of the processor
//! * `scan` – the best rows of all
//! * `table` – the metadata of a row, or a column of all rows; `filter` – which rows are asked for
//! * `index` – nearly the same from fewer bytes
//! * `duplicates` – rows that are nearly one another

mod collection;
mod dots;
mod duplicates;
mod filter;
mod index;
mod npy;
mod scan;
mod table;

pub use self::collection::{Collection, Kind};
pub use self::duplicates::{Groups, near_duplicates};
pub use self::filter::Filter;
pub use self::index::Index;
pub use self::npy::Matrix;
pub use self::scan::{Hit, best};
