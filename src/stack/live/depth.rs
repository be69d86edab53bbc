//! Counts how deep the current thread is in passes and changes. A read of a whole configuration counts as a change,
//! because it keeps changes waiting.

use crate::sync::thread_local;
use std::cell::Cell;

#[cfg(not(steadfast_loom))]
thread_local! {
    static DEPTH: Cell<u64> = const { Cell::new(0) };
    /// Whether a change was refused within the current change or read.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

#[cfg(steadfast_loom)]
thread_local! {
    static DEPTH: Cell<u64> = Cell::new(0);
    static REFUSED: Cell<bool> = Cell::new(false);
}

/// Changes count in the upper half of the word, and passes in the lower half. A change can contain passes, if a user's
/// limit makes calls.
const CHANGE: u64 = 1 << 32;

/// Marks the current thread as being within a pass or a change, until dropped.
pub(super) struct DepthGuard<const BY: u64>;

impl<const BY: u64> DepthGuard<BY> {
    #[inline]
    fn enter() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + BY));
        Self
    }
}

impl<const BY: u64> Drop for DepthGuard<BY> {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - BY));
    }
}

/// Enters a pass.
#[inline]
pub(super) fn pass() -> DepthGuard<1> {
    DepthGuard::enter()
}

/// Enters a change, or a read between two changes.
pub(super) fn change() -> DepthGuard<CHANGE> {
    DepthGuard::enter()
}

/// Returns whether this thread is within a change or a read, and therefore must not wait for a change to end.
pub(super) fn is_in_change() -> bool {
    DEPTH.with(Cell::get) >= CHANGE
}

/// Returns whether this thread is within a pass, a change or a read.
pub(super) fn is_within() -> bool {
    DEPTH.with(Cell::get) > 0
}

/// Notes that a change was refused within the current change or read of this thread.
pub(super) fn note_refusal() {
    REFUSED.with(|refused| refused.set(true));
}

/// Returns whether a change was refused within the last change or read of this thread, and forgets it.
pub(super) fn take_refusal() -> bool {
    REFUSED.with(|refused| refused.replace(false))
}
