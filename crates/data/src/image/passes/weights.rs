//! The weights of a pass by pairs of source samples.

use crate::image::taps::{Axis, PRECISION, Taps, fixed_point};

/// The weights of two samples.
pub(in crate::image) trait Weights: Copy {
    /// What a sample is multiplied as.
    type Sample: Copy + Default + From<u8> + Into<i32>;

    /// Bits after the point.
    const BITS: u32;

    /// Of weights of [`PRECISION`] bits. `rest` is what rounding has left so far of an output pixel's weights.
    fn new(weights: [i32; 2], rest: &mut i32) -> Self;

    fn whole(self) -> [i32; 2];
}

/// Pillow's weights to the last bit: `high << 11 | low`, so that both parts fit the processor's products of pairs of 16 bits.
#[derive(Clone, Copy)]
pub(in crate::image) struct Exact {
    pub high: [i16; 2],
    pub low: [i16; 2],
}

impl Exact {
    /// Bits of a weight's lower part.
    pub const LOW: u32 = 11;
}

impl Weights for Exact {
    type Sample = i16;

    const BITS: u32 = PRECISION;

    #[inline(always)]
    fn new(weights: [i32; 2], _: &mut i32) -> Self {
        Self {
            high: weights.map(|weight| (weight >> Self::LOW) as i16),
            low: weights.map(|weight| (weight & ((1 << Self::LOW) - 1)) as i16),
        }
    }

    #[inline(always)]
    fn whole(self) -> [i32; 2] {
        [0, 1].map(|i| (i32::from(self.high[i]) << Self::LOW) + i32::from(self.low[i]))
    }
}

/// Weights in 64ths, whose products and sums fit 16 bits, with a quarter of the instructions. What rounding takes from one the next one gets: they
/// add up to one, and a picture grows neither brighter nor darker.
#[derive(Clone, Copy)]
pub(in crate::image) struct Coarse(pub [i8; 2]);

impl Weights for Coarse {
    type Sample = u8;

    const BITS: u32 = 6;

    #[inline(always)]
    fn new(weights: [i32; 2], rest: &mut i32) -> Self {
        const SHIFT: u32 = PRECISION - Coarse::BITS;
        Self(weights.map(|weight| {
            let whole = weight + *rest;
            let rounded = (whole + (1 << (SHIFT - 1))) >> SHIFT;
            *rest = whole - (rounded << SHIFT);
            rounded as i8
        }))
    }

    #[inline(always)]
    fn whole(self) -> [i32; 2] {
        self.0.map(i32::from)
    }
}

/// The weights of one axis by pairs of source samples, as many pairs for each output pixel: what varies from one to the next would be
/// foreseen wrongly. A sample that is not there has no weight.
pub(in crate::image) struct PairTaps<W> {
    taps: Taps<i32>,
    reach: (usize, usize),
    /// First source sample per output pixel, seen from the reach's start.
    firsts: Vec<usize>,
    /// `count` pairs per output pixel.
    weights: Vec<W>,
    count: usize,
}

impl<W> Default for PairTaps<W> {
    fn default() -> Self {
        Self {
            taps: Taps::default(),
            reach: (0, 0),
            firsts: Vec::new(),
            weights: Vec::new(),
            count: 0,
        }
    }
}

impl<W: Weights> PairTaps<W> {
    /// Pairs of every output pixel's first two samples and so on; where `even`, which is always the same, those of the samples 0 and 1,
    /// 2 and 3 and so on, seen from the first one that any needs.
    pub fn compute(&mut self, axis: Axis, even: bool) {
        if !self.taps.compute(axis, fixed_point) {
            return;
        }
        let taps = &self.taps;
        self.reach = taps.reach();
        self.firsts.clear();
        self.weights.clear();
        self.count = 0;
        let start = self.reach.0;
        let before = |first: usize| if even { (first - start) % 2 } else { 0 };
        for x in 0..taps.len() {
            let (first, weights) = taps.at(x);
            let before = before(first);
            self.firsts.push(first - start - before);
            self.count = self.count.max((before + weights.len()).div_ceil(2));
        }
        for x in 0..taps.len() {
            let (pairs, _) = taps.padded(x, before(taps.at(x).0)).as_chunks::<2>();
            let pairs = pairs[..self.count].iter();
            let mut rest = 0;
            self.weights
                .extend(pairs.map(|&pair| W::new(pair, &mut rest)));
        }
    }

    /// How many output pixels there are.
    pub fn len(&self) -> usize {
        self.firsts.len()
    }

    /// First and one past the last source sample that the window needs.
    pub fn reach(&self) -> (usize, usize) {
        self.reach
    }

    /// How many pairs from the reach's start on have a weight, be it zero.
    pub fn pairs(&self) -> usize {
        let last = self.firsts.last().map_or(0, |first| first / 2);
        last + self.count
    }

    /// First source sample of an output pixel, and the weights from there on.
    #[inline(always)]
    pub fn at(&self, x: usize) -> (usize, &[W]) {
        let weights = &self.weights[x * self.count..][..self.count];
        (self.firsts[x], weights)
    }
}

#[cfg(test)]
mod tests {
    use openclip_model::config::Interpolation;

    use super::*;

    fn check<W: Weights>(off: f64) {
        let filters = [Interpolation::Bicubic, Interpolation::Bilinear];
        let parts = [(0.0, 512.0), (3.4, 60.3), (100.0, 224.0), (7.0, 5.0)];
        let mut pairs: [PairTaps<W>; 2] = Default::default();
        for (part, filter) in parts.iter().flat_map(|part| filters.map(|by| (*part, by))) {
            let axis = Axis {
                source: 512,
                part,
                resized: 37,
                window: (3, 30),
                filter,
            };
            let mut taps = Taps::default();
            taps.compute(axis, |weight| weight);
            let (start, _) = taps.reach();
            for (even, pairs) in [false, true].into_iter().zip(&mut pairs) {
                pairs.compute(axis, even);
                for x in 0..taps.len() {
                    let (first, weights) = pairs.at(x);
                    let whole = weights.iter().flat_map(|weights| weights.whole());
                    let sum: i32 = whole.clone().sum();
                    assert!(
                        (sum - (1 << W::BITS)).abs()
                            <= weights.len() as i32 * i32::from(W::BITS > 20)
                    );
                    assert!(!even || first.is_multiple_of(2));
                    let (exact_first, exact) = taps.at(x);
                    for (place, weight) in (start + first..).zip(whole) {
                        let exact = place
                            .checked_sub(exact_first)
                            .and_then(|place| exact.get(place));
                        let apart = f64::from(weight) / f64::from(1 << W::BITS)
                            - exact.copied().unwrap_or(0.0);
                        assert!(apart.abs() <= off, "{part:?}: output {x}, sample {place}");
                    }
                }
            }
        }
    }

    #[test]
    fn pairs_have_the_weights_of_their_samples() {
        check::<Exact>(0.5001 / f64::from(1 << Exact::BITS));
        check::<Coarse>(1.001 / f64::from(1 << Coarse::BITS));
    }

    #[test]
    fn exact_weights_are_whole() {
        for weight in [0, 1, -1, 2047, 2048, -2048, 4_194_304, -700_001] {
            assert_eq!(
                Exact::new([weight, -weight], &mut 0).whole(),
                [weight, -weight]
            );
        }
    }
}
