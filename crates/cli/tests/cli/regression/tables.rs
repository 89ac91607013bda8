//! CSV, tar archives and class folders.
