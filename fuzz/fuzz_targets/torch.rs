//! What `torch.save` writes: a file as it is, and a pickle within an archive whose directory is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_fuzz::read_weights;

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
    read_weights(&archive(&members));
});

/// A zip archive of members that are stored as they are.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    let word = |value: usize| (value as u32).to_le_bytes();
    for (name, bytes) in members {
        let start = word(file.len());
        // Version, flags, method, time, date, checksum (which PyTorch's archives need not have), sizes, lengths of name and
        // extra field.
        let mut fields = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fields.extend(word(bytes.len()));
        fields.extend(word(bytes.len()));
        fields.extend(word(name.len()));
        file.extend(b"PK\x03\x04");
        file.extend(&fields);
        file.extend(name.as_bytes());
        file.extend(*bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(fields);
        // Length of the comment, disk, attributes, place.
        directory.extend([0; 10]);
        directory.extend(start);
        directory.extend(name.as_bytes());
    }
    let count = (members.len() as u16).to_le_bytes();
    let start = word(file.len());
    let length = word(directory.len());
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].concat());
    file.extend([length, start].concat());
    file.extend([0, 0]);
    file
}
