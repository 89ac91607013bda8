//! Sparse files: which of their parts are stored.

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::block::{BLOCK, invalid};

/// Offset and length of a part that is stored; all else is zeros.
pub(super) type Chunk = (u64, u64);

/// Most chunks that are read of one file: 8 MiB of them.
const MAX_CHUNKS: usize = 1 << 19;

/// The chunks of GNU's old format: four in the header, more in the blocks behind it.
///
/// # Errors
/// When a number is none, or there are too many chunks.
pub(super) fn gnu(header: &GnuHeader, input: &mut impl Read) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    let mut add = |list: &[GnuSparseHeader]| -> io::Result<()> {
        for chunk in list.iter().filter(|chunk| !chunk.is_empty()) {
            chunks.push((chunk.offset()?, chunk.length()?));
        }
        within_limit(chunks.len())
    };
    add(&header.sparse)?;
    let mut more = header.is_extended();
    while more {
        let mut block = GnuExtSparseHeader::new();
        input.read_exact(block.as_mut_bytes())?;
        add(block.sparse())?;
        more = block.is_extended();
    }
    Ok(chunks)
}

/// The chunks of format 1.0: a decimal number to a line, first how many there are, in whole blocks in front of the
/// content. Gives them and the bytes they took.
///
/// # Errors
/// When they are malformed or too many.
pub(super) fn in_content(input: &mut impl Read) -> io::Result<(Vec<Chunk>, u64)> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut digits = String::new();
    let mut wanted = 1;
    let mut bytes = 0;
    while numbers.len() < wanted {
        let mut block = [0; BLOCK];
        input.read_exact(&mut block)?;
        bytes += BLOCK as u64;
        for byte in block {
            if byte != b'\n' {
                digits.push(char::from(byte));
                continue;
            }
            let malformed = |_| invalid("a malformed map of a sparse file");
            numbers.push(digits.parse().map_err(malformed)?);
            digits.clear();
            if let [count] = numbers[..] {
                within_limit(usize::try_from(count).unwrap_or(usize::MAX))?;
                wanted = 1 + 2 * count as usize;
            }
            if numbers.len() == wanted {
                break;
            }
        }
        within_limit(digits.len())?;
    }
    let (pairs, _) = numbers[1..].as_chunks::<2>();
    let chunks = pairs.iter().map(|&[offset, length]| (offset, length));
    Ok((chunks.collect(), bytes))
}

fn within_limit(chunks: usize) -> io::Result<()> {
    if chunks > MAX_CHUNKS {
        return Err(invalid(format!(
            "a sparse file of more than {MAX_CHUNKS} parts"
        )));
    }
    Ok(())
}

/// Whether the chunks stand in order, within a file of `size` bytes, and take no more than `stored` of them.
///
/// # Errors
/// When they do not.
pub(super) fn check(chunks: &[Chunk], size: u64, stored: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for &(offset, length) in chunks {
        let next = offset
            .checked_add(length)
            .filter(|&next| offset >= end && next <= size);
        end =
            next.ok_or_else(|| invalid("parts of a sparse file out of order or beyond its end"))?;
        // No more than `end`.
        sum += length;
    }
    if sum > stored {
        return Err(invalid(format!(
            "a sparse file with {sum} of its bytes in {stored} stored ones"
        )));
    }
    Ok(())
}
