//! Random erasing: which rectangles of a picture become noise, and the noise.
//!
//! timm writes normal noise over pixels that are normalised already, where two thirds of a standard deviation in a hundred
//! lie beyond black and white. Bytes cannot hold that, so the noise travels beside them until the pixels are normalised.

use rand::Rng;

/// Range of an erased area relative to the picture's, all rectangles together.
const AREA: (f64, f64) = (0.02, 1.0 / 3.0);
/// Least ratio of a rectangle's height to its width; the greatest is its inverse.
const ASPECT: f64 = 0.3;
/// Draws of a rectangle before it is given up.
const ATTEMPTS: usize = 10;

/// A rectangle of a transformed picture, and what replaces its pixels once they are normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Erasure {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Standard normal numbers, `[3, height, width]`.
    pub noise: Vec<f32>,
}

/// Draws timm's `RandomErasing` in mode `pixel` for a picture of `width` × `height` pixels: up to `count` rectangles.
pub(super) fn draw(
    (width, height): (usize, usize),
    count: usize,
    rng: &mut impl Rng,
) -> Vec<Erasure> {
    let count = rng.random_range(1..=count.max(1));
    (0..count)
        .filter_map(|_| rectangle((width, height), count, rng))
        .collect()
}

fn rectangle((width, height): (usize, usize), count: usize, rng: &mut impl Rng) -> Option<Erasure> {
    for _ in 0..ATTEMPTS {
        let area = rng.random_range(AREA.0..=AREA.1) * (width * height) as f64 / count as f64;
        let aspect = rng.random_range(ASPECT.ln()..=-ASPECT.ln()).exp();
        let rows = (area * aspect).sqrt().round_ties_even() as usize;
        let columns = (area / aspect).sqrt().round_ties_even() as usize;
        if columns < width && rows < height {
            if columns == 0 || rows == 0 {
                return None;
            }
            let (top, left) = (
                rng.random_range(0..=height - rows),
                rng.random_range(0..=width - columns),
            );
            return Some(Erasure {
                left,
                top,
                width: columns,
                height: rows,
                noise: normal(3 * columns * rows, rng),
            });
        }
    }
    None
}

/// Standard normal numbers, two at a time by Box and Muller.
fn normal(count: usize, rng: &mut impl Rng) -> Vec<f32> {
    let mut noise = Vec::with_capacity(count + 1);
    while noise.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
        let (sine, cosine) = (std::f32::consts::TAU * rng.random::<f32>()).sin_cos();
        noise.extend([radius * cosine, radius * sine]);
    }
    noise.truncate(count);
    noise
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn noise_is_normal() {
        let noise = normal(200_001, &mut StdRng::seed_from_u64(1));
        assert_eq!(noise.len(), 200_001);
        let moment = |power| {
            noise.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / noise.len() as f64
        };
        for (power, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)] {
            assert!(
                (moment(power) - expected).abs() < 0.05,
                "moment {power}: {}",
                moment(power)
            );
        }
    }

    /// What stands in a picture of one pixel's width fits nowhere.
    #[test]
    fn thin_pictures_keep_their_pixels() {
        let mut rng = StdRng::seed_from_u64(2);
        for size in [(1, 1), (1, 300), (300, 1)] {
            assert_eq!(draw(size, 3, &mut rng), []);
        }
    }
}
