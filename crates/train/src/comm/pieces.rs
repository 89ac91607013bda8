//! Exchanges larger than one call may be, in pieces.

use super::CommError;

/// What every rank gives, of `counts` bytes each, put together from calls of at most `most` bytes in all. A call is given how many bytes
/// of each rank it moves, and where this rank's begin in what it gives; it returns them rank after rank.
///
/// # Errors
/// Those of a call.
pub(super) fn gather(
    counts: &[u64],
    most: usize,
    mut call: impl FnMut(&[usize], usize) -> Result<Vec<u8>, CommError>,
) -> Result<Vec<Vec<u8>>, CommError> {
    let largest = counts.iter().copied().max().unwrap_or(0) as usize;
    let piece = (most / counts.len().max(1)).max(1);
    let mut all: Vec<Vec<u8>> = counts
        .iter()
        .map(|count| Vec::with_capacity(*count as usize))
        .collect();
    for first in (0..largest).step_by(piece) {
        let of_rank = |count: &u64| (*count as usize).saturating_sub(first).min(piece);
        let moved: Vec<usize> = counts.iter().map(of_rank).collect();
        let found = call(&moved, first)?;
        let mut rest = found.as_slice();
        for (whole, moved) in all.iter_mut().zip(moved) {
            let (part, after) = rest.split_at_checked(moved).unwrap_or((rest, &[]));
            whole.extend_from_slice(part);
            rest = after;
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// 655 MB of 160,000 pairs are three calls of 256 MiB; what ranks give need not be of equal length.
    #[test]
    fn more_than_a_call_takes_goes_in_pieces() {
        let given: [Vec<u8>; 4] = [vec![], vec![7], (0..100).collect(), (0..37).rev().collect()];
        let counts = given.each_ref().map(|bytes| bytes.len() as u64);
        for most in [1, 3, 4, 7, 40, 399, 400, 401, 1 << 28] {
            let mut calls = 0;
            let found = gather(&counts, most, |moved, first| {
                calls += 1;
                assert!(moved.iter().sum::<usize>() <= most.max(4), "{most}");
                let parts = given.iter().zip(moved).map(|(bytes, moved)| {
                    let first = first.min(bytes.len());
                    &bytes[first..first + moved]
                });
                Ok(parts.collect::<Vec<_>>().concat())
            });
            assert_eq!(found.unwrap(), given, "{most}");
            assert_eq!(calls, 100_usize.div_ceil((most / 4).max(1)), "{most}");
        }
        let nothing = gather(&[0, 0], 10, |_, _| Err(CommError::Lost(0)));
        assert_eq!(nothing.unwrap(), [[0_u8; 0]; 2]);
        let failed = gather(&[3], 1, |_, _| Err(CommError::Lost(0)));
        assert_eq!(failed, Err(CommError::Lost(0)));
    }
}
