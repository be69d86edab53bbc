use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};
use tokio::sync::oneshot;

/// Sends a caller its answer. Says whether the caller is there to take it.
///
/// The caller is woken, and its waker is another task's code: no lock may be held. If it panics, the answer is there
/// all the same, and no other caller loses by it.
pub(crate) fn answer<T>(caller: oneshot::Sender<T>, answer: T) -> bool {
    catch_unwind(AssertUnwindSafe(|| caller.send(answer).is_ok())).unwrap_or(true)
}

/// Makes room for one more among the callers that wait for an answer. Where the list is full, it removes the callers
/// that have gone and returns them. The caller of this function drops them without a lock, since a waker may be dropped
/// with them.
pub(crate) fn make_room<T>(waiting: &mut Vec<T>, has_gone: impl Fn(&T) -> bool) -> Vec<T> {
    if waiting.len() < waiting.capacity() {
        return Vec::new();
    }
    let (gone, left) = mem::take(waiting).into_iter().partition(has_gone);
    *waiting = left;
    waiting.reserve(waiting.len().max(8));
    gone
}
