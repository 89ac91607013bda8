//! Checkpoints and model folders as people have them.
