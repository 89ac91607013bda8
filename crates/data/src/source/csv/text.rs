//! The text of a table, in UTF-8 or in UTF-16 with a byte order mark, plain or packed.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use super::super::packed;
use crate::storage::Place;

/// Bytes of UTF-16 that are decoded at a time.
const CHUNK: usize = 1 << 16;

/// Opens a file as UTF-8, without the byte order mark. What is said to be UTF-8 is not checked.
///
/// # Errors
/// When the file cannot be opened, or begins as text of another encoding does.
pub(super) fn open(place: &Place) -> io::Result<Box<dyn BufRead>> {
    let mut input = packed::open(place)?;
    let mut start = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut start)?;
    let behind = |length: usize, input| -> Chain<Cursor<Vec<u8>>, Box<dyn BufRead>> {
        Cursor::new(start[length..].to_vec()).chain(input)
    };
    Ok(match start[..] {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => return Err(other("UTF-32")),
        [0xff, 0xfe, ..] => Box::new(utf16(behind(2, input), u16::from_le_bytes)),
        [0xfe, 0xff, ..] => Box::new(utf16(behind(2, input), u16::from_be_bytes)),
        [0xef, 0xbb, 0xbf, ..] => Box::new(behind(3, input)),
        [_, 0, ..] | [0, _, ..] => return Err(other("UTF-16 without a byte order mark")),
        _ => Box::new(behind(0, input)),
    })
}

fn other(encoding: &str) -> io::Error {
    let reason = format!("{encoding}; expected UTF-8, or UTF-16 with a byte order mark");
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn utf16<R: Read>(input: R, unit: fn([u8; 2]) -> u16) -> BufReader<Utf16<R>> {
    BufReader::with_capacity(
        CHUNK,
        Utf16 {
            input,
            unit,
            first: None,
            text: Cursor::default(),
        },
    )
}

/// UTF-16 as UTF-8.
struct Utf16<R> {
    input: R,
    unit: fn([u8; 2]) -> u16,
    /// The first half of a pair, whose second is in the next chunk.
    first: Option<u16>,
    text: Cursor<Vec<u8>>,
}

impl<R: Read> Utf16<R> {
    fn fill(&mut self) -> io::Result<()> {
        let malformed = |reason| io::Error::new(io::ErrorKind::InvalidData, reason);
        let mut bytes = Vec::with_capacity(CHUNK);
        self.input
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut bytes)?;
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(malformed("UTF-16 that ends inside a character"));
        }
        let mut units: Vec<u16> = self.first.take().into_iter().collect();
        units.extend(pairs.iter().map(|&pair| (self.unit)(pair)));
        if bytes.len() == CHUNK {
            self.first = units.pop_if(|unit| matches!(*unit, 0xd800..0xdc00));
        }
        let text = String::from_utf16(&units).map_err(|_| malformed("text that is not UTF-16"))?;
        self.text = Cursor::new(text.into_bytes());
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_used_up = self.text.position() == self.text.get_ref().len() as u64;
        if is_used_up {
            self.fill()?;
        }
        self.text.read(buffer)
    }
}
