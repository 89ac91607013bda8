//! The samples of one tar shard, read as a stream.

use std::io::{self, BufRead};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tar::EntryType;

use super::super::group::{Group, Grouper, Parts, Role, Seen};
use super::super::keys::{Draw, Keys};
use super::super::litter::is_litter_in_archive;
use super::super::{Item, MAX_MEMBER_BYTES, Problem, ProblemKind, Sink, packed};
use super::archive::{Member, Members};
use super::foreign::{Foreign, Reason};
use crate::error::DataError;

/// Files without a sample after which a shard counts as one that has none.
const BARREN_FILES: u64 = 1000;

/// Pushes the samples of one shard that `keys` ask for; `draw` decides among captions. A sample never spans two shards.
///
/// # Errors
/// When the members of a sample do not stand together.
pub(super) fn read(
    path: &Path,
    keys: &Keys,
    draw: &Draw<'_>,
    sink: &mut dyn Sink,
) -> Result<ControlFlow<()>, DataError> {
    let name: Arc<str> = path.to_string_lossy().into();
    let input = match packed::open(path, &|| sink.is_closed()) {
        Ok(input) => input,
        Err(error) => {
            return Ok(sink.push(Item::Problem(Problem {
                kind: ProblemKind::UnreadableShard,
                place: name.to_string(),
                reason: error.to_string(),
            })));
        }
    };
    let mut shard = Shard {
        name,
        keys,
        draw,
        members: Members::new(input),
        grouper: Grouper::new(keys),
        seen: Seen::default(),
        members_so_far: 0,
        files: 0,
        samples: 0,
        last_parts: None,
        foreign: Foreign::default(),
        sink,
    };
    match shard.walk()? {
        End::Closed => Ok(ControlFlow::Break(())),
        end => shard.finish(end),
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

struct Shard<'a> {
    name: Arc<str>,
    keys: &'a Keys,
    draw: &'a Draw<'a>,
    members: Members<Box<dyn BufRead + Send>>,
    grouper: Grouper<'a>,
    seen: Seen,
    members_so_far: u64,
    /// Those that may belong to a sample.
    files: u64,
    samples: u64,
    /// What the last sample consisted of.
    last_parts: Option<Parts>,
    foreign: Foreign,
    sink: &'a mut dyn Sink,
}

impl Shard<'_> {
    /// Reads members until the shard or the sink's patience ends.
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
            if !self.is_file(&member, &name) {
                continue;
            }
            self.files += 1;
            let (finished, role) = self.grouper.member(&name);
            let is_barren = self.samples == 0 && !self.grouper.is_collecting();
            if is_barren && self.files > BARREN_FILES {
                return Ok(End::Reached);
            }
            if let Some(group) = finished
                && self.push(group)?.is_break()
            {
                return Ok(End::Closed);
            }
            match role {
                Role::Foreign => self.foreign.add(Reason::Name, &name),
                Role::Other => {}
                _ if is_link(member.kind) => self.grouper.link(role),
                _ if member.size > MAX_MEMBER_BYTES => self.grouper.too_large(role, member.size),
                _ => match self.members.content(&member) {
                    Ok(bytes) => self.grouper.content(role, bytes),
                    Err(error) => return Ok(End::Cut(error)),
                },
            }
        }
    }

    /// Whether a member may belong to a sample; others are remembered.
    fn is_file(&mut self, member: &Member, name: &str) -> bool {
        let reason = match member.kind {
            EntryType::Directory => return false,
            _ if is_litter_in_archive(name) => Reason::Litter,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => return true,
            kind if is_link(kind) => return true,
            _ => Reason::Kind,
        };
        self.foreign.add(reason, name);
        false
    }

    fn push(&mut self, group: Group) -> Result<ControlFlow<()>, DataError> {
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
        let items = group.into_items(&self.name, self.keys, self.draw);
        let mut items = items.into_iter();
        Ok(items.try_for_each(|item| self.sink.push(item)))
    }

    /// Pushes the last sample, and what there is to say about the shard.
    fn finish(mut self, end: End) -> Result<ControlFlow<()>, DataError> {
        let is_whole = matches!(end, End::Reached) && self.members.has_end_mark();
        let mut note = String::new();
        if let Some(group) = self.grouper.finish() {
            let parts = group.parts();
            // What is missing from a sample that was cut off says nothing about the data.
            if is_whole || group.is_complete() || self.last_parts == Some(parts) {
                if self.push(group)?.is_break() {
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
            let problem = Problem {
                kind,
                place,
                reason,
            };
            if self.sink.push(Item::Problem(problem)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn is_link(kind: EntryType) -> bool {
    matches!(kind, EntryType::Link | EntryType::Symlink)
}
