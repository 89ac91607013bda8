//! CCITT's encodings of bilevel rows: modified Huffman, group 3 in one and two dimensions, group 4. What cannot be read of
//! a row stays white, as libtiff leaves it.

use fax::maps::{Mode, black, mode, white};
use fax::{BitReader, slice_reader};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Rows begin at whole bytes.
    Huffman,
    Group3 {
        has_two_dimensions: bool,
    },
    Group4,
}

/// `height` rows of `width` pixels, eight in a byte; black is 1.
pub(super) fn decode(data: &[u8], width: usize, height: usize, encoding: Encoding) -> Vec<u8> {
    let line = width.div_ceil(8);
    let mut out = vec![0; line * height];
    // A code is looked up in more bits than it has; the last one needs some behind it.
    let padded = [data, &[0; 4]].concat();
    let mut reader = slice_reader(&padded);
    let mut reference: Vec<usize> = Vec::new();
    for row in out.chunks_exact_mut(line.max(1)) {
        let is_relative = match encoding {
            Encoding::Huffman => false,
            Encoding::Group4 => true,
            Encoding::Group3 { has_two_dimensions } => {
                let is_at_end = skip_end_of_line(&mut reader);
                if is_at_end.is_none() {
                    break;
                }
                has_two_dimensions && take(&mut reader, 1) == Some(0)
            }
        };
        let changes = match is_relative {
            true => relative_row(&mut reader, &reference, width),
            false => plain_row(&mut reader, width),
        };
        let Some(changes) = changes else {
            break;
        };
        if encoding == Encoding::Huffman {
            let rest = reader.bits_to_byte_boundary();
            let _ = reader.consume(rest);
        }
        paint(row, &changes, width);
        reference = changes;
    }
    out
}

fn take(reader: &mut impl BitReader, bits: u8) -> Option<u16> {
    let value = reader.peek(bits)?;
    reader.consume(bits).ok()?;
    Some(value)
}

/// Passes over the mark of a row's end, which eleven zeros begin, where there is one. `None` at the end of the data.
fn skip_end_of_line(reader: &mut impl BitReader) -> Option<()> {
    reader.peek(1)?;
    while reader.peek(11) == Some(0) {
        while take(reader, 1)? == 0 {}
    }
    Some(())
}

/// A run of one colour.
fn run(reader: &mut impl BitReader, is_black: bool) -> Option<usize> {
    let mut length = 0;
    loop {
        let part = match is_black {
            true => black::decode(reader),
            false => white::decode(reader),
        }?;
        length += usize::from(part);
        if part < 64 {
            return Some(length);
        }
    }
}

/// The places where the colour changes, the first from white to black.
fn plain_row(reader: &mut impl BitReader, width: usize) -> Option<Vec<usize>> {
    let (mut changes, mut at, mut is_black) = (Vec::new(), 0, false);
    while at < width {
        at += run(reader, is_black)?;
        changes.push(at.min(width));
        is_black = !is_black;
    }
    Some(changes)
}

/// As [`plain_row`], told by the changes of the row before.
fn relative_row(
    reader: &mut impl BitReader,
    reference: &[usize],
    width: usize,
) -> Option<Vec<usize>> {
    let (mut changes, mut is_black) = (Vec::new(), false);
    // `None` is the place before the row.
    let mut at: Option<usize> = None;
    let place = |index: usize| reference.get(index).copied().unwrap_or(width);
    // The first change of the row before that lies beyond `at`, which never goes back.
    let mut beyond = 0;
    while at.unwrap_or(0) < width {
        while at.is_some_and(|at| reference.get(beyond).is_some_and(|&place| place <= at)) {
            beyond += 1;
        }
        // Of those, the first to the colour that is not the present one.
        let first = beyond + usize::from((beyond % 2 == 1) != is_black);
        match mode::decode(reader)? {
            Mode::Pass => at = Some(place(first + 1)),
            Mode::Vertical(delta) => {
                let place = place(first)
                    .checked_add_signed(isize::from(delta))?
                    .min(width);
                if place < at.unwrap_or(0) {
                    return None;
                }
                changes.push(place);
                at = Some(place);
                is_black = !is_black;
            }
            Mode::Horizontal => {
                let first = at.unwrap_or(0) + run(reader, is_black)?;
                let second = first + run(reader, !is_black)?;
                changes.extend([first.min(width), second.min(width)]);
                at = Some(second.min(width));
            }
            Mode::Extension | Mode::EOF => return None,
        }
    }
    Some(changes)
}

fn paint(row: &mut [u8], changes: &[usize], width: usize) {
    for pair in changes.chunks(2) {
        let end = pair.get(1).copied().unwrap_or(width);
        for x in pair[0]..end.min(width) {
            row[x / 8] |= 0x80 >> (x % 8);
        }
    }
}
