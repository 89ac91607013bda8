//! A Parquet or Arrow file, by its first bytes.

use std::ops::ControlFlow;

use super::files::with_file;
use openclip_data::source::open::{OpenOptions, open};
use openclip_data::source::{Item, Order, Sink};

/// Takes some items; a row of nulls costs a file nothing, so that there may be many.
struct Some(u64);

const ITEMS: u64 = 1 << 12;

impl Sink for Some {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, _: Item) -> ControlFlow<()> {
        self.0 += 1;
        match self.0 < ITEMS {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

pub fn tables(data: &[u8]) {
    with_file(data, |path| {
        let kind = match data.starts_with(b"PAR1") {
            true => "parquet",
            false => "arrow",
        };
        let options = OpenOptions {
            dataset_type: kind.into(),
            ..OpenOptions::default()
        };
        // An error is an answer too.
        if let Ok(opened) = open(&path.to_string_lossy(), &options) {
            let _ = opened.source.pass(&Order::sequential(), 0, &mut Some(0));
        }
    });
}
