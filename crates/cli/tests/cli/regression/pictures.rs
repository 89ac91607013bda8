//! Formats of pictures, their damages and their sizes.
