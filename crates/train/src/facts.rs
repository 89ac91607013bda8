//! What checkpoints say about a model beside its weights.

use openclip_model::Clip;
use openclip_model::config::{ModelConfig, PreprocessConfig};
use openclip_model::factory::Loaded;

/// Name, configuration and preprocessing that go into every checkpoint.
#[derive(Debug, Clone)]
pub struct ModelFacts {
    /// Name for messages and metadata.
    pub name: String,
    /// The two towers.
    pub config: ModelConfig,
    /// Normalisation and resizing of the pictures.
    pub preprocess: PreprocessConfig,
}

impl ModelFacts {
    /// Of a model.
    pub fn of(loaded: &Loaded) -> Self {
        Self {
            name: loaded.name.clone(),
            config: loaded.config.clone(),
            preprocess: loaded.preprocess.clone(),
        }
    }

    /// The same with weights.
    pub fn with(&self, model: Clip) -> Loaded {
        let Self {
            name,
            config,
            preprocess,
        } = self.clone();
        Loaded {
            model,
            name,
            config,
            preprocess,
            warnings: Vec::new(),
        }
    }
}
