use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};
use tracing::Span;

/// Runs this within the span. The exit never runs while a panic unwinds, since a panic of the subscriber would then end
/// the process.
#[inline]
pub(super) fn within<T>(span: &Span, run: impl FnOnce() -> T) -> T {
    if span.is_disabled() { run() } else { within_enabled(span, run) }
}

fn within_enabled<T>(span: &Span, run: impl FnOnce() -> T) -> T {
    let entered = span.enter();
    let ran = catch_unwind(AssertUnwindSafe(run));
    let left = catch_unwind(AssertUnwindSafe(|| drop(entered)));
    match (ran, left) {
        (Ok(value), Ok(())) => value,
        (Ok(value), Err(panic)) => {
            drop(value);
            resume_unwind(panic)
        }
        (Err(panic), left) => {
            // The drop of a second payload is user code.
            mem::forget(left);
            resume_unwind(panic)
        }
    }
}
