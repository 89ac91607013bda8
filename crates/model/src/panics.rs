//! Panics of other people's code, turned into errors without a message on the terminal.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Result;

thread_local! {
    static QUIET_HERE: Cell<bool> = const { Cell::new(false) };
}
static QUIET_EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

/// Runs what may panic on this thread.
///
/// # Errors
/// What the panic carries.
pub fn caught<T>(attempt: impl FnOnce() -> T) -> Result<T> {
    install();
    let before = QUIET_HERE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(attempt));
    QUIET_HERE.set(before);
    result
}

/// Runs what may panic on this thread, or wait for one that does.
///
/// # Errors
/// What the panic carries.
pub fn caught_everywhere<T>(attempt: impl FnOnce() -> T) -> Result<T> {
    install();
    QUIET_EVERYWHERE.fetch_add(1, Ordering::Relaxed);
    let result = catch_unwind(AssertUnwindSafe(attempt));
    QUIET_EVERYWHERE.fetch_sub(1, Ordering::Relaxed);
    result
}

/// The hook is the process's, and is set once.
fn install() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET_HERE.get() && QUIET_EVERYWHERE.load(Ordering::Relaxed) == 0 {
                before(panic);
            }
        }));
    });
}

/// What a panic said; nothing where it carries no text.
pub fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}
