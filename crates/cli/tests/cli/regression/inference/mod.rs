//! Embedding, classifying, captioning and retrieval.

mod caption;
mod classify;
mod embed;
mod finite;
mod retrieval;

use std::fs;

use crate::support::{Ran, Room};

const WEIGHTS: [&str; 4] = ["--model", "tiny.json", "--pretrained", "tiny.safetensors"];

/// Runs a command with the room's model.
fn run(room: &Room, command: &str, more: &[&str]) -> Ran {
    room.run(&[&[command], &WEIGHTS[..], more].concat())
}

/// The lines of stderr with a label such as `note`.
fn told(ran: &Ran, label: &str) -> Vec<String> {
    let label = format!("{label}: ");
    let lines = ran.stderr.lines();
    lines
        .filter_map(|line| line.strip_prefix(&label).map(str::to_owned))
        .collect()
}

/// A shard of members.
fn tar(room: &Room, name: &str, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(Vec::new());
    for (member, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, member, *bytes).unwrap();
    }
    room.write(name, tar.into_inner().unwrap());
}

/// The bytes of one of the room's files.
fn bytes(room: &Room, name: &str) -> Vec<u8> {
    fs::read(room.path(name)).unwrap()
}

/// Writes the room's weights again with NaN in the place of every value.
fn write_nan_weights(room: &Room, name: &str) {
    let mut file = bytes(room, "tiny.safetensors");
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    for value in file[8 + header..].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    room.write(name, file);
}
