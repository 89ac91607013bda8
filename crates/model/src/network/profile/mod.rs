//! Size and cost of a model, with the columns of OpenCLIP's `docs/model_profile.csv`. Nothing is allocated: everything follows
//! from the configuration and from the shapes of the parameters that it asks for.
//!
//! * [`Profile`] – a line of the table
//! * [`flops`] – operations of a forward pass, and what training keeps of it

pub mod flops;
mod table;

pub use table::Profile;
