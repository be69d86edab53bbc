//! The passes and changes that a thread is in.

use crate::sync::thread_local;
use std::cell::Cell;

#[cfg(not(steadfast_loom))]
thread_local! {
    static DEPTH: Cell<u64> = const { Cell::new(0) };
}

#[cfg(steadfast_loom)]
thread_local! {
    static DEPTH: Cell<u64> = Cell::new(0);
}

/// Changes count in the upper half: there may be passes in a change, if a limit of the user's makes calls.
const CHANGE: u64 = 1 << 32;

/// A pass or a change of this thread, until it is dropped.
pub(super) struct Deeper<const BY: u64>;

impl<const BY: u64> Deeper<BY> {
    #[inline]
    fn go() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + BY));
        Self
    }
}

impl<const BY: u64> Drop for Deeper<BY> {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - BY));
    }
}

/// Begins a pass.
#[inline]
pub(super) fn pass() -> Deeper<1> {
    Deeper::go()
}

/// Begins a change, or a look between two of them.
pub(super) fn change() -> Deeper<CHANGE> {
    Deeper::go()
}

/// Whether this thread is in a change, and so must not wait for one to end.
pub(super) fn is_in_change() -> bool {
    DEPTH.with(Cell::get) >= CHANGE
}

/// Whether this thread is in a pass or in a change.
pub(super) fn is_within() -> bool {
    DEPTH.with(Cell::get) > 0
}
