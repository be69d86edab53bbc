use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};
use tracing::{Span, span::Entered};

/// Runs a closure within the span, if there is one. The subscriber may panic when the span is left. If the closure has
/// panicked before, this second panic would abort the process, so it is caught and discarded. Otherwise it propagates.
#[inline]
pub(super) fn within<T>(span: Option<&Span>, run: impl FnOnce() -> T) -> T {
    // A single call site for both cases, so that the closure is inlined.
    let inside = EnteredSpan(span.map(Span::enter));
    let value = run();
    if let Some(panic) = inside.leave() {
        drop(value);
        resume_unwind(panic);
    }
    value
}

struct EnteredSpan<'span>(Option<Entered<'span>>);

impl EnteredSpan<'_> {
    /// Leaves the span. Returns the panic of the subscriber, if it has panicked.
    #[inline]
    fn leave(mut self) -> Option<Box<dyn Any + Send>> {
        self.0.take().and_then(leave)
    }
}

/// The drop finds the span here only while a panic of the closure unwinds. Otherwise, `leave` has taken it.
impl Drop for EnteredSpan<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(entered) = self.0.take() {
            // Forgets the payload of the subscriber's panic: its drop is user code, which may panic too.
            mem::forget(leave(entered));
        }
    }
}

#[cold]
fn leave(entered: Entered<'_>) -> Option<Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| drop(entered))).err()
}
