//! A graph that leads to the best rows without a look at all of them: a hierarchy of navigable small worlds
//! ([Malkov and Yashunin, 2016](https://arxiv.org/abs/1603.09320)).
//!
//! The file holds the graph alone. Rows are looked at where they lie, in the embeddings' own files, so that every score is exact;
//! what a walk may miss are rows, never their scores.
//!
//! * `build` – the graph, by the `hnsw_rs` crate
//! * `graph` – its file, mapped into memory, and what it was made of
//! * `walk` – from the entry to the best rows

mod build;
mod graph;
mod walk;

pub use self::build::{IndexOptions, build};
pub use self::graph::Index;
