//! By which keys a family is known, and the keys under which other libraries publish it.

use crate::files::weights::{StateDict, WeightsError};

/// A family in words, and strings that are all in keys of its towers and not of another's that comes later in the table.
pub type Marks = (&'static str, &'static [&'static str]);

/// A form in which another library saves whole models that have a tower of the family.
#[derive(Debug, Clone, Copy)]
pub struct Foreign {
    /// Whether a state dict has this form.
    pub recognise: fn(&StateDict) -> bool,
    /// Brings it into OpenCLIP's. A key that has no counterpart keeps its name, so that it is reported when a model is loaded.
    pub convert: fn(StateDict) -> Result<StateDict, WeightsError>,
}
