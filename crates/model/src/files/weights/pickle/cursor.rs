//! Where a pickle is read.

use super::value::Reason;

pub(super) type Step<T> = Result<T, Reason>;

pub(super) fn malformed<T>(reason: impl Into<String>) -> Step<T> {
    Err(Reason::Malformed(reason.into()))
}

/// Bytes, and how many of them have been read.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub fn take(&mut self, len: u64) -> Step<&'a [u8]> {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.position.checked_add(len));
        match end.and_then(|end| self.bytes.get(self.position..end)) {
            Some(bytes) => {
                self.position += bytes.len();
                Ok(bytes)
            }
            None => malformed(format!(
                "truncated: {len} bytes wanted, {} left",
                self.bytes.len() - self.position
            )),
        }
    }

    pub fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Step<u64> {
        self.array().map(|[byte]| byte.into())
    }

    pub fn u16(&mut self) -> Step<u64> {
        self.array().map(|bytes| u16::from_le_bytes(bytes).into())
    }

    pub fn u32(&mut self) -> Step<u64> {
        self.array().map(|bytes| u32::from_le_bytes(bytes).into())
    }

    pub fn u64(&mut self) -> Step<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Up to the end of the line, which is passed over.
    pub fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let Some(len) = rest.iter().position(|&byte| byte == b'\n') else {
            return malformed("truncated: a line without its end");
        };
        self.position += len + 1;
        Ok(&rest[..len])
    }

    /// A line that is the name of something.
    pub fn name(&mut self) -> Step<&'a str> {
        std::str::from_utf8(self.line()?).or_else(|_| malformed("a name is not UTF-8"))
    }
}
