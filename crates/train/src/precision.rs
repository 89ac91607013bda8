//! `--precision`: where numbers are narrow.

use std::str::FromStr;

use burn::tensor::{Device, FloatDType};
use openclip_eval::Encoder;
use openclip_model::device;
use openclip_model::factory::Loaded;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::guard::ScaleRule;

/// Where numbers are narrow. Norms, softmax, features and the loss are in f32 whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    Fp32,
    /// Parameters in f32, activations in bf16.
    AmpBf16,
    /// Parameters in f32, activations in f16; the gradient is scaled.
    AmpFp16,
    /// Parameters and activations in bf16.
    PureBf16,
    /// Parameters and activations in f16; not for training.
    PureFp16,
    /// Matrix products of transformers' blocks in 8 bits, everything else in f32; on the CPU, not for training.
    Int8,
}

impl FromStr for Precision {
    type Err = String;

    /// Any of OpenCLIP's names.
    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "fp32" => Self::Fp32,
            "amp" | "amp_bf16" | "amp_bfloat16" => Self::AmpBf16,
            "fp16" | "amp_fp16" | "amp_float16" => Self::AmpFp16,
            "bf16" | "pure_bf16" => Self::PureBf16,
            "pure_fp16" => Self::PureFp16,
            "int8" => Self::Int8,
            _ => {
                let names = "fp32, amp, amp_bf16, fp16, bf16, pure_bf16, pure_fp16 or int8";
                return Err(format!("expected {names}"));
            }
        })
    }
}

impl Precision {
    /// What training takes where none is asked for: bfloat16 activations on an accelerator that has such floats, as OpenCLIP does, and
    /// f32 on a processor, most of which are slower in bfloat16.
    pub fn of_device(device: &Device) -> Self {
        let is_fast = !device::is_processor(device) && device.supports_dtype(FloatDType::BF16);
        match is_fast {
            true => Self::AmpBf16,
            false => Self::Fp32,
        }
    }

    /// What suits the slowest of several devices.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn of_devices(names: &[String]) -> Result<Self, TrainError> {
        let mut found = Self::AmpBf16;
        for name in names {
            if Self::of_device(&device::parse(name)?) == Self::Fp32 {
                found = Self::Fp32;
            }
        }
        Ok(found)
    }

    /// The name that `--precision` knows it under.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::AmpBf16 => "amp_bf16",
            Self::AmpFp16 => "amp_fp16",
            Self::PureBf16 => "pure_bf16",
            Self::PureFp16 => "pure_fp16",
            Self::Int8 => "int8",
        }
    }

    /// Dtype of activations.
    pub fn compute(self) -> FloatDType {
        match self {
            Self::Fp32 | Self::Int8 => FloatDType::F32,
            Self::AmpBf16 | Self::PureBf16 => FloatDType::BF16,
            Self::AmpFp16 | Self::PureFp16 => FloatDType::F16,
        }
    }

    /// What feeds a model, computing in this.
    pub fn encoder(self, loaded: &Loaded, device: &Device) -> Encoder {
        let encoder = Encoder::of(loaded, device, self.compute());
        match self {
            Self::Int8 => encoder.in_8_bits(),
            _ => encoder,
        }
    }

    /// Dtype of the parameters, where it is not f32.
    pub fn parameters(self) -> Option<FloatDType> {
        match self {
            Self::PureBf16 | Self::PureFp16 => Some(self.compute()),
            Self::Fp32 | Self::AmpBf16 | Self::AmpFp16 | Self::Int8 => None,
        }
    }

    /// How the gradient is scaled: f16 holds nothing below 6e-8, where most gradients are.
    pub fn loss_scale(self) -> Option<ScaleRule> {
        (self == Self::AmpFp16).then(ScaleRule::default)
    }

    /// That fp32 is faster, on a device where it is.
    pub fn caution(self, device: &Device) -> Option<String> {
        let is_slow = self.compute() != FloatDType::F32 && device::is_processor(device);
        is_slow.then(|| {
            let name = self.name();
            format!("--precision {name}: there are no kernels of narrow floats for the CPU; fp32 is faster there")
        })
    }

    /// # Errors
    /// When the device has no such floats, or a model with such parameters cannot be trained.
    pub fn check(self, device: &Device, trains: bool) -> Result<(), TrainError> {
        let name = self.name();
        if !device.supports_dtype(self.compute()) {
            let float = match self.compute() {
                FloatDType::F16 => "float16",
                _ => "bfloat16",
            };
            let reason = format!("{name}: the device has no {float}; use fp32");
            return Err(TrainError::flag("--precision", reason));
        }
        if self == Self::Int8 && trains {
            let reason = format!("{name}: for inference; --int8-linear trains in 8 bits");
            return Err(TrainError::flag("--precision", reason));
        }
        if self == Self::Int8 && !device::has_8_bits(device) {
            let reason = format!("{name}: computed on the CPU alone; use fp16 or amp_bf16 here");
            return Err(TrainError::flag("--precision", reason));
        }
        if self == Self::PureFp16 && trains {
            let reason = format!(
                "{name}: the second moment of an optimizer is below what float16 holds; train with fp16 or pure_bf16"
            );
            return Err(TrainError::flag("--precision", reason));
        }
        Ok(())
    }
}
