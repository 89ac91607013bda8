//! The exchanges on tensors. They go through the memory of the host.

use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};

use super::Communicator;
use crate::TrainError;

/// Gradients of at least so many values (1 MiB) are exchanged by themselves, smaller ones together.
const LARGE: usize = 1 << 18;

/// Rows of every rank `[rows, width]` in f32, in the order of the ranks, on the same device; and which of them are this rank's.
///
/// # Errors
/// When a rank is lost or the device fails.
pub fn gather_rows(
    ranks: &dyn Communicator,
    rows: Tensor<2>,
) -> Result<(Tensor<2>, Range<usize>), TrainError> {
    let ([own, width], device) = (rows.dims(), rows.device());
    if ranks.world_size() == 1 {
        return Ok((rows, 0..own));
    }
    let all = ranks.all_gather(bytemuck::cast_slice(&host(rows)?))?;
    let before: usize = all.iter().take(ranks.rank()).map(Vec::len).sum();
    let first = before / (4 * width.max(1));
    let all: Vec<f32> = all
        .iter()
        .flat_map(|bytes| bytes.chunks_exact(4))
        .map(bytemuck::pod_read_unaligned)
        .collect();
    let shape = [all.len() / width.max(1), width];
    let all = Tensor::from_data(TensorData::new(all, shape), (&device, DType::F32));
    Ok((all, first..first + own))
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

/// Moves the gradients of a module's parameters to `to`, each as its sum over the ranks.
///
/// # Errors
/// When a rank is lost or the device fails.
pub fn sum_gradients<M: Module>(
    ranks: &dyn Communicator,
    module: &M,
    from: &mut GradientsParams,
    to: &mut GradientsParams,
) -> Result<(), TrainError> {
    let mut large = Large {
        ranks,
        from,
        to,
        small: Vec::new(),
        failed: None,
    };
    module.visit(&mut large);
    let Large {
        from,
        to,
        mut small,
        failed,
        ..
    } = large;
    failed.map_or(Ok(()), Err)?;
    ranks.all_reduce(&mut small)?;
    let values = &small;
    module.visit(&mut Small { from, to, values });
    Ok(())
}

/// The same on another thread while this one does `work`, which exchanges nothing.
///
/// # Errors
/// When a rank is lost or the device fails.
pub fn sum_gradients_during<M: Module + Sync, T>(
    ranks: &dyn Communicator,
    module: &M,
    from: &mut GradientsParams,
    to: &mut GradientsParams,
    work: impl FnOnce() -> T,
) -> Result<T, TrainError> {
    std::thread::scope(|scope| {
        let exchange = scope.spawn(|| sum_gradients(ranks, module, from, to));
        let done = work();
        let exchanged = exchange.join();
        exchanged.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(done)
    })
}

/// Sums large gradients and collects small ones, in the order of the model's parameters.
struct Large<'a> {
    ranks: &'a dyn Communicator,
    from: &'a mut GradientsParams,
    to: &'a mut GradientsParams,
    small: Vec<f32>,
    failed: Option<TrainError>,
}

impl ModuleVisitor for Large<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.from.remove::<D>(param.id) else {
            return;
        };
        if self.failed.is_some() {
            return;
        }
        if gradient.shape().num_elements() >= LARGE {
            let dtype = gradient.dtype();
            match sum(self.ranks, gradient.cast(DType::F32)) {
                Ok(sum) => self.to.register(param.id, sum.cast(dtype)),
                Err(error) => self.failed = Some(error),
            }
            return;
        }
        match host(gradient.clone()) {
            Ok(values) => self.small.extend(values),
            Err(error) => self.failed = Some(error),
        }
        self.from.register(param.id, gradient);
    }
}

/// Takes the sums of the small ones in the same order.
struct Small<'a> {
    from: &'a mut GradientsParams,
    to: &'a mut GradientsParams,
    values: &'a [f32],
}

impl ModuleVisitor for Small<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(old) = self.from.remove::<D>(param.id) {
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
