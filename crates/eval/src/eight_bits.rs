//! What 8 bits change in a model's answers.

use burn::tensor::Tensor;

use crate::encode::Encoder;
use crate::error::EvalError;
use crate::host::host;
use crate::zero_shot::highest;

/// Pictures of a set that are computed in f32 as well.
const COMPARED: usize = 1000;

/// A model in 8 bits beside the same one in f32, on a set's first pictures.
pub(crate) struct Change {
    exact: Encoder,
    /// Weights of the classes in f32, `[embed_dim, classes]`.
    classifier: Tensor<2>,
    pictures: usize,
    same_class: usize,
    cosines: f64,
    least: f32,
}

impl Change {
    /// Nothing is compared yet. `exact` is the model in f32, and `classifier` its weights of the classes.
    pub fn new(classifier: Tensor<2>, exact: Encoder) -> Self {
        Self {
            exact,
            classifier,
            pictures: 0,
            same_class: 0,
            cosines: 0.0,
            least: 1.0,
        }
    }

    /// Whether the next batch is among those that are compared.
    pub fn is_open(&self) -> bool {
        self.pictures < COMPARED
    }

    /// Compares a batch: the features of its planes, and the scores `[batch, classes]` that they give.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add(
        &mut self,
        planes: Vec<u8>,
        features: &Tensor<2>,
        scores: &[f32],
    ) -> Result<(), EvalError> {
        let [count, _] = features.dims();
        let [_, classes] = self.classifier.dims();
        let exact = self.exact.images(planes, count);
        for cosine in host((exact.clone() * features.clone()).sum_dim(1))? {
            self.cosines += f64::from(cosine);
            // Not `min`, which passes over what is no number.
            self.least = if cosine >= self.least {
                self.least
            } else {
                cosine
            };
        }
        let exact = host(exact.matmul(self.classifier.clone()))?;
        let rows = exact
            .chunks_exact(classes)
            .zip(scores.chunks_exact(classes));
        self.same_class += rows
            .filter(|(one, other)| highest(one) == highest(other))
            .count();
        self.pictures += count;
        Ok(())
    }

    /// Says what was found; `name` is the set's.
    pub fn tell(&self, name: &str) {
        let all = self.pictures.max(1) as f64;
        log::info!(
            "{name}: 8 bits beside f32 on {} pictures: cosine of the features {:.6} in the mean and at least {:.6}, \
             the same class first for {} ({:.2} %)",
            self.pictures,
            self.cosines / all,
            self.least,
            self.same_class,
            100.0 * self.same_class as f64 / all
        );
    }
}
