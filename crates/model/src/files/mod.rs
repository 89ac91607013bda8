//! What lies on the disk or on the hub, and knows no tensor of Burn and no network.
//!
//! * [`atomic`] – files that are whole or not there

pub mod atomic;
