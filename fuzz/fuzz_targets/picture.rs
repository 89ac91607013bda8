#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_fuzz::{allow_caught_panics, read};

fuzz_target!(init: allow_caught_panics(), |data: &[u8]| read::picture(data));
