//! What a panic said, for the errors that it becomes.

use std::any::Any;

/// The message of a panic; `panic` where it has none.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("panic")
        .to_owned()
}
