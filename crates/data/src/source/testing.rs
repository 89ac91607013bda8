//! What tests of sources and of the loader share.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::sharded::Sharded;
use super::shards::Shards;
use super::shuffle::ShuffleSize;
use super::tar;
use super::{Item, Order, ProblemKind, Sample, Sink, Source};
use crate::error::DataError;

/// A sink that keeps everything.
#[derive(Default)]
pub(crate) struct Collect(pub Vec<Item>);

impl Sink for Collect {
    fn jump(&mut self, _: usize) -> usize {
        0
    }
    fn push(&mut self, item: Item) -> ControlFlow<()> {
        self.0.push(item);
        ControlFlow::Continue(())
    }
}

impl Collect {
    /// Every item of one pass.
    pub fn pass(source: &dyn Source, order: &Order, pass: u64) -> Result<Self, DataError> {
        let mut all = Self::default();
        source.pass(order, pass, &mut all).map(|_| all)
    }

    /// The samples' names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.samples().map(|sample| sample.name.as_str()).collect()
    }

    /// The samples, in order.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter_map(|item| match item {
            Item::Sample(sample) => Some(sample),
            Item::Problem(_) => None,
        })
    }

    /// The problems' kinds, in order.
    pub fn problems(&self) -> Vec<ProblemKind> {
        let kind = |item: &Item| match item {
            Item::Sample(_) => None,
            Item::Problem(problem) => Some(problem.kind),
        };
        self.0.iter().filter_map(kind).collect()
    }
}

/// Leaves out the first `skip` items, as a resume does, and takes at most so many.
pub(crate) struct Resumed {
    pub skip: usize,
    pub most: usize,
    pub items: Vec<Item>,
}

impl Resumed {
    pub fn pass(source: &dyn Source, order: &Order, skip: usize, most: usize) -> Vec<Item> {
        let mut all = Self {
            skip,
            most,
            items: Vec::new(),
        };
        let _ = source.pass(order, 0, &mut all).unwrap();
        assert_eq!(all.skip, 0);
        all.items
    }
}

impl Sink for Resumed {
    fn jump(&mut self, available: usize) -> usize {
        let left_out = self.skip.min(available);
        self.skip -= left_out;
        left_out
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if self.jump(1) == 1 {
            return ControlFlow::Continue(());
        }
        self.items.push(item);
        match self.items.len() < self.most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn is_skipping(&self) -> bool {
        self.skip > 0
    }
}

/// The bytes of a tar archive with these members.
pub(crate) fn tar_bytes(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes a shard of samples `key` with the image bytes and the caption both made of the key.
pub(crate) fn write_shard(path: &Path, keys: impl IntoIterator<Item = String>) {
    let keys: Vec<String> = keys.into_iter().collect();
    let names: Vec<_> = keys
        .iter()
        .map(|key| (format!("{key}.jpg"), format!("{key}.txt"), key.as_bytes()))
        .collect();
    let members: Vec<(&str, &[u8])> = names
        .iter()
        .flat_map(|(image, text, bytes)| [(image.as_str(), *bytes), (text.as_str(), *bytes)])
        .collect();
    std::fs::write(path, tar_bytes(&members)).unwrap();
}

/// `shards` shards of `samples` samples each, keys `<shard>-<sample>`.
pub(crate) fn write_shards(dir: &Path, shards: usize, samples: usize) -> Vec<PathBuf> {
    let path = |shard| dir.join(format!("{shard:03}.tar"));
    (0..shards)
        .map(|shard| {
            write_shard(
                &path(shard),
                (0..samples).map(|sample| format!("{shard:03}-{sample:03}")),
            );
            path(shard)
        })
        .collect()
}

/// A source over a list of shards.
pub(crate) fn tar(paths: Vec<PathBuf>) -> Sharded {
    tar::source(
        Shards::list(paths),
        false,
        ShuffleSize {
            capacity: 8,
            initial: 3,
            ..ShuffleSize::default()
        },
    )
    .unwrap()
}

/// Packs bytes with gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
