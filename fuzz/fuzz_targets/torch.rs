//! What `torch.save` writes: a file as it is, and a pickle within an archive whose directory is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_fuzz::read_weights;
use openclip_fuzz::zip::{Method::Stored, archive};

/// Storages of the archive, and bytes of each.
const STORAGES: usize = 16;
const STORAGE: usize = 1024;

fuzz_target!(|data: &[u8]| {
    read_weights(data);
    let storages: Vec<String> = (0..STORAGES).map(|i| format!("archive/data/{i}")).collect();
    let mut members: Vec<(&str, &[u8])> = vec![
        ("archive/data.pkl", data),
        ("archive/byteorder", b"little"),
        ("archive/version", b"3\n"),
    ];
    members.extend(
        storages
            .iter()
            .map(|name| (name.as_str(), &[0; STORAGE][..])),
    );
    read_weights(&archive(&members, Stored));
});
