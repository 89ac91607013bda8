//! The exchanges on tensors. They go through the memory of the host.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};

use super::Communicator;
use crate::TrainError;

/// Gradients go over in portions of about this many values (25 MiB), as PyTorch's buckets do.
const BUCKET: usize = 25 << 18;

/// Rows of every rank `[rows, width]` in f32, in the order of the ranks, on the same device.
///
/// # Errors
/// When a rank is lost or the device fails.
pub fn gather_rows(ranks: &dyn Communicator, rows: Tensor<2>) -> Result<Tensor<2>, TrainError> {
    if ranks.world_size() == 1 {
        return Ok(rows);
    }
    let ([_, width], device) = (rows.dims(), rows.device());
    let all = ranks.all_gather(bytemuck::cast_slice(&host(rows)?))?;
    let all: Vec<f32> = all
        .iter()
        .flat_map(|bytes| bytes.chunks_exact(4))
        .map(bytemuck::pod_read_unaligned)
        .collect();
    let shape = [all.len() / width.max(1), width];
    Ok(Tensor::from_data(
        TensorData::new(all, shape),
        (&device, DType::F32),
    ))
}

/// The sum over the ranks of a tensor in f32.
///
/// # Errors
/// When a rank is lost or the device fails.
pub fn sum<const D: usize>(
    ranks: &dyn Communicator,
    tensor: Tensor<D>,
) -> Result<Tensor<D>, TrainError> {
    if ranks.world_size() == 1 {
        return Ok(tensor);
    }
    let (shape, device) = (tensor.dims(), tensor.device());
    let mut values = host(tensor)?;
    ranks.all_reduce(&mut values)?;
    Ok(Tensor::from_data(
        TensorData::new(values, shape),
        (&device, DType::F32),
    ))
}

/// The sum over the ranks of every parameter's gradient.
///
/// # Errors
/// When a rank is lost or the device fails.
pub fn sum_gradients<M: Module>(
    ranks: &dyn Communicator,
    model: &M,
    gradients: GradientsParams,
) -> Result<GradientsParams, TrainError> {
    if ranks.world_size() == 1 {
        return Ok(gradients);
    }
    let mut pack = Pack {
        from: gradients,
        values: Vec::new(),
        failed: None,
    };
    model.visit(&mut pack);
    if let Some(error) = pack.failed {
        return Err(error);
    }
    let Pack {
        mut from,
        mut values,
        ..
    } = pack;
    for bucket in values.chunks_mut(BUCKET) {
        ranks.all_reduce(bucket)?;
    }
    let mut unpack = Unpack {
        shapes: &mut from,
        values: &values,
        to: GradientsParams::new(),
    };
    model.visit(&mut unpack);
    Ok(unpack.to)
}

/// Appends the gradients in the order of the model's parameters.
struct Pack {
    from: GradientsParams,
    values: Vec<f32>,
    failed: Option<TrainError>,
}

impl ModuleVisitor for Pack {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.get::<D>(param.id) {
            match host(gradient) {
                Ok(values) => self.values.extend(values),
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

/// The way back.
struct Unpack<'a> {
    shapes: &'a mut GradientsParams,
    values: &'a [f32],
    to: GradientsParams,
}

impl ModuleVisitor for Unpack<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(old) = self.shapes.remove::<D>(param.id) {
            let shape = old.shape();
            let (mine, rest) = self.values.split_at(shape.num_elements());
            self.values = rest;
            let data = TensorData::new(mine.to_vec(), shape);
            let new = Tensor::<D>::from_data(data, (&old.device(), DType::F32)).cast(old.dtype());
            self.to.register(param.id, new);
        }
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    Ok(openclip_eval::run::host(tensor.cast(DType::F32))?)
}
