//! A webdataset shard, plain or gzip.

use std::ops::ControlFlow;

use super::files::with_file;
use openclip_data::source::shards::Shards;
use openclip_data::source::shuffle::ShuffleSize;
use openclip_data::source::{Item, Order, Sink, Source, tar};

/// Counts items. A member has a header of 512 bytes, so that there cannot be more than this in what 64 KiB unpack to.
struct Count(u64);

const MOST_ITEMS: u64 = 1 << 18;

impl Sink for Count {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, _: Item) -> ControlFlow<()> {
        self.0 += 1;
        assert!(self.0 < MOST_ITEMS, "more items than the shard has headers");
        ControlFlow::Continue(())
    }
}

pub fn tar(data: &[u8]) {
    with_file(data, |path| {
        let shards = Shards::list(vec![path.to_path_buf()]);
        let archive = tar::source(shards, false, ShuffleSize::default()).expect("one shard");
        // An error is an answer too.
        let _ = archive.pass(&Order::sequential(), 0, &mut Count(0));
    });
}
