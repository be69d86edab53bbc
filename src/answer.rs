use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};
use tokio::sync::oneshot;

/// Sends a caller its answer. Says whether the caller is there to take it.
///
/// The caller is woken, and its waker is another task's code: no lock may be held. If it panics, the answer is there all the
/// same, and nobody else loses by it.
pub(crate) fn answer<T>(caller: oneshot::Sender<T>, answer: T) -> bool {
    catch_unwind(AssertUnwindSafe(|| caller.send(answer).is_ok())).unwrap_or(true)
}

/// Makes room for one more among the callers that wait for an answer. Those that have gone are cleared away here where nothing
/// else clears them away. They are returned, to be dropped without a lock: a caller's waker may go with them.
pub(crate) fn make_room<T>(waiting: &mut Vec<T>, has_gone: impl Fn(&T) -> bool) -> Vec<T> {
    if waiting.len() < waiting.capacity() {
        return Vec::new();
    }
    let (gone, left) = mem::take(waiting).into_iter().partition(has_gone);
    *waiting = left;
    waiting.reserve(waiting.len().max(8));
    gone
}
