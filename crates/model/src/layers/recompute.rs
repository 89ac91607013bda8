//! Blocks that keep nothing for the backward pass but their input, and are computed again there (Chen et al. 2016,
//! <https://arxiv.org/abs/1604.06174>; PyTorch's `checkpoint`).

use std::cell::Cell;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::files::ModelError;
use crate::layers::derivative::{MOST_INPUTS, Value, differentiable};

/// Whether a tower's blocks are computed again in the backward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recompute(bool);

impl Recompute {
    /// Of a tower with these blocks, each a function of `inputs` tensors and its parameters.
    ///
    /// # Errors
    /// A block has more of them than a node of the graph takes.
    pub fn of<'a, M: Module + 'a>(
        blocks: impl IntoIterator<Item = &'a M>,
        inputs: usize,
    ) -> Result<Self, ModelError> {
        let count = |block: &M| {
            let mut count = Count(inputs);
            block.visit(&mut count);
            count.0
        };
        match blocks.into_iter().map(count).max() {
            Some(count) if count > MOST_INPUTS => Err(ModelError::invalid(
                "--grad-checkpointing",
                format!(
                    "a block has {count} parameters and inputs, at most {MOST_INPUTS} can be computed again"
                ),
            )),
            _ => Ok(Self(true)),
        }
    }

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

struct Count(usize);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        self.0 += 1;
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use burn::tensor::Device;

    use super::*;
    use crate::layers::parameter;

    /// As many numbers, whose sum is added to the input.
    #[derive(Module, Debug)]
    struct Sum {
        terms: Vec<Param<Tensor<1>>>,
    }

    impl Sum {
        fn of(count: usize) -> Self {
            let device = Device::default().autodiff();
            let terms = (0..count).map(|_| parameter([2], &device));
            Self {
                terms: terms.collect(),
            }
        }

        fn forward(&self, [x]: [Tensor<1>; 1]) -> Tensor<1> {
            self.terms.iter().fold(x, |x, term| x + term.val())
        }
    }

    #[test]
    fn a_block_of_the_largest_size_is_computed_again() {
        let block = Sum::of(MOST_INPUTS - 1);
        let recompute = Recompute::of([&block], 1).unwrap();
        let x = Tensor::ones([2], &Device::default().autodiff());
        let gradients = recompute.block(&block, [x], Sum::forward).sum().backward();
        for term in &block.terms {
            let gradient: Tensor<1> = term.val().grad(&gradients).unwrap();
            assert_eq!(gradient.try_into_vec_as::<f32>().unwrap(), [1.0, 1.0]);
        }
    }

    #[test]
    fn a_larger_block_is_refused_when_the_model_is_built() {
        let error = Recompute::of([&Sum::of(3), &Sum::of(MOST_INPUTS)], 1).unwrap_err();
        assert!(
            error.to_string().contains("--grad-checkpointing"),
            "{error}"
        );
        assert!(Recompute::of(&[] as &[Sum], 1).is_ok());
    }
}
