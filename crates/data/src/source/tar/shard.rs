//! One tar shard, plain or gzip, read as a stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::super::group::{Group, Grouper, Role};
use super::super::{Item, MAX_MEMBER_BYTES, Problem, ProblemKind, Sink};

/// Longest name, or block of other extended headers, that is read.
const MAX_NAME_BYTES: u64 = 1 << 16;
/// Members without a sample after which a shard counts as one that has none.
const BARREN_MEMBERS: u64 = 1000;

/// Pushes the samples of one shard. A sample never spans two shards.
pub(super) fn read(path: &Path, sink: &mut dyn Sink) -> ControlFlow<()> {
    let shard: Arc<str> = path.to_string_lossy().into();
    let problem = |kind, reason: String| {
        Item::Problem(Problem {
            kind,
            place: shard.to_string(),
            reason,
        })
    };
    let reader = match open(path) {
        Ok(reader) => reader,
        Err(error) => return sink.push(problem(ProblemKind::UnreadableShard, error.to_string())),
    };
    let mut members = Members {
        archive: Archive::new(reader),
        grouper: Grouper::default(),
        count: 0,
    };
    let mut samples = 0_u64;
    let end = members.walk(sink, &mut |group, sink| {
        samples += 1;
        group
            .into_items(&shard)
            .into_iter()
            .try_for_each(|item| sink.push(item))
    });
    let end = match end {
        Ok(flow) => {
            flow?;
            None
        }
        Err(error) => Some(error),
    };
    if let Some(group) = members.grouper.finish() {
        // What is missing from the sample that was cut off says nothing about the data.
        if end.is_none() || group.is_complete() {
            samples += 1;
            group
                .into_items(&shard)
                .into_iter()
                .try_for_each(|item| sink.push(item))?;
        }
    }
    let count = members.count;
    match end {
        Some(error) if count == 0 => {
            sink.push(problem(ProblemKind::UnreadableShard, error.to_string()))
        }
        Some(error) => sink.push(problem(
            ProblemKind::TruncatedShard,
            format!("after {samples} samples: {error}"),
        )),
        None if samples == 0 => sink.push(problem(
            ProblemKind::EmptyShard,
            format!("{count} members, none named key.suffix"),
        )),
        None => ControlFlow::Continue(()),
    }
}

struct Members {
    archive: Archive<Box<dyn Read>>,
    grouper: Grouper,
    /// Members so far.
    count: u64,
}

impl Members {
    /// Reads members until the shard or the sink's patience ends.
    ///
    /// Extended headers are read here, because the tar crate puts no bound on their size.
    fn walk(
        &mut self,
        sink: &mut dyn Sink,
        push: &mut dyn FnMut(Group, &mut dyn Sink) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let mut long_name = None;
        let mut has_samples = false;
        for entry in self.archive.entries()?.raw(true) {
            let mut entry = entry?;
            match entry.header().entry_type() {
                EntryType::GNULongName => {
                    let mut name = extended_header(&mut entry)?;
                    name.truncate(
                        name.iter()
                            .position(|&byte| byte == 0)
                            .unwrap_or(name.len()),
                    );
                    long_name = Some(name);
                    continue;
                }
                EntryType::XHeader => {
                    long_name = pax_path(&extended_header(&mut entry)?)?.or(long_name);
                    continue;
                }
                EntryType::GNULongLink | EntryType::XGlobalHeader => continue,
                _ => {}
            }
            self.count += 1;
            let name = long_name.take();
            if sink.is_closed() {
                return Ok(ControlFlow::Break(()));
            }
            if !has_samples && self.count > BARREN_MEMBERS {
                break;
            }
            if !matches!(
                entry.header().entry_type(),
                EntryType::Regular | EntryType::Continuous
            ) {
                continue;
            }
            let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
            let (finished, role) = self.grouper.member(&String::from_utf8_lossy(&name));
            has_samples |= self.grouper.is_collecting();
            if let Some(group) = finished
                && push(group, sink).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            if role == Role::Other {
                continue;
            }
            if entry.size() > MAX_MEMBER_BYTES {
                self.grouper.too_large(entry.size());
                continue;
            }
            let bytes = content(&mut entry)?;
            self.grouper.content(role, bytes);
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The bytes of a member; it is an error when the shard ends before the member does.
fn content(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let size = entry.size();
    let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
    entry.read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file ends inside a member",
        ));
    }
    Ok(bytes)
}

fn extended_header(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    if entry.size() > MAX_NAME_BYTES {
        let reason = format!("an extended header of {} bytes", entry.size());
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    content(entry)
}

/// The name in the records of an extended header. One that overrides the size is an error: only members of more than
/// 8 GiB need it.
fn pax_path(records: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut path = None;
    for record in PaxExtensions::new(records).map_while(Result::ok) {
        match record.key_bytes() {
            b"path" => path = Some(record.value_bytes().to_vec()),
            b"size" => {
                let reason = "a member whose size stands in an extended header";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
            _ => {}
        }
    }
    Ok(path)
}

/// Opens a shard and takes gzip off, which the first bytes tell. Pipes and devices are refused, since reading them may
/// never end.
fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let packed = match file.fill_buf()? {
        [0x1f, 0x8b, ..] => return Ok(Box::new(MultiGzDecoder::new(file))),
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => return Ok(Box::new(file)),
    };
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("compressed with {packed}; plain and gzip tar are read"),
    ))
}
