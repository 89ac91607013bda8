//! `--device` names and what they stand for.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor};

use crate::files::ModelError;
use crate::panics;

/// Backends that this build contains, by the name `--device` knows them under.
pub fn compiled() -> Vec<&'static str> {
    [
        ("cuda", cfg!(feature = "cuda")),
        ("rocm", cfg!(feature = "rocm")),
        ("metal", cfg!(feature = "metal")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("tch", cfg!(feature = "tch")),
        ("cpu", cfg!(feature = "flex")),
    ]
    .into_iter()
    .filter_map(|(name, built)| built.then_some(name))
    .collect()
}

/// Whether tensors of `device` lie in this process's memory, in the `flex` backend.
#[cfg(feature = "flex")]
pub(crate) fn is_flex(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// Whether tensors of `device` lie in this process's memory, in the `flex` backend.
#[cfg(not(feature = "flex"))]
pub(crate) fn is_flex(_: &Device) -> bool {
    false
}

/// Whether operations on `x` are recorded, for a batch of any size, and not computed.
pub(crate) fn is_recorded<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(feature = "onnx")]
    let is_recorded = x
        .clone()
        .try_into_primitive::<burn::backend::Capture>()
        .is_ok();
    #[cfg(not(feature = "onnx"))]
    let is_recorded = {
        let _ = x;
        false
    };
    is_recorded
}

/// Whether models on `device` can be computed in 8 bits ([`crate::Clip::in_8_bits`]).
pub fn has_8_bits(device: &Device) -> bool {
    is_flex(device)
}

/// Whether `device` computes on the processor and not on an accelerator.
pub fn is_processor(device: &Device) -> bool {
    #[cfg(feature = "tch")]
    #[allow(deprecated)]
    if device.clone().inner() == Device::libtorch() {
        return true;
    }
    is_flex(device)
}

/// Turns `cpu`, `cuda[:N]`, `rocm[:N]`, `wgpu`, `vulkan`, `metal`, `tch`, `tch:cuda[:N]` or `auto` into a device.
///
/// `auto` takes the first backend of this build whose hardware answers. A device is touched before it is returned, so
/// that a missing driver is an error here and not a crash later.
pub fn parse(name: &str) -> Result<Device, ModelError> {
    if name == "auto" {
        return automatic();
    }
    let (backend, index) = match name.rsplit_once(':') {
        Some((backend, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let index = digits
                .parse()
                .map_err(|_| error(name, "not a device number"))?;
            (backend, index)
        }
        _ => (name, 0),
    };
    if let Some(count) = quietly(|| count(backend)).ok().flatten()
        && index >= count
    {
        return Err(absent(name, backend, count));
    }
    match quietly(|| open(backend, index).map(touch)) {
        Ok(None) => Err(unknown(name, backend)),
        Ok(Some(Ok(device))) => Ok(device),
        Ok(Some(Err(reason))) => Err(silent(name, backend, &reason)),
        Err(panic) => {
            let text = panics::message(panic.as_ref()).unwrap_or("no reason given");
            Err(silent(name, backend, text))
        }
    }
}

/// The first backend of this build that answers. Which ones did not is told, since another device than the one that a build is made for
/// is slower by orders of magnitude.
fn automatic() -> Result<Device, ModelError> {
    let mut without = Vec::new();
    for name in compiled() {
        match parse(name) {
            Ok(device) => {
                for error in without {
                    log::info!("{error}; taking {name}");
                }
                return Ok(device);
            }
            Err(error) => without.push(error),
        }
    }
    let reasons: Vec<_> = without.iter().map(ToString::to_string).collect();
    let reasons = reasons.join("; ");
    Err(error(
        "auto",
        format!("no backend of this build has a usable device: {reasons}"),
    ))
}

/// The devices of `cuda:0,1,2,3`, `cpu,cpu` or a single name; a number alone is one of the backend before it.
pub fn list(names: &str) -> Vec<String> {
    let mut devices: Vec<String> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let backend = devices
            .last()
            .and_then(|last| last.rsplit_once(':'))
            .filter(|_| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()));
        devices.push(match backend {
            Some((backend, _)) => format!("{backend}:{name}"),
            None => name.to_owned(),
        });
    }
    devices
}

/// The device of process `local_rank` of a node: `cuda`, `rocm` and `tch:cuda` without a number take the process's.
pub fn local(name: &str, local_rank: usize) -> String {
    match name {
        "cuda" | "rocm" | "tch:cuda" => format!("{name}:{local_rank}"),
        "auto" => {
            let numbered = ["cuda", "rocm"].map(|name| local(name, local_rank));
            let found = numbered.into_iter().find(|name| parse(name).is_ok());
            found.unwrap_or_else(|| name.to_owned())
        }
        _ => name.to_owned(),
    }
}

#[allow(deprecated, unused_variables)]
fn open(backend: &str, index: usize) -> Option<Device> {
    match backend {
        #[cfg(feature = "flex")]
        "cpu" | "flex" => Some(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Some(Device::cuda(index)),
        #[cfg(feature = "rocm")]
        "rocm" => Some(Device::rocm(index)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(Device::wgpu(Default::default())),
        #[cfg(feature = "vulkan")]
        "vulkan" => Some(Device::vulkan(Default::default())),
        #[cfg(feature = "metal")]
        "metal" => Some(Device::metal(Default::default())),
        #[cfg(feature = "tch")]
        "tch" => Some(Device::libtorch()),
        #[cfg(feature = "tch")]
        "tch:cuda" => Some(Device::libtorch_cuda(index)),
        _ => None,
    }
}

/// How many devices a backend whose devices are numbered finds; none where their driver is missing.
#[allow(clippy::match_single_binding, unused_variables)]
fn count(backend: &str) -> Option<usize> {
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => Some(Device::enumerate(burn::tensor::DeviceType::Cuda).len()),
        #[cfg(feature = "rocm")]
        "rocm" => Some(Device::enumerate(burn::tensor::DeviceType::Rocm).len()),
        _ => None,
    }
}

/// Runs one small operation, which finds a driver that is missing, or only half there.
fn touch(device: Device) -> Result<Device, String> {
    let one = burn::tensor::Tensor::<1>::ones([1], &device);
    match one.sum().try_into_data() {
        Ok(_) => Ok(device),
        Err(error) => Err(error.to_string()),
    }
}

/// The device with that number is not there.
fn absent(name: &str, backend: &str, count: usize) -> ModelError {
    let reason = match count {
        0 => format!("no such device was found; {}", driver(backend)),
        1 => format!("this machine has one device, {backend}:0"),
        _ => format!("this machine has {backend}:0 to {backend}:{}", count - 1),
    };
    error(name, reason)
}

/// The device does not compute.
fn silent(name: &str, backend: &str, reason: &str) -> ModelError {
    // CubeCL compiles its kernels with a library that the driver does not bring along.
    if backend == "cuda" && reason.contains("nvrtc") {
        return error(
            name,
            "NVRTC (libnvrtc.so), which compiles the kernels, was not found: install the CUDA toolkit or the package \
             nvidia-cuda-nvrtc, and name its library folder in LD_LIBRARY_PATH",
        );
    }
    let reason = reason.lines().next().unwrap_or_default();
    error(name, format!("{} ({reason})", driver(backend)))
}

/// What a backend needs on the machine.
fn driver(backend: &str) -> &'static str {
    match backend {
        "cuda" => "it needs NVIDIA's driver (libcuda.so.1)",
        "rocm" => "it needs AMD's ROCm runtime (libamdhip64.so)",
        "wgpu" | "vulkan" => "it needs a graphics adapter and its Vulkan driver",
        "metal" => "it needs a GPU that macOS offers through Metal",
        "tch" | "tch:cuda" => "it needs LibTorch's libraries, and for tch:cuda NVIDIA's driver",
        _ => "the device does not answer",
    }
}

/// Runs what may panic without a message on the terminal, of the panic or in the log, since the panic is turned into an error. The level of
/// the log is the process's, so one thread does this at a time.
fn quietly<T>(attempt: impl FnOnce() -> T) -> std::thread::Result<T> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Off);
    // A backend may panic on a thread of its own.
    let result = panics::caught_everywhere(attempt);
    log::set_max_level(level);
    result
}

fn unknown(name: &str, backend: &str) -> ModelError {
    let feature = match backend {
        "cpu" | "flex" => "flex",
        "cuda" | "rocm" | "wgpu" | "vulkan" | "metal" | "tch" => backend,
        "tch:cuda" => "tch",
        _ => {
            return error(
                name,
                "expected cpu, cuda[:N], rocm[:N], wgpu, vulkan, metal, tch, tch:cuda[:N] or auto",
            );
        }
    };
    error(
        name,
        format!(
            "not part of this build, which has {}; build with `--features {feature}`",
            compiled().join(", ")
        ),
    )
}

fn error(device: &str, reason: impl Into<String>) -> ModelError {
    ModelError::Device {
        device: device.to_string(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CubeCL says where NVRTC, or the driver, cannot be loaded (0.11.3, through Burn's fusion).
    #[test]
    fn a_missing_library_is_named_in_one_line() {
        let reason = "Execution error: the fusion server failed to run a task: CallError(\"Unable to dynamically load the \\\"nvrtc\\\" \
                      shared library\")\nbacktrace";
        let text = silent("cuda:1", "cuda", reason).to_string();
        assert!(
            text.contains("NVRTC") && !text.contains("fusion") && !text.contains('\n'),
            "{text}"
        );
        let text = absent("cuda", "cuda", 0).to_string();
        assert!(text.contains("libcuda.so.1"), "{text}");
        let text = absent("cuda:4", "cuda", 4).to_string();
        assert!(
            text.ends_with("this machine has cuda:0 to cuda:3"),
            "{text}"
        );
    }
}
