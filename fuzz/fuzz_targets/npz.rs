//! NumPy archives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_fuzz::read_weights;

fuzz_target!(|data: &[u8]| read_weights(data));
