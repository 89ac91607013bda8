//! How many token ids a caption decoder knows.

use crate::files::ModelError;
use crate::files::config::ModelConfig;
use crate::files::weights::StateDict;
use crate::text::hf;

/// Where a Hugging Face tower reads more token ids than the decoder of `config` knows, the number of both.
///
/// OpenCLIP makes such a decoder for `text_cfg.vocab_size`, which is CLIP's unless it is given, and its published model cannot
/// write the ids beyond. A model that is trained from scratch should.
pub(crate) fn whole_vocabulary(config: &ModelConfig) -> Result<Option<usize>, ModelError> {
    let arch = match config.multimodal()? {
        Some(_) => hf::arch(config)?,
        None => None,
    };
    let ids = arch.map(|arch| arch.vocab_size);
    Ok(ids.filter(|ids| *ids > config.text_cfg.vocab_size))
}

/// The number of token ids that the decoder in a file knows, where the configuration leaves it open as
/// [`whole_vocabulary`] says and the file has another than `config`.
pub(crate) fn stored_vocabulary(config: &ModelConfig, dict: &StateDict) -> Option<usize> {
    let projection = dict.tensors.get("text_decoder.text_projection")?;
    let stored = *projection.shape.get(1)?;
    let whole = whole_vocabulary(config).ok()??;
    (stored == whole).then_some(stored)
}
