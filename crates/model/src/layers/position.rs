//! Fixed positions.

/// The two-dimensional sine–cosine table of MAE with a zero row for the class token: `[1 + side², width]`, row-major.
///
/// The first half of the features encodes the column, the second half the row; within a half, sines precede cosines.
/// `width` must be divisible by four.
pub fn sin_cos_2d(width: usize, side: usize) -> Vec<f32> {
    let quarter = width / 4;
    let axis = |position: usize, table: &mut Vec<f32>| {
        let angle = |i: usize| position as f64 / 10000f64.powf(i as f64 / quarter as f64);
        table.extend((0..quarter).map(|i| angle(i).sin() as f32));
        table.extend((0..quarter).map(|i| angle(i).cos() as f32));
    };
    let mut table = vec![0.0; width];
    for row in 0..side {
        for column in 0..side {
            axis(column, &mut table);
            axis(row, &mut table);
        }
    }
    table
}
