//! Answers callers that wait, each on a oneshot channel, for work that one task does for several of them.

use crate::panics::caught;
use std::mem;
use tokio::sync::oneshot;

/// Sends a caller its answer. Returns whether the caller still waits for it.
///
/// Sending wakes the caller, and its waker is user code, so the caller of this function must hold no lock. If the waker
/// panics, the answer has been delivered and other callers are not affected.
pub(crate) fn answer<T>(caller: oneshot::Sender<T>, answer: T) -> bool {
    caught(|| caller.send(answer).is_ok()).unwrap_or(true)
}

/// Makes room for one more waiting caller. If the list is full, removes the callers that have gone and returns them.
/// The caller of this function drops the returned callers without a lock, because that may drop a waker, which is user
/// code.
pub(crate) fn make_room<T>(waiting: &mut Vec<T>, has_gone: impl Fn(&T) -> bool) -> Vec<T> {
    if waiting.len() < waiting.capacity() {
        return Vec::new();
    }
    let (gone, left) = mem::take(waiting).into_iter().partition(has_gone);
    *waiting = left;
    waiting.reserve(waiting.len().max(8));
    gone
}
