//! Embeddings on disk, in the layout of [clip-retrieval](https://github.com/rom1504/clip-retrieval):
//!
//! ```text
//! DIR/img_emb/img_emb_0.npy              float32 or float16 [images, width]
//! DIR/text_emb/text_emb_0.npy            the same [texts, width]
//! DIR/metadata/metadata_0.parquet        image_path, caption and the source's other columns: one row per embedding row
//! DIR/embed.json                         what they were made from and with
//! DIR/partitions/0.json                  what is in a partition
//! ```
//!
//! Each partition has files of its own; numbers have as many digits as the largest. Row k of an array belongs to the k-th row of the
//! metadata that has a value in its column: a picture without a caption has a row there whose `caption` is null, and none in `text_emb`.
//!
//! Rows stream to disk. Each file takes its name once it is complete, so a reader never sees half a file; the metadata come behind the
//! arrays, and the partition's record last. [`folder`](Folder) says which partitions are there and who works on which, `embedder` makes
//! them.

mod contents;
mod embedder;
mod fingerprint;
mod folder;
mod layout;
mod metadata;
mod npy;
mod record;
mod settings;
#[cfg(test)]
mod tests;
mod writer;

pub use self::contents::Contents;
pub use self::embedder::{Embedder, Plan, Tokenizers};
pub use self::fingerprint::fingerprint;
pub(crate) use self::folder::arrays;
pub use self::folder::{Claim, Folder, Totals};
pub use self::layout::Partition;
pub use self::npy::{Array, Numbers};
pub use self::record::Record;
pub use self::settings::{EmbeddingModel, Preprocess, Settings};
pub use self::writer::EmbeddingWriter;
