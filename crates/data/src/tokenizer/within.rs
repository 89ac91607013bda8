//! A tokenizer for a model with fewer token ids.

use std::sync::Arc;

use super::Tokenizer;
use crate::error::DataError;

/// `tokenizer`, for which a caption with an id from `ids` on is an error.
pub fn within(tokenizer: Arc<dyn Tokenizer>, ids: usize) -> Arc<dyn Tokenizer> {
    match tokenizer.vocab_size() <= ids {
        true => tokenizer,
        false => Arc::new(Within { tokenizer, ids }),
    }
}

struct Within {
    tokenizer: Arc<dyn Tokenizer>,
    ids: usize,
}

impl Within {
    fn knows(&self, id: i32) -> bool {
        usize::try_from(id).is_ok_and(|id| id < self.ids)
    }
}

impl Tokenizer for Within {
    fn context_length(&self) -> usize {
        self.tokenizer.context_length()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<i32>, DataError> {
        let ids = self.tokenizer.tokenize(text)?;
        match ids.iter().find(|id| !self.knows(**id)) {
            None => Ok(ids),
            Some(id) => {
                let reason = format!("id {id} is beyond the {} that the model knows", self.ids);
                Err(DataError::caption(text, reason))
            }
        }
    }

    fn decode(&self, ids: &[i32]) -> String {
        self.tokenizer.decode(ids)
    }

    fn special_tokens(&self) -> Vec<(String, i32)> {
        let mut named = self.tokenizer.special_tokens();
        named.retain(|(_, id)| self.knows(*id));
        named
    }

    fn vocab_size(&self) -> usize {
        self.ids
    }

    fn token(&self, id: usize) -> Option<String> {
        self.tokenizer.token(id).filter(|_| id < self.ids)
    }
}
