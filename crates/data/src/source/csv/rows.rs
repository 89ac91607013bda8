//! Rows of a table, by the rules of pandas' reader.
//!
//! A quote has a meaning at the start of a field alone; within a quoted field it stands doubled. Lines end with `\n`,
//! `\r\n` or `\r`, and blank ones are passed over. The `csv` crate reads the same rows, but ends an open quote with the
//! file, without a word, and does not say where it opened.

use std::io::{self, BufRead};

/// Longest row that is read: what an open quote takes in.
const MAX_ROW_BYTES: usize = 16 << 20;
/// Most fields of a row. Separators alone, which pack to next to nothing, would fill the memory with empty fields.
const MAX_FIELDS: usize = 1 << 20;

/// The fields of a row.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// All fields, end to end.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// The field and the line of every quote that opened.
    quotes: Vec<(usize, u64)>,
    line: u64,
}

impl Row {
    fn clear(&mut self, line: u64) {
        self.text.clear();
        self.ends.clear();
        self.quotes.clear();
        self.line = line;
    }

    /// The line in which it begins.
    pub fn line(&self) -> u64 {
        self.line
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// # Errors
    /// When the field is not UTF-8.
    pub fn field(&self, index: usize) -> io::Result<&str> {
        let Some(&end) = self.ends.get(index) else {
            return Ok("");
        };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        std::str::from_utf8(&self.text[start..end]).map_err(|_| {
            let field = index + 1;
            fault(
                self.line,
                &format!(
                    "field {field} is not UTF-8; expected UTF-8, or UTF-16 with a byte order mark"
                ),
            )
        })
    }

    /// The quoted fields, each with the line in which its quote opened.
    pub fn quotes(&self) -> &[(usize, u64)] {
        &self.quotes
    }

    fn is_blank(&self) -> bool {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        self.ends.len() == 1 && self.quotes.is_empty() && self.text.iter().all(is_space)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// Behind a quote that ends the field unless another one follows.
    QuoteInQuoted,
}

/// Reads rows.
pub(super) struct Rows<R> {
    input: R,
    separator: u8,
    line: u64,
    is_after_return: bool,
}

impl<R: BufRead> Rows<R> {
    pub fn new(input: R, separator: u8) -> Self {
        Self {
            input,
            separator,
            line: 1,
            is_after_return: false,
        }
    }

    /// Reads the next row; `false` behind the last.
    ///
    /// # Errors
    /// When the text cannot be read, a quote is never closed, or a row is too long or has too many fields.
    pub fn read(&mut self, row: &mut Row) -> io::Result<bool> {
        row.clear(self.line);
        let mut state = State::FieldStart;
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return self.end(row, state);
            }
            let mut used = 0;
            let mut is_whole = false;
            for &byte in chunk {
                used += 1;
                let is_second_of_two = byte == b'\n' && self.is_after_return;
                let is_line_end = matches!(byte, b'\n' | b'\r');
                self.is_after_return = byte == b'\r';
                self.line += u64::from(is_line_end && !is_second_of_two);
                state = match (state, byte) {
                    (State::Quoted, b'"') => State::QuoteInQuoted,
                    (State::Quoted, _) => {
                        row.text.push(byte);
                        State::Quoted
                    }
                    _ if is_second_of_two => state,
                    _ if is_line_end || byte == self.separator => {
                        row.ends.push(row.text.len());
                        if is_line_end && row.is_blank() {
                            row.clear(self.line);
                        }
                        is_whole = is_line_end && row.len() > 0;
                        State::FieldStart
                    }
                    (State::FieldStart, b'"') => {
                        row.quotes.push((row.len(), self.line));
                        State::Quoted
                    }
                    (State::QuoteInQuoted, b'"') => {
                        row.text.push(byte);
                        State::Quoted
                    }
                    _ => {
                        row.text.push(byte);
                        State::Unquoted
                    }
                };
                if is_whole {
                    break;
                }
            }
            self.input.consume(used);
            if is_whole {
                return Ok(true);
            }
            if row.text.len() > MAX_ROW_BYTES {
                return Err(match (state, row.quotes.last()) {
                    (State::Quoted, Some(&(_, line))) => fault(
                        line,
                        "the quote that opens here is not closed within 16 MiB",
                    ),
                    _ => fault(row.line, "a row of more than 16 MiB"),
                });
            }
            if row.len() > MAX_FIELDS {
                return Err(fault(row.line, "a row of more than a million fields"));
            }
        }
    }

    /// The last row, which need not have a line end.
    fn end(&self, row: &mut Row, state: State) -> io::Result<bool> {
        if state == State::Quoted
            && let Some(&(_, line)) = row.quotes.last()
        {
            return Err(fault(
                line,
                "the quote that opens here is never closed; a field with quotes in it is quoted as a whole, and they are doubled",
            ));
        }
        if row.len() == 0 && state == State::FieldStart {
            return Ok(false);
        }
        row.ends.push(row.text.len());
        Ok(!row.is_blank())
    }
}

pub(super) fn fault(line: u64, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {reason}"))
}
