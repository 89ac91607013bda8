#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_fuzz::read;

fuzz_target!(|data: &[u8]| read::tar(data));
