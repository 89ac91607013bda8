//! A repair as often as it has an effect.

/// Most rounds of repairs. ftfy has no limit, but takes as long as `&amp;amp;amp;…` makes it.
const MOST_ROUNDS: usize = 1000;

/// Repeats `fix` until it changes nothing; nothing if it never did.
pub(super) fn repeated(text: &str, fix: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut fixed = None;
    for _ in 0..MOST_ROUNDS {
        match fix(fixed.as_deref().unwrap_or(text)) {
            Some(better) => fixed = Some(better),
            None => break,
        }
    }
    fixed
}
