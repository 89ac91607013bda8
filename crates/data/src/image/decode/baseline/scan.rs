//! The coded data of a scan as plain bits.

/// Zeros behind the data, so that reading need not look for its end.
const PADDING: usize = 32;

/// A scan without the bytes that keep marks apart, and without its restart marks.
#[derive(Default)]
pub(super) struct Scan {
    bytes: Vec<u8>,
    /// Where each part ends that a restart mark, or another one, follows.
    ends: Vec<usize>,
}

impl Scan {
    /// Takes what begins with `data`, up to the first mark that is no restart mark in its turn.
    pub fn read(&mut self, data: &[u8], has_restarts: bool) {
        self.bytes.clear();
        self.ends.clear();
        let mut rest = data;
        while let Some(at) = memchr::memchr(0xff, rest) {
            match rest.get(at + 1) {
                Some(0) => {
                    self.bytes.extend_from_slice(&rest[..=at]);
                }
                Some(&mark) if has_restarts && mark == 0xd0 + (self.ends.len() % 8) as u8 => {
                    self.bytes.extend_from_slice(&rest[..at]);
                    self.ends.push(self.bytes.len());
                }
                _ => {
                    rest = &rest[..at];
                    break;
                }
            }
            rest = &rest[at + 2..];
        }
        self.bytes.extend_from_slice(rest);
        self.ends.push(self.bytes.len());
        self.bytes.extend([0; PADDING]);
    }

    /// The data, and the ends of its parts.
    pub fn parts(&self) -> (&[u8], &[usize]) {
        (&self.bytes, &self.ends)
    }
}
