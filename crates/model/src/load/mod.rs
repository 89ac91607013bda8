//! From a model's name and its weights to a ready model.
//!
//! * [`factory`] – name, weights and changes → [`Loaded`](factory::Loaded)
//! * [`load_state_dict`] – a state dict into a model: completeness, shapes, positions for another size
//! * [`keys`] – names of wrappers, other libraries and the other text layout turned into the model's
//! * `locate` – the file that a tag, path or address stands for
//! * `reading` – the prefix under which a file holds the model; `diagnosis` – what holds no model
//! * `settings` – activation and preprocessing that belong to weights
//! * `encoder` – published weights of a Hugging Face encoder alone
//! * `trunk` – weights that timm publishes for an image tower alone
//! * `difference` – whose towers the keys of a state dict are

mod diagnosis;
mod difference;
mod encoder;
pub mod factory;
pub mod keys;
mod locate;
mod reading;
mod settings;
mod state_dict;
mod trunk;

pub use state_dict::load_state_dict;
