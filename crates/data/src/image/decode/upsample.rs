//! Planes of a JPEG with fewer samples than pixels, brought to its size as libjpeg does ("fancy upsampling").

/// One component: its samples by rows of `stride`, of which `width` × `height` are the picture's.
pub(super) struct Plane<'a> {
    pub samples: &'a [u8],
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

impl Plane<'_> {
    fn row(&self, row: usize) -> &[u8] {
        let row = row.min(self.height.saturating_sub(1));
        &self.samples[row * self.stride..][..self.width]
    }

    /// `across` × `down` samples for each, cut off at `width` × `height` pixels.
    pub fn upsampled(&self, across: usize, down: usize, width: usize, height: usize) -> Vec<u8> {
        // Of narrower planes libjpeg repeats the samples.
        let is_smooth = self.width > 2;
        let mut out = Vec::with_capacity(width * height);
        for y in 0..height {
            let near = self.row(y / down);
            let row: Vec<u8> = match (across, down) {
                (2, 1) if is_smooth => {
                    let sums: Vec<u32> = near.iter().map(|&value| u32::from(value)).collect();
                    doubled(&sums, [1, 2], 2)
                }
                (2, 2) if is_smooth => {
                    let far = match y % 2 {
                        0 => self.row((y / 2).saturating_sub(1)),
                        _ => self.row(y / 2 + 1),
                    };
                    let sum = |(&near, &far): (&u8, &u8)| 3 * u32::from(near) + u32::from(far);
                    let sums: Vec<u32> = near.iter().zip(far).map(sum).collect();
                    doubled(&sums, [8, 7], 4)
                }
                _ => near
                    .iter()
                    .flat_map(|&value| std::iter::repeat_n(value, across))
                    .collect(),
            };
            out.extend_from_slice(&row[..width]);
        }
        out
    }
}

/// Two samples for each: three quarters of the nearer one, and a quarter of its neighbour. `rounding` is that of the left and of the
/// right one, `bits` those to be shifted out.
fn doubled(sums: &[u32], rounding: [u32; 2], bits: u32) -> Vec<u8> {
    let last = sums.len() - 1;
    let mut out = Vec::with_capacity(2 * sums.len());
    for (x, &sum) in sums.iter().enumerate() {
        let left = sums[x.saturating_sub(1)];
        let right = sums[(x + 1).min(last)];
        out.push(((3 * sum + left + rounding[0]) >> bits) as u8);
        out.push(((3 * sum + right + rounding[1]) >> bits) as u8);
    }
    out
}
