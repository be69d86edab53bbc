//! Catches panics of user code.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs user code and catches its panic. Returns whether it ran without a panic.
pub(crate) fn survives(run: impl FnOnce()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return true };
    // Dropping the payload runs user code, too, and may panic. The payload of that second panic is leaked, because
    // dropping it could panic again.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic))).map_err(mem::forget);
    false
}
