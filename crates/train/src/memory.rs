//! How much memory a run takes.

use std::{fmt, fs};

use burn::tensor::Device;

/// Bytes in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// The most that the process has had resident; unknown where there is no `/proc`.
    pub host_peak: Option<u64>,
    /// What the device has reserved now; unknown where the backend does not tell.
    pub device: Option<u64>,
}

impl MemoryUse {
    /// As of now.
    pub fn now(device: &Device) -> Self {
        Self {
            host_peak: host_peak(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
            device: device.memory_pool_usage().map(|usage| usage.bytes_reserved),
        }
    }

    /// Names in TensorBoard with sizes in GiB.
    pub fn scalars(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let named = [
            ("train/host_memory_peak_gib", self.host_peak),
            ("train/device_memory_gib", self.device),
        ];
        named
            .into_iter()
            .filter_map(|(name, bytes)| Some((name, gib(bytes?))))
    }
}

/// For the console: `1.25 GiB, device 0.80 GiB`.
impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_peak {
            Some(bytes) => write!(f, "{:.2} GiB", gib(bytes))?,
            None => f.write_str("?")?,
        }
        match self.device {
            Some(bytes) => write!(f, ", device {:.2} GiB", gib(bytes)),
            None => Ok(()),
        }
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

/// `VmHWM` of Linux, which counts in KiB whatever it says.
fn host_peak(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::host_peak;

    #[test]
    fn the_peak_is_read_from_the_status() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(host_peak(status), Some(2 << 20));
        assert_eq!(host_peak("Name:\tx\n"), None);
    }
}
