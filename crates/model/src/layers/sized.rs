//! Tensors that follow from sizes alone, kept for the next forward pass.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Device;

/// Sizes that are remembered.
const MOST: usize = 8;

/// What was made for the latest sizes, on each device. Copies share it.
#[derive(Clone)]
pub struct PerSize<T>(Arc<Mutex<VecDeque<Entry<T>>>>);

struct Entry<T> {
    size: [usize; 2],
    device: Device,
    value: T,
}

impl<T> Default for PerSize<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> fmt::Debug for PerSize<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerSize")
    }
}

impl<T: Clone> PerSize<T> {
    /// What `make` gives for this size, which is all that it may depend on.
    pub fn get(&self, size: [usize; 2], device: &Device, make: impl FnOnce() -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |entry: &&Entry<T>| {
            let same = entry.device.is_autodiff() == device.is_autodiff();
            entry.size == size && same && entry.device == *device
        };
        if let Some(entry) = entries.iter().find(fits) {
            return entry.value.clone();
        }
        let value = make();
        entries.truncate(MOST - 1);
        entries.push_front(Entry {
            size,
            device: device.clone(),
            value: value.clone(),
        });
        value
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn the_latest_sizes_are_kept_for_each_device() {
        let cache = PerSize::default();
        let device = Device::flex();
        let get = |size: usize, device: &Device, value: usize| {
            cache.clone().get([size, 0], device, || value)
        };
        assert_eq!(get(1, &device, 10), 10);
        assert_eq!(get(1, &device, 11), 10);
        assert_eq!(get(1, &device.clone().autodiff(), 12), 12);
        assert_eq!(get(2, &device, 20), 20);
        (3..3 + MOST).for_each(|size| assert_eq!(get(size, &device, size), size));
        assert_eq!(get(1, &device, 13), 13);
    }
}
