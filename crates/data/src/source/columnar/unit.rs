//! What is read from its start to its end: a row group, a record batch, or the word on a file that has none.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::super::keys::Draw;
use super::super::shard::{Begun, Shard, identity};
use super::super::shard_index::{Extent, Recorder};
use super::super::{Item, Problem, ProblemKind, Sink};
use super::fault::Fault;
use super::row::{Push, Rows, Unmade};
use super::{arrow, parquet};
use crate::error::DataError;
use crate::storage::{Place, Watch};

/// Rows that a reading thread hands over together: of about so many bytes, and at most so many.
const BYTES_TOGETHER: usize = 1 << 20;
const TOGETHER: usize = 256;
/// How many of those may wait.
const WAITING: usize = 32;
/// How often who waits for items asks whether they are still wanted.
const PATIENCE: Duration = Duration::from_millis(100);

/// A part of a data set.
#[derive(Clone, Debug)]
pub(crate) struct Unit(Arc<Part>);

#[derive(Debug)]
enum Part {
    RowGroup(parquet::RowGroup),
    Batch(arrow::Batch),
    /// A file that cannot be read, or not to its end.
    Broken {
        place: Place,
        problem: Problem,
    },
}

impl From<parquet::RowGroup> for Unit {
    fn from(group: parquet::RowGroup) -> Self {
        Self(Arc::new(Part::RowGroup(group)))
    }
}

impl From<arrow::Batch> for Unit {
    fn from(batch: arrow::Batch) -> Self {
        Self(Arc::new(Part::Batch(batch)))
    }
}

impl Unit {
    pub(super) fn unreadable(place: &Place, fault: &Fault) -> Self {
        Self::broken(place, ProblemKind::UnreadableShard, fault.to_string())
    }

    pub(super) fn cut(place: &Place, reason: String) -> Self {
        Self::broken(place, ProblemKind::TruncatedShard, reason)
    }

    fn broken(place: &Place, kind: ProblemKind, reason: String) -> Self {
        let problem = Problem {
            kind,
            place: place.to_string(),
            reason,
        };
        let place = place.clone();
        Self(Arc::new(Part::Broken { place, problem }))
    }

    /// What the rows of its file are; `None` where nothing can be read.
    pub(super) fn rows(&self) -> Option<&Rows> {
        match &*self.0 {
            Part::RowGroup(group) => Some(&group.file.rows),
            Part::Batch(batch) => Some(&batch.file.rows),
            Part::Broken { .. } => None,
        }
    }

    /// A thread sends some rows; `None` for a file that cannot be read, and where there can be no thread.
    fn start(&self, ranges: Vec<Range<u64>>) -> Option<Receiver<Together>> {
        let (sender, items) = bounded(WAITING);
        let part = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("rows".into());
        let started = match &*self.0 {
            Part::Broken { .. } => false,
            _ => thread.spawn(move || part.send(ranges, &sender)).is_ok(),
        };
        started.then_some(items)
    }
}

impl Part {
    /// The first row, and how many there are.
    fn extent(&self) -> (u64, u64) {
        match self {
            Self::RowGroup(group) => (group.first_row, group.len),
            Self::Batch(batch) => (batch.first_row, batch.len),
            Self::Broken { .. } => (0, 0),
        }
    }

    /// Pushes some rows, given by ascending ranges of their numbers within the unit. Each is one item, also where the file cannot be
    /// read on.
    fn read(
        &self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        push: &mut Push<'_>,
    ) -> ControlFlow<()> {
        match self {
            Self::RowGroup(group) => group.read(ranges, push),
            Self::Batch(batch) => batch.read(ranges, push),
            Self::Broken { problem, .. } => {
                let item = Item::Problem(problem.clone());
                push(0, Unmade::new(0, || item))
            }
        }
    }

    /// Sends some rows, several at a time.
    fn send(&self, ranges: Vec<Range<u64>>, sender: &Sender<Together>) {
        let mut together = Vec::new();
        let mut bytes = 0;
        let mut push = |row, unmade: Unmade| {
            bytes += unmade.bytes;
            together.push((row, unmade));
            if bytes < BYTES_TOGETHER && together.len() < TOGETHER {
                return ControlFlow::Continue(());
            }
            bytes = 0;
            // Nobody receives any more when the reading was given up.
            match sender.send(std::mem::take(&mut together)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        if self.read(ranges, &mut push).is_continue() && !together.is_empty() {
            let _ = sender.send(together);
        }
    }
}

impl Shard for Unit {
    fn name(&self) -> Arc<str> {
        let (first, len) = self.0.extent();
        match self.rows() {
            Some(rows) => format!(
                "{}, rows {first} to {}",
                rows.file,
                (first + len).saturating_sub(1)
            )
            .into(),
            None => match &*self.0 {
                Part::Broken { place, .. } => place.to_string().into(),
                _ => "".into(),
            },
        }
    }

    fn key(&self) -> String {
        match &*self.0 {
            Part::RowGroup(group) => format!("{}#{}", group.file.place().file_name(), group.number),
            Part::Batch(batch) => format!("{}#{}", batch.file.place().file_name(), batch.number),
            Part::Broken { place, .. } => place.file_name(),
        }
    }

    fn identity(&self) -> String {
        match &*self.0 {
            Part::RowGroup(group) => format!("{}#{}", identity(group.file.place()), group.number),
            Part::Batch(batch) => format!("{}#{}", identity(batch.file.place()), batch.number),
            Part::Broken { place, .. } => identity(place),
        }
    }

    /// All: each call reads the unit from its start.
    fn together(&self) -> usize {
        usize::MAX
    }

    fn samples(&self) -> Option<u64> {
        Some(self.0.extent().1)
    }

    fn version(&self) -> Option<String> {
        match &*self.0 {
            Part::RowGroup(group) => Some(group.file.version.clone()),
            Part::Batch(batch) => Some(batch.file.version.clone()),
            Part::Broken { .. } => None,
        }
    }

    /// A thread reads its rows ahead, within some 32 MiB of pictures.
    fn begin(&self, _: Draw) -> Box<dyn Begun + '_> {
        Box::new(Reading {
            unit: self,
            items: self.start(std::iter::once(0..self.0.extent().1).collect()),
        })
    }

    fn fetch(
        &self,
        extents: &[Extent],
        version: &str,
        _: &Draw,
        watch: Watch,
    ) -> io::Result<Vec<Item>> {
        if self.version().as_deref() != Some(version) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file was changed",
            ));
        }
        let mut items = Vec::with_capacity(extents.len());
        let rows = extents
            .iter()
            .map(|extent| extent.start..extent.start + extent.length);
        let coming = self
            .start(rows.collect())
            .ok_or_else(|| io::Error::other("no thread reads the rows"))?;
        loop {
            match next(&coming, || watch.is_closed()) {
                ControlFlow::Continue(Some(together)) => {
                    items.extend(together.into_iter().map(|(_, row)| row.item()));
                }
                ControlFlow::Continue(None) => return Ok(items),
                ControlFlow::Break(()) => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }
}

/// Rows, each with its number.
type Together = Vec<(u64, Unmade)>;

/// The next of the rows that are on their way, `None` behind the last of them; `Break` when they are no longer wanted.
fn next(
    items: &Receiver<Together>,
    is_closed: impl Fn() -> bool,
) -> ControlFlow<(), Option<Together>> {
    loop {
        match items.recv_timeout(PATIENCE) {
            Ok(together) => return ControlFlow::Continue(Some(together)),
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Continue(None),
            Err(RecvTimeoutError::Timeout) if is_closed() => return ControlFlow::Break(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// A unit whose rows are on their way; without a channel, they are read when they are wanted.
struct Reading<'a> {
    unit: &'a Unit,
    items: Option<Receiver<Together>>,
}

impl Begun for Reading<'_> {
    fn read(
        self: Box<Self>,
        sink: &mut dyn Sink,
        recorder: &mut Recorder,
    ) -> Result<ControlFlow<()>, DataError> {
        recorder.begin(self.unit.version().as_deref());
        let mut push = |sink: &mut dyn Sink, row, item: Item| {
            recorder.note(
                &item,
                Extent {
                    start: row,
                    length: 1,
                },
            );
            sink.push(item)
        };
        let Some(items) = &self.items else {
            let part = &self.unit.0;
            let rows = std::iter::once(0..part.extent().1);
            return Ok(part.read(rows, &mut |row, unmade| push(sink, row, unmade.item())));
        };
        let mut count = 0;
        loop {
            match next(items, || sink.is_closed()) {
                ControlFlow::Continue(Some(together)) => {
                    for (row, unmade) in together {
                        count += 1;
                        if push(sink, row, unmade.item()).is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                }
                ControlFlow::Continue(None) => break,
                ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
            }
        }
        if count < self.unit.0.extent().1 {
            return Err(DataError::LoaderStopped);
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Takes nothing and wants nothing.
    struct Closed;

    impl Sink for Closed {
        fn jump(&mut self, _: usize) -> usize {
            0
        }

        fn push(&mut self, _: Item) -> ControlFlow<()> {
            ControlFlow::Break(())
        }

        fn is_closed(&self) -> bool {
            true
        }
    }

    #[test]
    fn who_waits_for_rows_asks_whether_they_are_wanted() {
        let place = Place::File("none.parquet".into());
        let unit = Unit::cut(&place, "cut".into());
        // The sender lives, and is given up after a while so that the test ends also where nobody asks.
        let (sender, items) = bounded(1);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(30));
            drop(sender);
        });
        let reading = Reading {
            unit: &unit,
            items: Some(items),
        };
        let start = Instant::now();
        let read = Box::new(reading).read(&mut Closed, &mut Recorder::new(false));
        assert!(read.unwrap().is_break());
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
