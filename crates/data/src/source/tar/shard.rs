//! The samples of one tar shard, read as a stream.

use std::io::{self, BufRead};
use std::ops::ControlFlow;
use std::sync::Arc;

use tar::EntryType;

use super::super::group::{Group, Grouper, Parts, Role, Seen};
use super::super::keys::{Draw, Keys};
use super::super::litter::is_litter_in_archive;
use super::super::shard::{Begun, Shard, identity};
use super::super::shard_index::{Extent, Recorder};
use super::super::shards::Shards;
use super::super::{Item, MAX_MEMBER_BYTES, Problem, ProblemKind, Sink, packed};
use super::archive::{Member, Members};
use super::foreign::{Foreign, Reason};
use crate::error::DataError;
use crate::storage::{Patience, Place, Started, Watch};

/// Files without a sample after which a shard counts as one that has none.
const BARREN_FILES: u64 = 1000;

/// One archive of a list.
pub(super) struct TarShard {
    pub list: Arc<Shards>,
    pub at: usize,
    pub keys: Arc<Keys>,
}

impl TarShard {
    fn place(&self) -> &Place {
        &self.list.places[self.at]
    }
}

impl Shard for TarShard {
    fn name(&self) -> Arc<str> {
        self.place().to_string().into()
    }

    fn key(&self) -> String {
        self.place().file_name()
    }

    fn identity(&self) -> String {
        identity(self.place())
    }

    fn version(&self) -> Option<String> {
        self.place().version()
    }

    fn begin(&self, draw: Draw) -> Box<dyn Begun + '_> {
        Box::new(Archive {
            name: self.name(),
            keys: &self.keys,
            draw,
            started: self.place().start(Patience::default()),
        })
    }

    fn fetch(
        &self,
        extents: &[Extent],
        version: &str,
        draw: &Draw,
        watch: Watch,
    ) -> io::Result<Vec<Item>> {
        let name = self.name();
        let ranges = neighbours(extents);
        let mut items = Vec::with_capacity(extents.len());
        for (whole, parts) in ranges {
            let patience = Patience::default();
            let bytes = self.place().read_range(
                whole.start,
                whole.length,
                Some(version),
                patience,
                watch.clone(),
            )?;
            for part in parts {
                let start = (part.start - whole.start) as usize;
                let part = &bytes[start..start + part.length as usize];
                items.push(sample(part, &name, &self.keys, draw)?);
            }
        }
        Ok(items)
    }
}

/// Extents that follow one another without a gap, together.
fn neighbours(extents: &[Extent]) -> impl Iterator<Item = (Extent, &[Extent])> {
    let groups = extents.chunk_by(|one, next| one.start + one.length == next.start);
    groups.map(|group| {
        let start = group[0].start;
        let length = group.iter().map(|extent| extent.length).sum();
        (Extent { start, length }, group)
    })
}

/// The sample that the members in `bytes` are.
fn sample(bytes: &[u8], shard: &Arc<str>, keys: &Keys, draw: &Draw) -> io::Result<Item> {
    let mut members = Members::new(bytes);
    let mut grouper = Grouper::new(keys);
    let mut foreign = Foreign::default();
    while let Some(member) = members.next()? {
        let name = String::from_utf8_lossy(&member.name);
        if is_file(&member, &name, &mut foreign) {
            let (_, role) = grouper.member(&name);
            take(&mut members, &member, role, &mut grouper)?;
        }
    }
    let group = grouper.finish();
    let item = group.and_then(|group| group.into_items(shard, keys, draw).pop());
    item.ok_or_else(|| io::Error::other("no sample is where one was"))
}

/// Reads what a member is to its sample.
fn take<R: io::Read>(
    members: &mut Members<R>,
    member: &Member,
    role: Role,
    grouper: &mut Grouper<'_>,
) -> io::Result<()> {
    match role {
        Role::Foreign | Role::Other => {}
        _ if is_link(member.kind) => grouper.link(role),
        _ if member.size > MAX_MEMBER_BYTES => grouper.too_large(role, member.size),
        _ => grouper.content(role, members.content(member)?),
    }
    Ok(())
}

/// Whether a member may belong to a sample; others are remembered.
fn is_file(member: &Member, name: &str, foreign: &mut Foreign) -> bool {
    let reason = match member.kind {
        EntryType::Directory => return false,
        _ if is_litter_in_archive(name) => Reason::Litter,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => return true,
        kind if is_link(kind) => return true,
        _ => Reason::Kind,
    };
    foreign.add(reason, name);
    false
}

/// An archive that is being opened.
struct Archive<'a> {
    name: Arc<str>,
    keys: &'a Keys,
    draw: Draw,
    started: Started,
}

impl Begun for Archive<'_> {
    /// Pushes the samples. A sample never spans two archives.
    fn read(
        self: Box<Self>,
        sink: &mut dyn Sink,
        recorder: &mut Recorder,
    ) -> Result<ControlFlow<()>, DataError> {
        let Self {
            name,
            keys,
            draw,
            started,
        } = *self;
        let opened = started.wait(sink.watch()).and_then(|stream| {
            let version = stream.version().map(str::to_owned);
            let (input, is_packed) = packed::unpack(stream)?;
            Ok((input, version.filter(|_| !is_packed)))
        });
        let (input, version) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                return Ok(sink.push(Item::Problem(Problem {
                    kind: ProblemKind::UnreadableShard,
                    place: name.to_string(),
                    reason: error.to_string(),
                })));
            }
        };
        recorder.begin(version.as_deref());
        let walk = Walk {
            name,
            keys,
            draw,
            members: Members::new(input),
            grouper: Grouper::new(keys),
            seen: Seen::default(),
            members_so_far: 0,
            files: 0,
            samples: 0,
            start: 0,
            last_parts: None,
            foreign: Foreign::default(),
            recorder,
            sink,
        };
        walk.run()
    }
}

/// Why no further member is read.
enum End {
    /// Nothing more is wanted.
    Closed,
    /// There is none, or none is worth looking for.
    Reached,
    /// The archive cannot be read on.
    Cut(io::Error),
}

struct Walk<'a> {
    name: Arc<str>,
    keys: &'a Keys,
    draw: Draw,
    members: Members<Box<dyn BufRead + Send>>,
    grouper: Grouper<'a>,
    seen: Seen,
    members_so_far: u64,
    /// Those that may belong to a sample.
    files: u64,
    samples: u64,
    /// Where the sample that is being collected begins.
    start: u64,
    /// What the last sample consisted of.
    last_parts: Option<Parts>,
    foreign: Foreign,
    recorder: &'a mut Recorder,
    sink: &'a mut dyn Sink,
}

impl Walk<'_> {
    fn run(mut self) -> Result<ControlFlow<()>, DataError> {
        let end = self.walk()?;
        if self.members.has_global() {
            // A part of the archive cannot be understood by itself.
            self.recorder.give_up();
        }
        match end {
            End::Closed => Ok(ControlFlow::Break(())),
            end => self.finish(end),
        }
    }

    /// Reads members until the archive or the sink's patience ends.
    fn walk(&mut self) -> Result<End, DataError> {
        loop {
            let member = match self.members.next() {
                Ok(Some(member)) => member,
                Ok(None) => return Ok(End::Reached),
                Err(error) => return Ok(End::Cut(error)),
            };
            if self.sink.is_closed() {
                return Ok(End::Closed);
            }
            self.members_so_far += 1;
            let name = String::from_utf8_lossy(&member.name);
            if !is_file(&member, &name, &mut self.foreign) {
                continue;
            }
            self.files += 1;
            let was_collecting = self.grouper.is_collecting();
            let (finished, role) = self.grouper.member(&name);
            let is_barren = self.samples == 0 && !self.grouper.is_collecting();
            if is_barren && self.files > BARREN_FILES {
                return Ok(End::Reached);
            }
            let begins = finished.is_some() || !was_collecting;
            if let Some(group) = finished
                && self.push(group, member.start)?.is_break()
            {
                return Ok(End::Closed);
            }
            if begins && self.grouper.is_collecting() {
                self.start = member.start;
            }
            if role == Role::Foreign {
                self.foreign.add(Reason::Name, &name);
            }
            if let Err(error) = take(&mut self.members, &member, role, &mut self.grouper) {
                return Ok(End::Cut(error));
            }
        }
    }

    /// Pushes a sample whose members end before byte `end`.
    fn push(&mut self, group: Group, end: u64) -> Result<ControlFlow<()>, DataError> {
        if let Some(earlier) = self.seen.other_parts(&group, self.keys) {
            return Err(DataError::ScatteredSample {
                shard: self.name.to_string(),
                key: group.key().to_owned(),
                earlier,
                later: group.part_names(self.keys),
            });
        }
        self.samples += 1;
        self.last_parts = Some(group.parts());
        let extent = Extent {
            start: self.start,
            length: end - self.start,
        };
        let items = group.into_items(&self.name, self.keys, &self.draw);
        let mut items = items.into_iter();
        Ok(items.try_for_each(|item| {
            self.recorder.note(&item, extent);
            self.sink.push(item)
        }))
    }

    /// Pushes the last sample, and what there is to say about the shard.
    fn finish(mut self, end: End) -> Result<ControlFlow<()>, DataError> {
        let is_whole = matches!(end, End::Reached) && self.members.has_end_mark();
        let mut note = String::new();
        if let Some(group) = self.grouper.finish() {
            let parts = group.parts();
            // What is missing from a sample that was cut off says nothing about the data.
            if is_whole || group.is_complete() || self.last_parts == Some(parts) {
                if self.push(group, self.members.position())?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            } else {
                note = format!(
                    "; sample {} is left out, since parts of it may be missing",
                    group.key()
                );
            }
        }
        let samples = self.samples;
        let shard_problem = match end {
            End::Cut(error) if self.members_so_far == 0 => {
                Some((ProblemKind::UnreadableShard, error.to_string()))
            }
            End::Cut(error) => Some((
                ProblemKind::TruncatedShard,
                format!("after {samples} samples: {error}{note}"),
            )),
            _ if samples == 0 && note.is_empty() => {
                let found = self.foreign.found().map(|found| format!("; {found}"));
                let reason = format!(
                    "{} members, none of them a file named key.suffix{}",
                    self.members_so_far,
                    found.unwrap_or_default()
                );
                Some((ProblemKind::EmptyShard, reason))
            }
            _ if !is_whole => Some((
                ProblemKind::TruncatedShard,
                format!(
                    "after {samples} samples: no end mark, so that members may be missing{note}"
                ),
            )),
            _ => None,
        };
        let foreign = self.foreign.found().filter(|_| samples > 0);
        let foreign = foreign.map(|found| (ProblemKind::ForeignMembers, found));
        for (kind, reason) in foreign.into_iter().chain(shard_problem) {
            let place = self.name.to_string();
            let item = Item::Problem(Problem {
                kind,
                place,
                reason,
            });
            self.recorder.note(
                &item,
                Extent {
                    start: 0,
                    length: 0,
                },
            );
            if self.sink.push(item).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn is_link(kind: EntryType) -> bool {
    matches!(kind, EntryType::Link | EntryType::Symlink)
}
