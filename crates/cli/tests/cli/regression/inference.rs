//! Embedding, classifying, captioning and retrieval.
