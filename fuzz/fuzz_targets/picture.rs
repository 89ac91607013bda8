//! A picture of any format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_data::image::{Limits, decode};
use openclip_fuzz::allow_caught_panics;

const LIMITS: Limits = Limits {
    max_pixels: 1 << 22,
};

fuzz_target!(init: allow_caught_panics(), |data: &[u8]| {
    if let Ok(picture) = decode(data, LIMITS) {
        assert!(picture.width() * picture.height() <= LIMITS.max_pixels);
    }
});
