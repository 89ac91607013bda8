//! A module's parameters under OpenCLIP's key names and in PyTorch's layouts.
//!
//! Field names follow the state dict, so a key is the path through the module. Three things differ: matrices of
//! linear layers are transposed, the scalars `logit_scale` and `logit_bias` have one axis here and none there, and the
//! text tower of a plain CLIP lives at the root there.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, FloatDType, Tensor, TensorData, TensorReadError};
use rayon::prelude::*;

use super::clip::Clip;
use crate::family::param::Layout;
use crate::files::{ModelError, weights};

pub use crate::family::ParamInfo;

/// Where a walk through a module stands.
#[derive(Debug, Default)]
pub(crate) struct Path {
    names: Vec<(String, bool, bool)>,
}

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        let in_linear = container == "Struct:Linear" && name == "weight";
        let transposed = in_linear || name == "in_proj_weight";
        let variant = container.starts_with("Enum:");
        // A word that no field can be called.
        let name = if name == "self_" { "self" } else { name };
        self.names.push((name.to_string(), variant, transposed));
    }

    pub(crate) fn exit(&mut self) {
        self.names.pop();
    }

    /// The key in a state dict; `custom_text` says whether the text tower has a prefix there.
    pub(crate) fn key(&self, custom_text: bool) -> String {
        let names = self.names.iter().filter(|(_, variant, _)| !variant);
        let path = names.map(|(name, ..)| name.as_str()).collect::<Vec<_>>();
        match path.split_first() {
            Some((&"text", rest)) if !custom_text => rest.join("."),
            _ => path.join("."),
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        match self.names.last() {
            Some((name, ..)) if name == "logit_scale" || name == "logit_bias" => Layout::Scalar,
            Some((_, _, true)) => Layout::Transposed,
            _ => Layout::Same,
        }
    }
}

/// Every parameter of `model`, in the order of its fields, without allocating any.
pub fn describe(model: &Clip) -> Vec<ParamInfo> {
    struct Describe {
        path: Path,
        custom_text: bool,
        found: Vec<ParamInfo>,
    }
    impl ModuleVisitor for Describe {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape: Vec<usize> = param.lazy_shape().iter().copied().collect();
            self.found.push(ParamInfo {
                key: self.path.key(self.custom_text),
                shape: self.path.layout().torch_shape(&shape),
                id: param.id,
            });
        }
    }
    let mut describe = Describe {
        path: Path::default(),
        custom_text: model.custom_text,
        found: Vec::new(),
    };
    model.visit(&mut describe);
    describe.found
}

/// A parameter's values for a state dict.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamValues {
    /// Key in OpenCLIP's state dict.
    pub key: String,
    /// Shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Values in PyTorch's layout, row-major.
    pub values: Vec<f32>,
    /// What they are on the device: `F32`, or one of the 16-bit floats.
    pub dtype: weights::DType,
}

/// What is exported in a parameter's place.
pub trait Pick {
    /// The tensor to copy, of the parameter's own shape; nothing leaves the parameter out.
    fn pick<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>>;

    /// Its values on the host, row-major.
    ///
    /// # Errors
    /// When the device does not hand them back.
    fn read<const D: usize>(&mut self, tensor: Tensor<D>) -> Result<Vec<f32>, TensorReadError> {
        tensor.try_into_vec_as()
    }
}

/// The parameters themselves.
struct Values;

impl Pick for Values {
    fn pick<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        Some(param.val())
    }
}

/// Copies every parameter of `model` to the host.
///
/// # Errors
/// [`ModelError::ReadBack`], naming the first one that the device does not hand back.
pub fn export(model: &Clip) -> Result<Vec<ParamValues>, ModelError> {
    export_with(model, &mut Values)
}

/// Copies what `pick` makes of each parameter (its gradient, say) to the host, under the parameter's key.
///
/// # Errors
/// As [`export`].
pub fn export_with<P: Pick>(model: &Clip, pick: &mut P) -> Result<Vec<ParamValues>, ModelError> {
    struct Export<'a, P> {
        path: Path,
        custom_text: bool,
        found: Result<Vec<ParamValues>, ModelError>,
        pick: &'a mut P,
    }
    impl<P: Pick> ModuleVisitor for Export<'_, P> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Ok(found) = &mut self.found else {
                return;
            };
            let Some(tensor) = self.pick.pick(param) else {
                return;
            };
            let shape = tensor.dims();
            let dtype = match tensor.dtype() {
                DType::F16 => weights::DType::F16,
                DType::BF16 => weights::DType::BF16,
                _ => weights::DType::F32,
            };
            let key = self.path.key(self.custom_text);
            let layout = self.path.layout();
            match self.pick.read(tensor) {
                Ok(values) => found.push(ParamValues {
                    key,
                    shape: layout.torch_shape(&shape),
                    values: match layout {
                        Layout::Transposed => transpose(&values, shape[0], shape[1]),
                        _ => values,
                    },
                    dtype,
                }),
                Err(error) => {
                    let reason = error.to_string();
                    self.found = Err(ModelError::ReadBack { key, reason });
                }
            }
        }
    }
    let mut export = Export {
        path: Path::default(),
        custom_text: model.custom_text,
        found: Ok(Vec::new()),
        pick,
    };
    model.visit(&mut export);
    export.found
}

/// Gives parameters of `model` the values that `values` returns for their key and PyTorch shape, row-major.
///
/// A parameter for which it returns `None` keeps its value. Every parameter gets an identity that depends on its key
/// alone, so that an optimizer's state finds its parameter again in another process.
pub fn assign(model: Clip, mut values: impl FnMut(&str, &[usize]) -> Option<Vec<f32>>) -> Clip {
    type Source<'a> = dyn FnMut(&str, &[usize]) -> Option<Vec<f32>> + 'a;
    struct Assign<'a> {
        path: Path,
        custom_text: bool,
        values: &'a mut Source<'a>,
    }
    impl ModuleMapper for Assign<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let key = self.path.key(self.custom_text);
            let layout = self.path.layout();
            let shape: Vec<usize> = param.lazy_shape().iter().copied().collect();
            let id = stable_id(&key);
            match (self.values)(&key, &layout.torch_shape(&shape)) {
                None => {
                    let (_, value, mapper) = param.consume();
                    Param::from_mapped_value(id, value, mapper)
                }
                Some(values) => {
                    let values = match layout {
                        Layout::Transposed => transpose(&values, shape[1], shape[0]),
                        _ => values,
                    };
                    let device = param.lazy_device();
                    let data = TensorData::new(values, shape);
                    let value = Tensor::from_data(data, (&device, DType::F32));
                    param.transform_for_load(value, id)
                }
            }
        }
    }
    let custom_text = model.custom_text;
    model.map(&mut Assign {
        path: Path::default(),
        custom_text,
        values: &mut values,
    })
}

/// Casts every parameter, for the `pure_*` precisions.
pub fn cast(model: Clip, dtype: FloatDType) -> Clip {
    struct Cast(FloatDType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let id = param.id;
            let value = param.val();
            let autodiff = value.is_autodiff();
            // Off the graph: a parameter has to be a leaf.
            let value = value.inner().cast(self.0);
            let value = if autodiff {
                Tensor::from_inner(value)
            } else {
                value
            };
            param.transform_for_load(value, id)
        }
    }
    model.map(&mut Cast(dtype))
}

/// FNV-1a over the key.
fn stable_id(key: &str) -> ParamId {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ParamId::from(hash)
}

/// `[rows, columns]` → `[columns, rows]`, row-major both.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    if values.is_empty() {
        return out;
    }
    out.par_chunks_mut(TILE * rows)
        .enumerate()
        .for_each(|(tile, out)| {
            let first = tile * TILE;
            for top in (0..rows).step_by(TILE) {
                for column in 0..out.len() / rows {
                    for row in top..rows.min(top + TILE) {
                        out[column * rows + row] = values[row * columns + first + column];
                    }
                }
            }
        });
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Half a model must not pass for one.
    #[test]
    fn a_tensor_that_the_device_keeps_is_an_error_and_not_left_out() {
        struct Lost(usize);
        impl Pick for Lost {
            fn pick<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
                Values.pick(param)
            }
            fn read<const D: usize>(
                &mut self,
                tensor: Tensor<D>,
            ) -> Result<Vec<f32>, TensorReadError> {
                let lost = TensorReadError::InvalidShape {
                    expected: 1,
                    actual: 0,
                };
                self.0 = self.0.checked_sub(1).ok_or(lost)?;
                tensor.try_into_vec_as()
            }
        }
        let config = serde_json::json!({
            "embed_dim": 4,
            "vision_cfg": {"image_size": 8, "patch_size": 8, "width": 8, "head_width": 8, "layers": 1},
            "text_cfg": {"context_length": 4, "vocab_size": 6, "width": 8, "heads": 1, "layers": 1}
        });
        let config = serde_json::from_value(config).unwrap();
        let model = Clip::new(&config, &burn::tensor::Device::default()).unwrap();
        let keys: Vec<String> = describe(&model)
            .into_iter()
            .map(|param| param.key)
            .collect();
        for (lost, key) in keys.iter().enumerate() {
            let error = export_with(&model, &mut Lost(lost)).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{key}: ")),
                "{error}"
            );
        }
        let whole = export_with(&model, &mut Lost(keys.len())).unwrap();
        assert_eq!(whole.len(), keys.len());
    }

    #[test]
    fn transpose_of_odd_shapes() {
        for (rows, columns) in [(1, 1), (3, 5), (33, 70), (64, 31)] {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let turned = transpose(&values, rows, columns);
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(turned[column * rows + row], values[row * columns + column]);
                }
            }
        }
    }
}
