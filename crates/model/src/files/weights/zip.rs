//! The directory of a zip archive: where each member's bytes lie.

use std::collections::HashMap;

use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};

use super::error::WeightsError;
use super::tensor::WeightsFile;

/// Members of an archive, at most.
const MAX_MEMBERS: usize = 1 << 20;

/// Where a member's data lies: first byte and number of bytes.
pub(super) type Span = (u64, u64);

/// Byte ranges of an archive's members, by name. Compressed members are told apart by their method.
pub(super) struct Members {
    pub(super) spans: HashMap<String, (Span, CompressionMethod)>,
}

impl Members {
    pub(super) fn list(file: &WeightsFile) -> Result<Self, WeightsError> {
        let broken = |error: rawzip::Error| {
            WeightsError::container(
                &file.path,
                "zip directory",
                format!("{error}; is the file complete?"),
            )
        };
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipArchive::with_max_search_space(u64::from(u16::MAX) + 22)
            .locate_in_reader(&file.reader, &mut buffer, file.len)
            .map_err(|(_, error)| broken(error))?;
        let mut found = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(broken)? {
            let name = entry.file_path();
            let Ok(name) = std::str::from_utf8(name.as_ref()) else {
                return Err(WeightsError::container(
                    &file.path,
                    "zip directory",
                    "a name is not UTF-8",
                ));
            };
            if found.len() >= MAX_MEMBERS {
                let reason = format!("more than {MAX_MEMBERS} members");
                return Err(WeightsError::container(&file.path, "zip directory", reason));
            }
            found.push((
                name.to_string(),
                entry.wayfinder(),
                entry.compression_method(),
            ));
        }
        let mut spans = HashMap::with_capacity(found.len());
        for (name, wayfinder, method) in found {
            let broken = |error: rawzip::Error| {
                WeightsError::container(&file.path, &name, error.to_string())
            };
            let (start, end) = archive
                .get_entry(wayfinder)
                .map_err(broken)?
                .compressed_data_range();
            if end < start || end > file.len {
                let reason = format!(
                    "bytes {start}..{end} lie outside the file of {} bytes",
                    file.len
                );
                return Err(WeightsError::container(&file.path, &name, reason));
            }
            spans.insert(name, ((start, end - start), method));
        }
        Ok(Self { spans })
    }

    /// A member's data. PyTorch stores what is read here without compression; a compressed member, which could unpack to
    /// any size, is refused.
    pub(super) fn stored(&self, file: &WeightsFile, name: &str) -> Result<Span, WeightsError> {
        let Some(&(span, method)) = self.spans.get(name) else {
            return Err(WeightsError::container(
                &file.path,
                name,
                "no such member in the archive",
            ));
        };
        if method != CompressionMethod::STORE {
            let reason =
                "is compressed; PyTorch stores it as it is, so save the file again with torch.save";
            return Err(WeightsError::container(&file.path, name, reason));
        }
        Ok(span)
    }

    pub(super) fn read(
        &self,
        file: &WeightsFile,
        name: &str,
        most: u64,
    ) -> Result<Vec<u8>, WeightsError> {
        let (start, len) = self.stored(file, name)?;
        if len > most {
            let reason = format!("{len} bytes; expected at most {most}");
            return Err(WeightsError::container(&file.path, name, reason));
        }
        file.read_vec(start, len as usize)
    }
}
