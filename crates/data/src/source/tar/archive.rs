//! The members of a tar archive, one after another, from a stream.
//!
//! Headers are the `tar` crate's. The walk from one to the next is here, since the crate's own holds extended headers
//! and maps of sparse files of any size in memory, takes nothing from global headers, cuts PAX records at line ends
//! within their values, and does not tell an archive that ends from one that is cut off between two members.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::block::{BLOCK, cut, invalid};
use super::pax::{Attributes, Map};
use super::sparse::{self, Chunk};

/// Longest extended header that is read.
const MAX_EXTENDED_BYTES: u64 = 8 << 20;

/// A member's header, with all that extended headers say about it.
#[derive(Debug)]
pub(super) struct Member {
    /// Where its first header begins.
    pub start: u64,
    /// Path in the archive, as it stands there.
    pub name: Vec<u8>,
    pub kind: EntryType,
    /// Bytes of the whole content, holes included.
    pub size: u64,
    chunks: Option<Vec<Chunk>>,
}

/// Reads members. Zeros between archives that were written one behind the other are passed over.
pub(super) struct Members<R> {
    input: Counted<R>,
    /// Bytes of the last member that are still to come, padding included.
    left: u64,
    global: Attributes,
    has_end_mark: bool,
}

impl<R: Read> Members<R> {
    pub fn new(input: R) -> Self {
        Self {
            input: Counted { input, position: 0 },
            left: 0,
            global: Attributes::default(),
            has_end_mark: false,
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.input.position
    }

    /// Whether global headers say something about members that follow, which cannot be understood without them.
    pub fn has_global(&self) -> bool {
        !self.global.is_empty()
    }

    /// Whether zeros, the end mark, followed the last member.
    pub fn has_end_mark(&self) -> bool {
        self.has_end_mark
    }

    /// The next member; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the stream cannot be read, ends too early, or is no archive. Nothing can be read after that.
    pub fn next(&mut self) -> io::Result<Option<Member>> {
        let mut local = Attributes::default();
        let mut long_name = None;
        let mut is_described = false;
        let mut start = None;
        loop {
            self.skip()?;
            let Some((at, header)) = self.header()? else {
                return if is_described {
                    Err(cut("behind an extended header"))
                } else {
                    Ok(None)
                };
            };
            let size = size(&header)?;
            let start = *start.get_or_insert(at);
            is_described |= !header.entry_type().is_pax_global_extensions();
            match header.entry_type() {
                EntryType::GNULongName => {
                    let mut name = self.extended(size)?;
                    name.truncate(
                        name.iter()
                            .position(|&byte| byte == 0)
                            .unwrap_or(name.len()),
                    );
                    long_name = Some(name);
                }
                EntryType::GNULongLink => self.left = padded(size)?,
                // Sun's archives have their own letter for the same.
                EntryType::XHeader | EntryType::__Nonexhaustive(b'X') => {
                    local.read(&self.extended(size)?)?;
                }
                EntryType::XGlobalHeader => {
                    let records = self.extended(size)?;
                    self.global.read(&records)?;
                }
                _ => {
                    let member = self.member(&header, size, local, long_name)?;
                    return Ok(Some(Member { start, ..member }));
                }
            }
        }
    }

    /// The content of the member that [`Members::next`] gave last, holes filled with zeros: `member.size` bytes.
    ///
    /// # Errors
    /// When the stream ends within it.
    pub fn content(&mut self, member: &Member) -> io::Result<Vec<u8>> {
        let is_cut = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut(&format!("inside {}", lossy(&member.name))),
            _ => error,
        };
        let Some(chunks) = &member.chunks else {
            // Neither more than it holds, nor in several steps: many wait in the shuffle buffer.
            let mut bytes = Vec::with_capacity(member.size as usize);
            let read = (&mut self.input)
                .take(member.size)
                .read_to_end(&mut bytes)?;
            self.left -= read as u64;
            if (read as u64) < member.size {
                return Err(is_cut(io::ErrorKind::UnexpectedEof.into()));
            }
            return Ok(bytes);
        };
        let mut bytes = vec![0; member.size as usize];
        for &(offset, length) in chunks {
            let part = &mut bytes[offset as usize..(offset + length) as usize];
            self.input.read_exact(part).map_err(is_cut)?;
            self.left -= length;
        }
        Ok(bytes)
    }

    /// Reads over what is left of the last member.
    fn skip(&mut self) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(self.left), &mut io::sink())?;
        let left = std::mem::take(&mut self.left) - skipped;
        // The padding of the last member may be missing.
        if left >= BLOCK as u64 {
            return Err(cut("inside a member"));
        }
        Ok(())
    }

    /// The next header and where it begins; `None` at the end of the stream.
    fn header(&mut self) -> io::Result<Option<(u64, Header)>> {
        loop {
            let at = self.input.position;
            let mut header = Header::new_old();
            let mut block = (&mut self.input).take(BLOCK as u64);
            let mut start = Vec::with_capacity(BLOCK);
            let read = block.read_to_end(&mut start)?;
            if read == 0 {
                return Ok(None);
            }
            if start.iter().all(|&byte| byte == 0) {
                self.has_end_mark = true;
                continue;
            }
            if read < BLOCK {
                return Err(cut("inside a header"));
            }
            header.as_mut_bytes().copy_from_slice(&start);
            if !is_intact(&header) {
                let reason = match (at, self.has_end_mark) {
                    (0, _) => "not a tar archive".to_owned(),
                    (_, true) => {
                        format!("what follows the end mark, at byte {at}, is no tar archive")
                    }
                    (_, false) => format!("the header at byte {at} is damaged"),
                };
                return Err(invalid(reason));
            }
            self.has_end_mark = false;
            return Ok(Some((at, header)));
        }
    }

    /// The content of an extended header.
    fn extended(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENDED_BYTES {
            let reason =
                format!("an extended header of {size} bytes, the limit is {MAX_EXTENDED_BYTES}");
            return Err(invalid(reason));
        }
        self.left = padded(size)?;
        let member = Member {
            start: 0,
            name: b"an extended header".to_vec(),
            kind: EntryType::Regular,
            size,
            chunks: None,
        };
        self.content(&member)
    }

    fn member(
        &mut self,
        header: &Header,
        size: u64,
        local: Attributes,
        long_name: Option<Vec<u8>>,
    ) -> io::Result<Member> {
        let mut attributes = local.or(&self.global);
        let name = attributes.path().or(long_name);
        let mut member = Member {
            start: 0,
            name: name.unwrap_or_else(|| header.path_bytes().into_owned()),
            kind: header.entry_type(),
            size: attributes.size.unwrap_or(size),
            chunks: None,
        };
        // The size of a link or folder says what it has on the disk; no content follows.
        if has_no_content(member.kind) {
            member.size = 0;
            return Ok(member);
        }
        let stored = member.size;
        self.left = padded(stored)?;
        if member.kind.is_gnu_sparse() {
            let gnu = header.as_gnu();
            let gnu = gnu.ok_or_else(|| invalid("a sparse file without a GNU header"))?;
            member.size = gnu.real_size()?;
            member.chunks = Some(sparse::gnu(gnu, &mut self.input)?);
        } else if let Some((size, map)) = attributes.sparse()? {
            member.size = size;
            member.chunks = Some(match map {
                Map::Chunks(chunks) => chunks,
                Map::InContent => {
                    let (chunks, bytes) =
                        sparse::in_content(&mut (&mut self.input).take(self.left))?;
                    self.left -= bytes;
                    chunks
                }
            });
        }
        if let Some(chunks) = &member.chunks {
            sparse::check(chunks, member.size, self.left)?;
        }
        Ok(member)
    }
}

/// A stream and how much of it was read.
struct Counted<R> {
    input: R,
    position: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

fn has_no_content(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

/// Compares the checksum, in which old archives count bytes with their sign.
fn is_intact(header: &Header) -> bool {
    let sum = |value: fn(u8) -> i64| -> i64 {
        let bytes = header.as_bytes().iter().enumerate();
        bytes
            .map(|(at, &byte)| {
                if (148..156).contains(&at) {
                    i64::from(b' ')
                } else {
                    value(byte)
                }
            })
            .sum()
    };
    header.cksum().is_ok_and(|stated| {
        let stated = i64::from(stated);
        stated == sum(i64::from) || stated == sum(|byte| i64::from(byte as i8))
    })
}

fn size(header: &Header) -> io::Result<u64> {
    let is_blank = header
        .as_old()
        .size
        .iter()
        .all(|byte| matches!(byte, 0 | b' '));
    if is_blank { Ok(0) } else { header.entry_size() }
}

/// `size` with the padding behind it.
fn padded(size: u64) -> io::Result<u64> {
    let padded = size
        .checked_next_multiple_of(BLOCK as u64)
        .filter(|&size| i64::try_from(size).is_ok());
    padded.ok_or_else(|| invalid(format!("a member of {size} bytes")))
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
