//! Products of a few rows in the registers of one core, for what is too small to be worth a product of its own.

/// Numbers side by side, twice which a panel has as columns.
const LANES: usize = 16;
/// Columns of a panel.
pub(super) const COLUMNS: usize = 2 * LANES;
/// Rows that are multiplied together.
pub(super) const ROWS: usize = 8;

type Lanes = super::Lanes<LANES>;

/// The sum of each row of `rows` times a panel: row after row of [`COLUMNS`], as many as the left operand has columns.
#[inline(always)]
pub(super) fn product<const N: usize>(rows: [&[f32]; N], panel: &[f32]) -> [[Lanes; 2]; N] {
    let depth = panel.len() / COLUMNS;
    let rows = rows.map(|row| &row[..depth]);
    let mut sums = [[Lanes::ZERO; 2]; N];
    for place in 0..depth {
        let panel = &panel[place * COLUMNS..][..COLUMNS];
        let panel = [Lanes::of(panel), Lanes::of(&panel[LANES..])];
        for (row, sums) in rows.iter().zip(&mut sums) {
            let x = super::Lanes([row[place]; LANES]);
            for (sum, column) in sums.iter_mut().zip(panel) {
                *sum = x.mul_add(column, *sum);
            }
        }
    }
    sums
}

/// All rows of a left operand times a panel. `row` gives a row, and `write` takes what becomes of it.
#[inline(always)]
pub(super) fn each<'a>(
    count: usize,
    row: impl Fn(usize) -> &'a [f32],
    panel: &[f32],
    mut write: impl FnMut(usize, [f32; COLUMNS]),
) {
    let mut store = |first: usize, sums: &[[Lanes; 2]]| {
        for (i, [left, right]) in sums.iter().enumerate() {
            let mut both = [0.0; COLUMNS];
            both[..LANES].copy_from_slice(&left.0);
            both[LANES..].copy_from_slice(&right.0);
            write(first + i, both);
        }
    };
    if count < ROWS {
        (0..count).for_each(|first| store(first, &product([row(first)], panel)));
        return;
    }
    for first in (0..count).step_by(ROWS) {
        // The last ones may be computed twice.
        let first = first.min(count - ROWS);
        store(
            first,
            &product::<ROWS>(std::array::from_fn(|i| row(first + i)), panel),
        );
    }
}
