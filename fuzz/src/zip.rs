//! Archives whose directory is whole, whatever their members are.

/// How members are kept.
#[derive(Clone, Copy)]
pub enum Method {
    /// As they are.
    Stored = 0,
    /// Deflated, in one block that is a copy: at most [`LARGEST_BLOCK`] bytes of each.
    Deflated = 8,
}

/// Bytes of a deflated block that is a copy.
const LARGEST_BLOCK: usize = u16::MAX as usize;

/// A zip archive of `members`, names and bytes.
pub fn archive(members: &[(&str, &[u8])], method: Method) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    let word = |value: usize| (value as u32).to_le_bytes();
    for (name, bytes) in members {
        let start = word(file.len());
        let packed = match method {
            Method::Stored => bytes.to_vec(),
            Method::Deflated => deflated(bytes),
        };
        // Version, flags, method, time, date, checksum (which no reader asks for), sizes, lengths of name and extra field.
        let mut fields = vec![20, 0, 0, 0, method as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fields.extend(word(packed.len()));
        fields.extend(word(bytes.len()));
        fields.extend(word(name.len()));
        file.extend(b"PK\x03\x04");
        file.extend(&fields);
        file.extend(name.as_bytes());
        file.extend(packed);
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

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(LARGEST_BLOCK)];
    let length = bytes.len() as u16;
    let last_and_copied = [1];
    [
        &last_and_copied,
        &length.to_le_bytes()[..],
        &(!length).to_le_bytes(),
        bytes,
    ]
    .concat()
}
