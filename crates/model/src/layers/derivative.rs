//! Functions of tensors whose derivative is written by hand.
//!
//! [`differentiable`] takes the value of a function, computed off the graph, and a closure that turns the gradient of that value
//! into the gradients of the inputs. It becomes one node of Burn's autodiff graph, on whichever backend the tensors are.
//!
//! A backward closure may build and run a graph of its own, as [`crate::layers::Recompute`] does: Burn locks each graph by
//! itself.

use std::fmt;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, BackendTensor, DispatchAutodiffContext, DispatchKindConversion,
    DispatchTensor, DispatchTensorKind, GradientCheckpointingStrategy,
};
use burn::tensor::Tensor;

/// A float tensor of any rank: what a function is differentiated by, or the gradient of that.
#[derive(Debug, Clone)]
pub struct Value {
    tensor: DispatchTensor,
    tracked: bool,
}

impl<const D: usize> From<Tensor<D>> for Value {
    fn from(tensor: Tensor<D>) -> Self {
        Self {
            tracked: tensor.is_tracked(),
            tensor: tensor.into_dispatch(),
        }
    }
}

impl Value {
    /// Whether a gradient of it is wanted.
    pub fn is_tracked(&self) -> bool {
        self.tracked
    }
}

/// Whether a tensor is on a backend of CubeCL's: cuda, rocm, wgpu, vulkan or metal.
pub fn is_on_cube<const D: usize>(tensor: &Tensor<D>) -> bool {
    match tensor.clone().inner().into_dispatch().kind {
        #[cfg(any(
            feature = "cuda",
            feature = "rocm",
            feature = "wgpu",
            feature = "vulkan",
            feature = "metal"
        ))]
        DispatchTensorKind::Cube(_) => true,
        _ => false,
    }
}

/// From the gradient of the output to those of the inputs, in their order; `None` for no gradient. All off the graph.
type Gradient = Box<dyn FnOnce(DispatchTensor) -> Vec<Option<Value>> + Send>;

/// Most tracked inputs of a node.
pub const MOST_INPUTS: usize = 40;

/// `output`, computed off the graph, as a function of `inputs`.
///
/// `backward` gets the gradient of the output and returns one gradient for each input, of that input's shape, both off the
/// graph. It is never called where no input is tracked, in which case `output` comes back as it is, on
/// the device of the inputs. At most [`MOST_INPUTS`] may be tracked, which who builds the inputs sees to.
pub fn differentiable<const D: usize>(
    inputs: Vec<Value>,
    output: Tensor<D>,
    backward: impl FnOnce(Tensor<D>) -> Vec<Option<Value>> + Send + 'static,
) -> Tensor<D> {
    let output = output.inner();
    let wanted: Vec<bool> = inputs.iter().map(Value::is_tracked).collect();
    let autodiff = |input: &Value| input.tensor.autodiff != DispatchAutodiffContext::Disabled;
    let autodiff = inputs.iter().any(autodiff);
    let tracked: Vec<_> = inputs.into_iter().filter(Value::is_tracked).collect();
    let Some(DispatchAutodiffContext::Enabled(strategy)) =
        tracked.first().map(|input| input.tensor.autodiff)
    else {
        return match autodiff {
            true => Tensor::from_inner(output),
            false => output,
        };
    };
    let gradient: Gradient = Box::new(move |gradient| {
        let found = backward(Tensor::from_dispatch(gradient));
        let found = found.into_iter().zip(wanted);
        found
            .filter_map(|(gradient, wanted)| wanted.then_some(gradient))
            .collect()
    });
    let tracked = tracked.into_iter().map(|input| input.tensor).collect();
    Tensor::from_dispatch(on_backend(
        strategy,
        tracked,
        output.into_dispatch(),
        gradient,
    ))
}

/// One node of Burn's graph.
struct Node(Gradient);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("derivative::Node")
    }
}

impl<B: Backend, const N: usize> Backward<B, N> for Node
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = ();

    fn backward(self, ops: Ops<(), N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = BackendTensor::Float(grads.consume::<B>(&ops.node));
        let gradient = <DispatchTensor as DispatchKindConversion<B>>::from_backend(gradient);
        let gradients = self.0(gradient);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, primitive::<B>(gradient.tensor));
            }
        }
    }
}

fn primitive<B: Backend>(tensor: DispatchTensor) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    match <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor) {
        Ok(BackendTensor::Float(tensor)) => tensor,
        Ok(other) => unreachable!("{} in place of a float tensor", other.name()),
        Err(reason) => unreachable!("{reason}"),
    }
}

fn on_backend(
    strategy: GradientCheckpointingStrategy,
    inputs: Vec<DispatchTensor>,
    output: DispatchTensor,
    gradient: Gradient,
) -> DispatchTensor {
    macro_rules! on {
        ($backend:ty) => {
            match strategy {
                GradientCheckpointingStrategy::Disabled => {
                    record::<$backend, NoCheckpointing>(inputs, output, gradient)
                }
                GradientCheckpointingStrategy::Balanced => {
                    record::<$backend, BalancedCheckpointing>(inputs, output, gradient)
                }
            }
        };
    }
    match &output.kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => on!(burn::backend::Flex),
        #[cfg(any(
            feature = "cuda",
            feature = "rocm",
            feature = "wgpu",
            feature = "vulkan",
            feature = "metal"
        ))]
        DispatchTensorKind::Cube(_) => on!(burn::backend::Cube),
        #[cfg(feature = "tch")]
        #[allow(deprecated)]
        DispatchTensorKind::LibTorch(_) => on!(burn::backend::LibTorch),
        #[allow(unreachable_patterns)]
        _ => unreachable!("a backend that no feature of this crate compiles in"),
    }
}

/// Puts the node on the graph.
fn record<B: Backend, C: CheckpointStrategy>(
    inputs: Vec<DispatchTensor>,
    output: DispatchTensor,
    gradient: Gradient,
) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let inputs = inputs.into_iter();
    let guards: Vec<NodeGuard> = inputs
        .map(|input| primitive::<Autodiff<B, C>>(input).node())
        .collect();
    let output = primitive::<B>(output);
    // Burn wants the number of inputs as a constant.
    macro_rules! by_count {
        ($($count:literal)*) => {
            match guards.len() {
                $($count => prepare::<B, C, $count>(guards, output, gradient),)*
                more => unreachable!("{more} inputs, more than {MOST_INPUTS}"),
            }
        };
    }
    let output = by_count!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40);
    let output = BackendTensor::Float(output);
    <DispatchTensor as DispatchKindConversion<Autodiff<B, C>>>::from_backend(output)
}

fn prepare<B: Backend, C: CheckpointStrategy, const N: usize>(
    guards: Vec<NodeGuard>,
    output: FloatTensor<B>,
    gradient: Gradient,
) -> FloatTensor<Autodiff<B, C>>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    match <[NodeGuard; N]>::try_from(guards) {
        Ok(guards) => Backward::<B, N>::prepare::<C>(Node(gradient), guards)
            .compute_bound()
            .stateless(output),
        Err(guards) => unreachable!("{} guards for {N} inputs", guards.len()),
    }
}
