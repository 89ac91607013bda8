//! `data`: inspecting, checking, packing and timing data sets.

mod bench;
mod inspect;
mod log;
mod pack;
mod verify;

use std::io::Read;
use std::path::Path;

use crate::support::Room;

/// A JPEG of `width` × `height` pixels whose colours tell `seed`.
fn jpeg(width: u16, height: u16, seed: u32) -> Vec<u8> {
    let pixels: Vec<u8> = (0..3 * u32::from(width) * u32::from(height))
        .map(|at| (at / 3 * (seed % 7 + 1) + at % 3 * 40 * seed) as u8)
        .collect();
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, 90)
        .encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    bytes
}

/// Writes a shard of these members.
fn shard(room: &Room, name: &str, members: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    room.write(name, builder.into_inner().unwrap());
}

/// Names and bytes of a shard's members.
fn members(path: &Path) -> Vec<(String, Vec<u8>)> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    entries.collect()
}

const SHARDS: &str = "s/{000..002}.tar";

/// Three shards: five samples that can be read, of which one has no caption and two repeat the picture of the first; one broken
/// picture, one caption without a picture; and a shard that is none.
fn flawed() -> Room {
    let room = Room::empty();
    room.picture("b.png", [10, 200, 40]);
    let png = std::fs::read(room.path("b.png")).unwrap();
    let (first, other) = (jpeg(40, 30, 1), jpeg(64, 16, 2));
    let broken = &first[..first.len() / 4];
    shard(
        &room,
        "s/000.tar",
        &[
            ("a.jpg", &first),
            ("a.txt", b"a red circle"),
            ("b.png", &png),
            ("b.txt", b"one two three four five six"),
            ("c.jpg", broken),
            ("c.txt", b"broken"),
            ("d.jpg", &other),
        ],
    );
    shard(
        &room,
        "s/001.tar",
        &[
            ("e.jpg", &first),
            ("e.txt", b"a red circle"),
            ("f.jpg", &first),
            ("f.txt", b"another text"),
            ("g.txt", b"no picture"),
        ],
    );
    room.write("s/002.tar", "no archive at all");
    room
}
