//! From bytes on disk to batches: tokenizers, pictures, sources and the loader.
//!
//! * [`tokenizer`] – captions to token ids, equal to OpenCLIP's
//! * [`image`] – encoded pictures to `u8` planes, with Pillow's arithmetic
//! * [`source`] – CSV, webdataset shards, image folders: samples in a reproducible order
//! * [`storage`] – the bytes of files, wherever they lie
//! * [`loader`] – samples to batches, on several threads
//! * [`survey`] – a whole data set: what is in it, what is broken, how fast it is
//! * [`error`] – what can go wrong, and where

pub mod error;
pub mod image;
pub mod loader;
pub mod source;
pub mod storage;
pub mod survey;
pub mod tokenizer;
