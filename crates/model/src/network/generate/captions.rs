//! From pictures to captions.

use burn::tensor::Tensor;

use super::options::{GenerateOptions, Strategy};
use super::stepper::Stepper;
use super::{beam, sample, stepper};
use crate::files::ModelError;
use crate::network::clip::Clip;

impl Clip {
    /// Captions of pictures: normalised pixels `[batch, 3, height, width]` → token ids, rows of one length. Pass a model
    /// without autodiff. The model computes in the dtype of `image`.
    ///
    /// # Errors
    /// The model writes no captions; an option that cannot be; a device that does not give its logits.
    pub fn generate(
        &self,
        image: Tensor<4>,
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<i32>>, ModelError> {
        let parts = self.captioner()?;
        let vocabulary = parts.decoder.vocabulary();
        options.check(
            vocabulary,
            parts.longest(),
            stepper::bytes(&parts, options.seq_len),
        )?;
        let prompt = match options.prompt.is_empty() {
            true => vec![options.special.start],
            false => options.prompt.clone(),
        };
        let [pictures, ..] = image.dims();
        let mut stepper = Stepper::new(parts, image, options.cache);
        let mut captions = match options.strategy {
            Strategy::Beam(search) => beam::run(&mut stepper, pictures, &prompt, &search, options)?,
            Strategy::Sample(sampling) => {
                sample::run(&mut stepper, pictures, &prompt, &sampling, options)?
            }
        };
        if options.fixed_output_length {
            captions
                .iter_mut()
                .for_each(|row| row.resize(options.seq_len, options.special.pad));
        }
        Ok(captions)
    }
}
