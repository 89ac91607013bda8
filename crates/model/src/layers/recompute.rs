//! Blocks that keep nothing for the backward pass but their input, and are computed again there (Chen et al. 2016,
//! <https://arxiv.org/abs/1604.06174>; PyTorch's `checkpoint`).

use std::cell::Cell;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::layers::derivative::{Value, differentiable};

/// Whether a tower's blocks are computed again in the backward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recompute(pub bool);

impl Recompute {
    /// `forward(module, inputs)`, computed again in the backward pass where `self` says so and a gradient is wanted.
    ///
    /// `forward` has to compute the same each time: what is random in it needs a seed. Tensors that it captures are constants.
    pub fn block<M, const K: usize, const D: usize>(
        self,
        module: &M,
        inputs: [Tensor<D>; K],
        forward: impl Fn(&M, [Tensor<D>; K]) -> Tensor<D> + Send + 'static,
    ) -> Tensor<D>
    where
        M: Module + Send + 'static,
    {
        if !self.0 {
            return forward(module, inputs);
        }
        let mut values: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
        let mut parameters = Parameters(Vec::new());
        module.visit(&mut parameters);
        values.append(&mut parameters.0);
        if !values.iter().any(Value::is_tracked) {
            return forward(module, inputs);
        }
        let (module, inputs) = (module.valid(), inputs.map(|x| (x.is_tracked(), x.inner())));
        // As constants of the autodiff backend: without it, attention would take another kernel than in the backward pass.
        let constants = inputs
            .each_ref()
            .map(|(_, x)| Tensor::from_inner(x.clone()));
        let output = forward(&module.clone().freeze().train(), constants);
        differentiable(values, output, move |gradient| {
            let module = module.train();
            let leaves = inputs.map(|(tracked, x)| Tensor::from_inner(x).set_require_grad(tracked));
            let output = repeated(|| forward(&module, leaves.clone()));
            let product = output * Tensor::from_inner(gradient);
            let mut gradients = product.sum().backward();
            let found = leaves.iter().map(|leaf| take(leaf, &mut gradients));
            let found = found.collect();
            let mut parameters = ParameterGradients(&mut gradients, found);
            module.visit(&mut parameters);
            parameters.1
        })
    }
}

thread_local! {
    static REPEATED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread computes a block again, whose first pass has left its statistics already.
pub(super) fn is_repeated() -> bool {
    REPEATED.get()
}

fn repeated<T>(pass: impl FnOnce() -> T) -> T {
    /// Ends the repetition, also when a lost rank unwinds.
    struct Until(bool);
    impl Drop for Until {
        fn drop(&mut self) {
            REPEATED.set(self.0);
        }
    }
    let _until = Until(REPEATED.replace(true));
    pass()
}

fn take<const D: usize>(leaf: &Tensor<D>, gradients: &mut Gradients) -> Option<Value> {
    leaf.is_tracked()
        .then(|| leaf.grad_remove(gradients))
        .flatten()
        .map(Value::from)
}

struct Parameters(Vec<Value>);

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.val().into());
    }
}

struct ParameterGradients<'a>(&'a mut Gradients, Vec<Option<Value>>);

impl ModuleVisitor for ParameterGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.1.push(take(&param.val(), self.0));
    }
}
