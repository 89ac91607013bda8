//! A few samples of very many, each as likely as any other, and the same ones every time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Draws `most` of the numbers that are asked about: those with the least hashes.
///
/// Whoever makes something costly of a sample asks [`Pick::may`] before: it says no to nearly all that are not drawn in the end.
#[derive(Debug)]
pub struct Pick {
    most: usize,
    /// The greatest hash that is still drawn.
    bound: AtomicU64,
}

/// What was drawn so far.
#[derive(Debug)]
pub struct Picked<T>(BTreeMap<u64, (u64, T)>);

impl<T> Default for Picked<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Pick {
    /// Draws so many.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            bound: AtomicU64::new(if most == 0 { 0 } else { u64::MAX }),
        }
    }

    /// Whether number `n` may be among those drawn, as far as is known by now.
    pub fn may(&self, n: u64) -> bool {
        mixed(n) < self.bound.load(Relaxed)
    }

    /// Adds number `n`, of which `value` was made, and lets one go where that is one too many.
    pub fn add<T>(&self, picked: &mut Picked<T>, n: u64, value: T) {
        if !self.may(n) {
            return;
        }
        picked.0.insert(mixed(n), (n, value));
        if picked.0.len() > self.most {
            picked.0.pop_last();
        }
        if let Some((&greatest, _)) = picked.0.last_key_value()
            && picked.0.len() == self.most
        {
            self.bound.store(greatest, Relaxed);
        }
    }
}

impl<T> Picked<T> {
    /// What was drawn, in the order of the numbers.
    pub fn into_sorted(self) -> Vec<T> {
        let mut all: Vec<(u64, T)> = self.0.into_values().collect();
        all.sort_unstable_by_key(|(n, _)| *n);
        all.into_iter().map(|(_, value)| value).collect()
    }
}

/// SplitMix64's output function: a permutation of the numbers, so that no two have one hash.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(most: usize, numbers: impl Iterator<Item = u64>) -> (Vec<u64>, usize) {
        let (pick, mut picked, mut made) = (Pick::new(most), Picked::default(), 0);
        for n in numbers {
            if pick.may(n) {
                made += 1;
                pick.add(&mut picked, n, n);
            }
        }
        (picked.into_sorted(), made)
    }

    #[test]
    fn the_same_few_whatever_the_order() {
        let (drawn, made) = draw(8, 0..10_000);
        assert_eq!(drawn.len(), 8);
        assert!(drawn.is_sorted() && made < 120, "{drawn:?} {made}");
        assert_eq!(draw(8, (0..10_000).rev()).0, drawn);
        // They come from everywhere.
        assert!(drawn[0] < 4000 && drawn[7] > 6000, "{drawn:?}");
        assert_eq!(draw(8, 0..5).0, [0, 1, 2, 3, 4]);
        assert!(draw(0, 0..5).0.is_empty());
    }
}
