//! The atomics, the fence, the mutex and the thread locals that loom models check: those of loom in a model, otherwise
//! those of the standard library.

#[cfg(not(steadfast_loom))]
mod chosen {
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread_local;
}

#[cfg(steadfast_loom)]
mod chosen {
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread_local;
}

pub(crate) use chosen::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence, thread_local};

/// Locks a mutex and ignores poisoning: holders leave valid state behind even if they panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
