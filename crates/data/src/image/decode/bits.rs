//! Samples of less than a byte, and rows from bottom to top.

/// One byte per sample from rows of `line` bytes with several samples of `bits` bits in each, highest bits first.
pub(super) fn unpack(packed: &[u8], line: usize, width: usize, bits: usize) -> Vec<u8> {
    let mask = (1_u16 << bits) as u8 - 1;
    let rows = packed.chunks_exact(line.max(1));
    rows.flat_map(|row| {
        (0..width).map(move |x| (row[x * bits / 8] >> (8 - bits - x * bits % 8)) & mask)
    })
    .collect()
}

/// Rows of `line` bytes from top to bottom.
pub(super) fn upright(rows: &[u8], line: usize, is_top_down: bool) -> Vec<u8> {
    match is_top_down {
        true => rows.to_vec(),
        false => rows
            .chunks_exact(line.max(1))
            .rev()
            .collect::<Vec<_>>()
            .concat(),
    }
}
