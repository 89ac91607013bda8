//! Inputs at the edge: sizes, vocabularies, locks, memory.
