//! Inputs as files.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Runs `read` on a file with these bytes.
pub fn with_file(bytes: &[u8], read: impl FnOnce(&Path)) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary folder");
    file.write_all(bytes).expect("room for an input");
    read(file.path());
}

/// Runs `read` on an empty folder.
pub fn with_folder(read: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    read(folder.path());
}

/// The bytes, packed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

/// A tar archive of members, names and bytes.
pub fn shard(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        let added = archive.append_data(&mut header, name, *bytes);
        added.expect("memory");
    }
    archive.into_inner().expect("memory")
}
