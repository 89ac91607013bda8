//! Going on with a run: of another shape, of OpenCLIP's, of nothing.
