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

/// Carries the ledger of all keys of a limit to the store and back.
pub(crate) trait Synchronizer: Send + Sync + Sized + 'static {
    fn link(&self) -> &Link;

    /// How the limit is doing.
    fn readings(&self, now: Instant) -> Readings;

    /// Takes up what the previous flusher left. `was_unasked`: for a time there was no flusher.
    fn take_over(&self, was_unasked: bool);

    /// Works until the last handle is dropped, and then brings the ledger to an end.
    fn run(self: Arc<Self>, handles: Weak<Handle<Self>>) -> impl Future<Output = ()> + Send;

    /// Sends callers away that wait for the store: no task asks it.
    fn let_no_caller_wait(&self);
}

/// How a limit and its flushers stand with each other and with the store.
pub(crate) struct Link {
    pub(crate) health: Health,
    /// Wakes the flusher at work: a caller waits, or the last handle is dropped.
    pub(crate) hurry: Notify,
    /// Held by the flusher at work.
    turn: sync::Mutex<()>,
    /// The health is unasked only while there is no flusher. So it becomes so, and ceases to be, under this lock.
    crew: Mutex<Crew>,
}

/// The flushers of a limit, running or not.
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
    /// The first handle of a limit, and its first flusher.
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

/// One of the crew, alive while its flusher is.
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
