//! `.safetensors`: a file as it is, and a header whose length fits it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_fuzz::read_weights;

/// Bytes of tensors behind the header.
const TENSORS: usize = 256;

fuzz_target!(|data: &[u8]| {
    read_weights(data);
    let length = (data.len() as u64).to_le_bytes();
    read_weights(&[&length, data, &[0; TENSORS]].concat());
});
