//! Extended headers (PAX): records that override what the header of a member says.

use std::io;

use super::block::invalid;
use super::sparse::Chunk;

/// What is taken from extended headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attributes {
    path: Option<Vec<u8>>,
    /// Bytes that are stored.
    pub size: Option<u64>,
    sparse: SparseRecords,
}

/// The records of a sparse file, in GNU's formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default, PartialEq)]
struct SparseRecords {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    version: [Option<u64>; 2],
    /// Format 0.0: the first half of a chunk.
    offset: Option<u64>,
    chunks: Option<Vec<Chunk>>,
}

/// Where a sparse file says which parts of it are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// In the records.
    Chunks(Vec<Chunk>),
    /// In front of the stored bytes.
    InContent,
}

impl Attributes {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the records of one more extended header; a later record of a name goes before an earlier one.
    ///
    /// # Errors
    /// When the records are malformed.
    pub fn read(&mut self, records: &[u8]) -> io::Result<()> {
        let sparse = &mut self.sparse;
        for record in Records(records) {
            let (key, value) = record?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"size" => self.size = Some(number(value)?),
                b"GNU.sparse.name" => sparse.path = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.size = Some(number(value)?),
                b"GNU.sparse.major" => sparse.version[0] = Some(number(value)?),
                b"GNU.sparse.minor" => sparse.version[1] = Some(number(value)?),
                b"GNU.sparse.offset" => sparse.offset = Some(number(value)?),
                b"GNU.sparse.numbytes" => {
                    let malformed = || invalid("a sparse file's chunk without an offset");
                    let offset = sparse.offset.take().ok_or_else(malformed)?;
                    let chunk = (offset, number(value)?);
                    sparse.chunks.get_or_insert_default().push(chunk);
                }
                b"GNU.sparse.map" => sparse.chunks = Some(pairs(value)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// These, and what they leave open from `global`.
    pub fn or(self, global: &Self) -> Self {
        Self {
            path: self.path.or_else(|| global.path.clone()),
            size: self.size.or(global.size),
            sparse: self.sparse,
        }
    }

    /// The name of the member.
    pub fn path(&mut self) -> Option<Vec<u8>> {
        self.sparse.path.take().or_else(|| self.path.take())
    }

    /// Size and map of a sparse file; `None` for others.
    ///
    /// # Errors
    /// When the file is sparse in a way that is not known.
    pub fn sparse(&mut self) -> io::Result<Option<(u64, Map)>> {
        let sparse = std::mem::take(&mut self.sparse);
        let map = match (sparse.version, sparse.chunks) {
            ([None | Some(0), _], Some(chunks)) => Map::Chunks(chunks),
            ([None | Some(0), _], None) => return Ok(None),
            ([Some(1), Some(0)], _) => Map::InContent,
            ([Some(major), minor], _) => {
                let minor = minor.unwrap_or_default();
                return Err(invalid(format!("a sparse file of format {major}.{minor}")));
            }
        };
        let size = sparse
            .size
            .ok_or_else(|| invalid("a sparse file without its size"))?;
        Ok(Some((size, map)))
    }
}

/// `offset,length,offset,length,…`
fn pairs(text: &[u8]) -> io::Result<Vec<Chunk>> {
    let numbers = text
        .split(|&byte| byte == b',')
        .filter(|part| !part.is_empty())
        .map(number)
        .collect::<io::Result<Vec<u64>>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs
            .iter()
            .map(|&[offset, length]| (offset, length))
            .collect())
    } else {
        Err(invalid("a sparse file's chunk without a length"))
    }
}

fn number(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| {
        let text = String::from_utf8_lossy(text);
        invalid(format!(
            "{text:?} in place of a number in an extended header"
        ))
    })
}

/// The records `LENGTH KEY=VALUE\n`. The length counts the record from its own first digit on; a value may hold any
/// bytes, line ends too.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = io::Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.0, [] | [0, ..]) {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or_else(|| invalid("a malformed extended header")))
    }
}

impl<'a> Records<'a> {
    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let space = self.0.iter().take(20).position(|&byte| byte == b' ')?;
        let length = std::str::from_utf8(&self.0[..space]).ok()?.parse().ok()?;
        let (record, rest) = self.0.split_at_checked(length)?;
        let [fields @ .., b'\n'] = record.get(space + 1..)? else {
            return None;
        };
        let equals = fields.iter().position(|&byte| byte == b'=')?;
        self.0 = rest;
        Some((&fields[..equals], &fields[equals + 1..]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(records: &[u8]) -> io::Result<Attributes> {
        let mut attributes = Attributes::default();
        attributes.read(records).map(|()| attributes)
    }

    #[test]
    fn values_may_hold_line_ends() {
        let mut found =
            read(b"26 SCHILY.xattr.user.x=a\n\n13 path=a.jpg\n10 size=7\n\0\0").unwrap_err();
        assert!(found.to_string().contains("malformed"), "{found}");
        let mut records = read(b"29 SCHILY.xattr.user.x=\n9 a=\n14 path=a.jpg\n10 size=7\n\0\0");
        let attributes = records.as_mut().unwrap();
        assert_eq!(
            (attributes.path().unwrap(), attributes.size),
            (b"a.jpg".to_vec(), Some(7))
        );
        found = read(b"14 path=a.jpg\n9 size=x\n").unwrap_err();
        assert!(found.to_string().contains("number"), "{found}");
    }

    #[test]
    fn malformed_records_are_errors() {
        for records in [
            &b"path=a\n"[..],
            b"0 path=a\n",
            b"99 path=a\n",
            b"9 path=ab\n",
            b"99999999999999999999999 path=a\n",
            b"8 patha\n",
            b"-9 path=a\n",
            b"3 \n",
        ] {
            let name = String::from_utf8_lossy(records);
            assert!(read(records).is_err(), "{name}");
        }
    }
}
