//! Sheets of pictures: a title, two lines below it, and cards in rows.
//!
//! * `layout` – where everything goes, and the file
//! * [`frame`] – a picture in a square
//! * [`paint`] – outlines, fills and pictures
//! * [`text`] – text
//!
//! What is on a card is its command's affair: `quickstart/contact_sheet.rs`, `commands/data/sheet.rs`,
//! `commands/search/sheet.rs`.

pub mod frame;
mod layout;
pub mod paint;
pub mod text;

pub use self::layout::{Sheet, sheet, write_png};
