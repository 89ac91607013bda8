//! A sink that keeps everything.

use std::ops::ControlFlow;

use openclip_data::source::{Item, Sink};

/// The items of a pass, in their order.
#[derive(Default)]
pub struct Collect(pub Vec<Item>);

impl Sink for Collect {
    fn jump(&mut self, _: usize) -> usize {
        0
    }
    fn push(&mut self, item: Item) -> ControlFlow<()> {
        self.0.push(item);
        ControlFlow::Continue(())
    }
}
