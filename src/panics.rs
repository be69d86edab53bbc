//! Catches panics of user code.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs user code. Returns its result, or `None` if it panicked.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(discard).ok()
}

/// Runs user code and catches its panic. Returns whether it ran without a panic.
pub(crate) fn survives(run: impl FnOnce()) -> bool {
    caught(run).is_some()
}

/// Drops the payload of a caught panic. This runs user code, which may panic too.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    // The payload of a second panic is leaked, because dropping it could panic again.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(mem::forget);
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use std::panic::panic_any;

    /// A payload that panics when it is dropped, with another one of its kind.
    struct Payload(u32);

    impl Drop for Payload {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Payload(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_caught() {
        assert_eq!(caught(|| 7), Some(7));
        assert!(caught(|| panic_any(Payload(2))).is_none());
        assert!(!survives(|| panic_any(Payload(2))));
    }
}
