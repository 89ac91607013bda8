//! NumPy archives: a file as it is, and arrays within an archive whose directory is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_fuzz::read_weights;
use openclip_fuzz::zip::{Method, archive};

/// The first is what big_vision's archives are told by; arrays of blocks are stacked.
const NAMES: [&str; 3] = [
    "img/embedding/kernel.npy",
    "img/Transformer/encoderblock/LayerNorm_0/scale.npy",
    "t.npy",
];

fuzz_target!(|data: &[u8]| {
    read_weights(data);
    for method in [Method::Stored, Method::Deflated] {
        read_weights(&archive(&NAMES.map(|name| (name, data)), method));
    }
});
