//! The task that connects, and the guards that notice the end of a connection or of that task.

use super::connection::ConnectionShared;
use crate::sync::lock;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// The pause between the beginnings of the first two attempts to connect. It doubles with each attempt, up to
/// [`LONGEST_PAUSE`]. Each pause is shortened at random, by up to half. An attempt continues when the next one begins,
/// so an attempt that hangs blocks no other.
///
/// This is also the pause before the first attempt, if the connection that was lost had a short life.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between the beginnings of two attempts.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A guard of a connection, which is dropped with the task that drives the connection, also when the runtime of that
/// task ends. Its drop reports the connection as lost.
pub(super) struct Lost {
    pub(super) shared: Weak<ConnectionShared>,
    pub(super) number: u64,
}

impl Lost {
    pub(super) fn report(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lose(self.number, None);
        }
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        self.report();
    }
}

/// A guard of a keeper, which is dropped when the keeper ends for any reason. Its drop changes the state to `Left`,
/// unless the keeper has connected or another keeper has taken over.
pub(super) struct Keeping {
    pub(super) shared: Weak<ConnectionShared>,
    pub(super) number: u64,
}

impl Keeping {
    /// Notes that the keeper still works. Returns `None` if this keeper no longer keeps the connection, or if no handle
    /// of the connection is left. From one attempt until the next is due, [`reconnect`] itself holds the shared state.
    /// The keeper therefore notices the loss of the last handle only before its next attempt.
    fn goes_on(&self) -> Option<Arc<ConnectionShared>> {
        let shared = self.shared.upgrade()?;
        let is_kept = lock(&shared.state).is_seen(self.number, Instant::now());
        is_kept.then_some(shared)
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.change(|state| state.left(self.number));
        }
    }
}

/// Runs the keeper. After a pause of up to `first`, it attempts to connect until one attempt succeeds. It also ends if
/// another keeper has taken over, or if no handle of the connection is left. An attempt holds no handle.
pub(super) async fn reconnect(keeping: Keeping, first: Duration) {
    let mut attempts = JoinSet::new();
    let mut pause = FIRST_PAUSE;
    if !first.is_zero() {
        let Some(first) = keeping.goes_on().map(|shared| shared.jittered(first)) else { return };
        sleep(first).await;
    }
    loop {
        let Some(shared) = keeping.goes_on() else { return };
        let next = Instant::now() + shared.jittered(pause);
        attempts.spawn(shared.attempt());
        while let Ok(Some(ended)) = timeout_at(next, attempts.join_next()).await {
            let Some(shared) = keeping.goes_on() else { return };
            match ended {
                Ok(Ok(live)) => {
                    let live = Arc::new(live);
                    shared.change(|state| state.connected(keeping.number, &live));
                    return;
                }
                Ok(Err(error)) => {
                    shared.change(|state| state.failed(keeping.number, error.into(), Instant::now()));
                }
                // Not expected: `attempt` returns a panic of the task that connects as an error.
                Err(_) => {}
            }
        }
        // All attempts have failed, or the next one is due.
        sleep_until(next).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
