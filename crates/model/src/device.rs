//! `--device` names and what they stand for.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::Device;

use crate::files::ModelError;

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

/// Turns `cpu`, `cuda[:N]`, `rocm[:N]`, `wgpu`, `vulkan`, `metal`, `tch`, `tch:cuda[:N]` or `auto` into a device.
///
/// `auto` takes the first backend of this build whose hardware answers. A device is touched before it is returned, so
/// that a missing driver is an error here and not a crash later.
pub fn parse(name: &str) -> Result<Device, ModelError> {
    if name == "auto" {
        let found = compiled().into_iter().find_map(|name| parse(name).ok());
        return found.ok_or_else(|| error(name, "no backend of this build has a usable device"));
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
    probe(name, || open(backend, index))?.ok_or_else(|| unknown(name, backend))
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

/// Runs one small operation; backends report a missing driver by panicking.
fn probe(name: &str, open: impl FnOnce() -> Option<Device>) -> Result<Option<Device>, ModelError> {
    let attempt = move || {
        let device = open()?;
        let one = burn::tensor::Tensor::<1>::ones([1], &device);
        let sum = one.sum().try_into_data().map(|_| ());
        Some((device, sum.err().map(|error| error.to_string())))
    };
    let result = quietly(attempt);
    match result {
        Ok(Some((_, Some(reason)))) => Err(error(name, reason)),
        Ok(found) => Ok(found.map(|(device, _)| device)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let first = text
                .and_then(|text| text.lines().next())
                .unwrap_or("no reason given");
            Err(error(
                name,
                format!("no such device, or its driver is not installed ({first})"),
            ))
        }
    }
}

/// Runs what may panic without a message on the terminal, since the panic is turned into an error. The hook is the process's, and is
/// set once, by whichever thread comes first.
fn quietly<T>(attempt: impl FnOnce() -> T) -> std::thread::Result<T> {
    static HOOK: Once = Once::new();
    static QUIET: AtomicUsize = AtomicUsize::new(0);
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A backend may panic on a thread of its own.
            if QUIET.load(Ordering::Relaxed) == 0 {
                before(panic);
            }
        }));
    });
    QUIET.fetch_add(1, Ordering::Relaxed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt));
    QUIET.fetch_sub(1, Ordering::Relaxed);
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
