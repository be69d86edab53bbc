//! Panics of user code that end where it is called.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs user code. A panic of it ends here. Returns whether it came to its end.
pub(crate) fn survives(run: impl FnOnce()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return true };
    // The drop of the payload is user code, too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic))).map_err(mem::forget);
    false
}
