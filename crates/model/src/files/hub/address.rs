//! One file of a plain address, as OpenCLIP's `download_pretrained_from_url` gets it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::attempt::{Bar, Pulse, classify, classify_copy, lock, patience, repeat, sha256};
use super::cache::is_offline;
use super::error::Failure;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);

/// The start of the file's sha256, where the publisher writes it into the address: OpenAI as a folder, OpenCLIP behind the name's
/// last hyphen.
fn expected(url: &str) -> Option<&str> {
    let mut parts = url.rsplit('/');
    let (name, folder) = (parts.next()?, parts.next()?);
    let checksum = if url.contains("openaipublic") {
        folder
    } else if url.contains("mlfoundations") {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        stem.rsplit('-').next()?
    } else {
        return None;
    };
    let is_checksum = checksum.len() >= 8 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_checksum.then_some(checksum)
}

/// The name of the file at an address.
fn name(url: &str) -> Option<&str> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (_, path) = url[..end].split_once("://")?;
    let name = path.split_once('/')?.1.rsplit('/').next()?;
    let is_plain = |c: char| !c.is_control() && !"\\:".contains(c);
    (!name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain)).then_some(name)
}

/// Downloads a file into `dir`, unless it is there.
pub(super) fn fetch(url: &str, dir: &Path) -> Result<PathBuf, Failure> {
    let name = name(url).ok_or_else(|| Failure::Final("the address names no file".into()))?;
    let target = dir.join(name);
    if is_there(&target, expected(url))? {
        return Ok(target);
    }
    if is_offline() {
        return Err(Failure::Final("HF_HUB_OFFLINE is set".into()));
    }
    let _lock = lock(&dir.join(format!("{name}.lock")), url)?;
    if is_there(&target, expected(url))? {
        return Ok(target);
    }
    let part = target.with_file_name(format!("{name}.part"));
    if expected(url).is_none() && part.is_file() {
        // It may be another address's, and nothing would tell.
        fs::remove_file(&part).map_err(|error| Failure::Io(part.clone(), error))?;
    }
    repeat(url, || attempt(url, name, &part, &target))?;
    Ok(target)
}

fn is_there(target: &Path, expected: Option<&str>) -> Result<bool, Failure> {
    match expected {
        _ if !target.is_file() => Ok(false),
        None => Ok(true),
        Some(expected) => {
            let fits = sha256(target)?.starts_with(expected);
            if !fits {
                let path = target.display();
                log::warn!("{path} has another checksum than {expected}; downloading it again");
            }
            Ok(fits)
        }
    }
}

fn attempt(url: &str, name: &str, part: &Path, target: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Io(part.to_path_buf(), error);
    let begun = fs::metadata(part).map_or(0, |part| part.len());
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .user_agent(concat!("openclip/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(patience()))
        .timeout_per_read(Some(patience()))
        .build()
        .into();
    let mut request = agent.get(url);
    if begun > 0 {
        request = request.header("Range", format!("bytes={begun}-"));
    }
    let response = request.call().map_err(|error| {
        if let ureq::Error::StatusCode(416) = error {
            // All of it is there, or more.
            let _ = fs::remove_file(part);
        }
        classify(error)
    })?;
    let resumed = begun > 0 && response.status() == 206;
    let start = if resumed { begun } else { 0 };
    let body = response.into_body();
    let total = body.content_length().map(|length| length + start);
    if start == 0 {
        log::info!("downloading {url} to {}", target.display());
    }
    let mut options = File::options();
    let options = options.create(true).write(true).append(resumed);
    let mut file = options.truncate(!resumed).open(part).map_err(failed)?;
    let mut bar = Bar::new(Pulse::default());
    bar.start(name, total);
    bar.advance(start);
    let (mut reader, mut buffer) = (body.into_reader(), vec![0; 1 << 16]);
    loop {
        let count = reader
            .read(&mut buffer)
            .map_err(|error| classify_copy(part, error))?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(failed)?;
        bar.advance(count as u64);
    }
    file.sync_all().map_err(failed)?;
    drop((file, bar));
    if let Some(expected) = expected(url) {
        let found = sha256(part)?;
        if !found.starts_with(expected) {
            fs::remove_file(part).map_err(failed)?;
            return Err(match resumed {
                true => Failure::Transient("the resumed download is damaged".into()),
                false => Failure::Checksum {
                    expected: format!("{expected}…"),
                    found,
                },
            });
        }
    }
    fs::rename(part, target).map_err(|error| Failure::Io(target.to_path_buf(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_stand_in_some_addresses() {
        let openai = "https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c/ViT-B-32.pt";
        assert_eq!(expected(openai), Some("40d365715913c9da98579312b702a82c"));
        let own = "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/rn50-quickgelu-cc12m-f000538c.pt";
        assert_eq!(expected(own), Some("f000538c"));
        assert_eq!(
            expected("https://dl.fbaipublicfiles.com/MMPT/metaclip/b32_400m.pt"),
            None
        );
    }

    #[test]
    fn a_name_is_the_last_part_of_the_path() {
        assert_eq!(name("https://host/a/b.pt?x=/y#z"), Some("b.pt"));
        for wrong in ["https://host", "https://host/", "https://host/a/..", "b.pt"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }
}
