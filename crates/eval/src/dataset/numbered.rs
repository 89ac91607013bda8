//! A source whose items are numbered as they come, for those that cannot be asked for one.

use std::ops::ControlFlow;
use std::sync::Arc;

use openclip_data::error::DataError;
use openclip_data::source::{Item, Order, Sample, Sink, Source};
use openclip_data::storage::Watch;

/// Labels every sample with its number. Problems have numbers as well.
pub(super) struct Numbered(pub Arc<dyn Source>);

impl Source for Numbered {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn num_samples(&self, train_num_samples: Option<u64>) -> Result<u64, DataError> {
        self.0.num_samples(train_num_samples)
    }

    fn batches(&self, samples: u64, world: usize, batch_size: usize) -> u64 {
        self.0.batches(samples, world, batch_size)
    }

    fn partitions(self: Arc<Self>, _: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        Ok(vec![self])
    }

    fn fingerprint(&self) -> u32 {
        self.0.fingerprint()
    }

    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        self.0.pass(order, pass, &mut Numbering { sink, next: 0 })
    }
}

struct Numbering<'a> {
    sink: &'a mut dyn Sink,
    next: usize,
}

impl Sink for Numbering<'_> {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        let label = Some(self.next);
        self.next += 1;
        self.sink.push(match item {
            Item::Sample(sample) => Item::Sample(Sample { label, ..sample }),
            problem => problem,
        })
    }

    fn is_closed(&self) -> bool {
        self.sink.is_closed()
    }

    fn watch(&self) -> Watch {
        self.sink.watch()
    }
}
