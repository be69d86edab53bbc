use super::{flusher::Flusher, health::Health, readings::Readings};
use crate::sync::{Mutex, lock};
use std::{
    future::Future,
    sync::{Arc, Weak},
};
use tokio::{
    sync::{self, Notify},
    time::Instant,
};

/// Exchanges the ledgers of all keys of a limit with the store.
pub(crate) trait Synchronizer: Send + Sync + Sized + 'static {
    fn link(&self) -> &Link;

    /// Returns the readings of the limit.
    fn readings(&self, now: Instant) -> Readings;

    /// Takes over from the previous flusher. `was_unasked`: for a time there was no flusher.
    fn take_over(&self, was_unasked: bool);

    /// Works until the last handle is dropped. Then it reports what is left to report, and returns what is held.
    fn run(self: Arc<Self>, handles: Weak<Handle<Self>>) -> impl Future<Output = ()> + Send;

    /// Releases at least the callers whose requests were not sent. It is called when the last flusher is dropped. The
    /// synchronizer of buckets also calls it when the store no longer decides.
    fn let_no_caller_wait(&self);
}

/// The link between a limit, its flushers and the store.
pub(crate) struct Link {
    pub(crate) health: Health,
    /// Wakes the working flusher: a key of [`Exact`](crate::rate_limit::distributed::Exact) was queued, a key of
    /// [`Leased`](crate::rate_limit::distributed::Leased) is new, or the last handle was dropped.
    pub(crate) hurry: Notify,
    /// Held by the working flusher.
    turn: sync::Mutex<()>,
    /// The health enters and leaves the state `Unasked` only under this lock. It is in that state from the drop of the
    /// last flusher until another flusher begins to work.
    crew: Mutex<Crew>,
}

/// The number of flushers of a limit, running or not. [`Health`] takes a reference to it, which shows that its lock is
/// held.
pub(crate) struct Crew {
    flushers: usize,
}

impl Link {
    pub(crate) fn new(health: Health) -> Self {
        Self { health, hurry: Notify::new(), turn: sync::Mutex::new(()), crew: Mutex::new(Crew { flushers: 0 }) }
    }
}

/// Alive while the limit can be used. The flusher ends with it.
pub(crate) struct Handle<S: Synchronizer>(Arc<S>);

impl<S: Synchronizer> Handle<S> {
    /// Returns the first handle of a limit, and its first flusher.
    pub(crate) fn new(synchronizer: S) -> (Arc<Self>, Flusher) {
        let handle = Arc::new(Self(Arc::new(synchronizer)));
        let flusher = handle.flusher();
        (handle, flusher)
    }

    pub(crate) fn synchronizer(&self) -> &S {
        &self.0
    }

    pub(crate) fn shared(&self) -> &Arc<S> {
        &self.0
    }

    pub(crate) fn flusher(self: &Arc<Self>) -> Flusher {
        let (synchronizer, handles) = (self.0.clone(), Arc::downgrade(self));
        let member = Member::join(synchronizer.clone());
        Flusher::new(async move {
            let member = member;
            let _turn = synchronizer.link().turn.lock().await;
            synchronizer.take_over(member.begin());
            synchronizer.clone().run(handles).await;
        })
    }
}

impl<S: Synchronizer> Drop for Handle<S> {
    fn drop(&mut self) {
        self.0.link().hurry.notify_one();
    }
}

/// One member of the [`Crew`]: each flusher holds one, and drops it when the flusher ends.
struct Member<S: Synchronizer>(Arc<S>);

impl<S: Synchronizer> Member<S> {
    fn join(synchronizer: Arc<S>) -> Self {
        lock(&synchronizer.link().crew).flushers += 1;
        Self(synchronizer)
    }

    /// Begins to work. Returns whether there was a time without a flusher.
    fn begin(&self) -> bool {
        let link = self.0.link();
        link.health.flusher_begins(&mut lock(&link.crew))
    }
}

impl<S: Synchronizer> Drop for Member<S> {
    fn drop(&mut self) {
        let link = self.0.link();
        let mut crew = lock(&link.crew);
        crew.flushers -= 1;
        let is_last = crew.flushers == 0;
        if is_last {
            link.health.flushers_are_gone(&mut crew);
        }
        drop(crew);
        if is_last {
            self.0.let_no_caller_wait();
        }
    }
}
