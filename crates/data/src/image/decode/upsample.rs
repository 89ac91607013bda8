//! Planes of a JPEG with fewer samples than pixels, brought to its size as libjpeg does ("fancy upsampling").

/// One component: its samples by rows of `stride`, of which `width` × `height` are the picture's.
#[derive(Clone, Copy)]
pub(super) struct Plane<'a> {
    pub samples: &'a [u8],
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

impl<'a> Plane<'a> {
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [u8] {
        let row = row.min(self.height.saturating_sub(1));
        &self.samples[row * self.stride..][..self.width]
    }

    /// Row `y` of those with twice as many samples across, down, or both, each three quarters of the nearer sample and a quarter of
    /// its neighbour. `sums` is memory to work in, of two more than the plane's width.
    #[inline(always)]
    pub fn smooth_row(
        &self,
        y: usize,
        [across, down]: [bool; 2],
        sums: &mut [u16],
        out: &mut [u8],
    ) {
        let near = self.row(if down { y / 2 } else { y });
        let far = match y % 2 {
            0 => self.row((y / 2).saturating_sub(1)),
            _ => self.row(y / 2 + 1),
        };
        if !across {
            let rounding = 1 + (y % 2) as u16;
            for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
                *out = ((3 * u16::from(near) + u16::from(far) + rounding) >> 2) as u8;
            }
            return;
        }
        let inner = &mut sums[1..=self.width];
        for ((sum, &near), &far) in inner.iter_mut().zip(near).zip(far) {
            *sum = match down {
                true => 3 * u16::from(near) + u16::from(far),
                false => near.into(),
            };
        }
        sums[0] = sums[1];
        sums[self.width + 1] = sums[self.width];
        match down {
            true => doubled::<4>(sums, [8, 7], out),
            false => doubled::<2>(sums, [1, 2], out),
        }
    }

    /// `across` × `down` samples for each, cut off at `width` × `height` pixels.
    pub fn upsampled(&self, across: usize, down: usize, width: usize, height: usize) -> Vec<u8> {
        // Of narrower planes libjpeg repeats the samples.
        let is_smooth = self.width > 2;
        let mut out = Vec::with_capacity(width * height);
        let mut sums = vec![0; self.width + 2];
        let mut row = vec![0; across * self.width];
        for y in 0..height {
            match (across, down) {
                (2, 1 | 2) if is_smooth => {
                    self.smooth_row(y, [true, down == 2], &mut sums, &mut row);
                }
                _ => {
                    let samples = row.chunks_exact_mut(across).zip(self.row(y / down));
                    samples.for_each(|(out, &value)| out.fill(value));
                }
            }
            out.extend_from_slice(&row[..width]);
        }
        out
    }
}

/// Two samples for each sum but the first and the last. `rounding` is that of the left and of the right one, `BITS` those to be
/// shifted out.
#[inline(always)]
fn doubled<const BITS: u32>(sums: &[u16], rounding: [u16; 2], out: &mut [u8]) {
    let (pairs, _) = out.as_chunks_mut::<2>();
    let neighbours = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
    for (pair, ((&left, &sum), &right)) in pairs.iter_mut().zip(neighbours) {
        let left = (3 * sum + left + rounding[0]) >> BITS;
        let right = (3 * sum + right + rounding[1]) >> BITS;
        *pair = (left | right << 8).to_le_bytes();
    }
}
