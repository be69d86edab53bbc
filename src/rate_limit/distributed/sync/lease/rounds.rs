use super::{flush::FlushKeys, synchronizer::LeaseSync};
use crate::{
    rate_limit::distributed::sync::synchronizer::{Handle, Synchronizer},
    sync::Ordering,
};
use rand::RngExt;
use std::{
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The loop of the flusher.
pub(super) struct LeaseRounds {
    sync: Arc<LeaseSync>,
    /// When the demands of all keys are sent next.
    flush: Instant,
    /// When the ledgers are updated next.
    look: Instant,
}

impl LeaseRounds {
    /// Begins at a random phase, so that processes do not ask at the same time.
    pub(super) fn new(sync: Arc<LeaseSync>) -> Self {
        let now = Instant::now();
        let mut rounds = Self { sync, flush: now, look: now };
        rounds.flush += rounds.period(0.0..1.0);
        rounds
    }

    /// Exchanges demands and answers with the store in each period, until no handle is left. Then reports what was
    /// spent, and returns to the store what is held.
    pub(super) async fn run(mut self, handles: Weak<Handle<LeaseSync>>) {
        while handles.strong_count() > 0 {
            self.work().await;
        }
        self.sync.flush(FlushKeys::AllLeaving, Instant::now()).await;
    }

    /// Runs one round: does what is due, and waits until something is due again, a newcomer comes, or the last handle
    /// is dropped.
    async fn work(&mut self) {
        let now = Instant::now();
        self.sync.health().look(now);
        self.sync.looked.store(self.sync.origin.to(now).0, Ordering::Relaxed);
        if now >= self.flush {
            self.flush = now + self.period(0.9..1.1);
            self.sync.flush(FlushKeys::All, self.flush).await;
        } else if now >= self.look {
            self.sync.note(now);
        }
        if now >= self.look {
            self.look = now + self.sync.window.div_f64(40.0);
        }
        if timeout_at(self.flush.min(self.look), self.sync.link().hurry.notified()).await.is_ok() {
            self.sync.flush(FlushKeys::Newcomers, self.flush).await;
        }
    }

    /// Draws a random part of the period.
    fn period(&self, part: Range<f64>) -> Duration {
        let part = self.sync.random.with(|random| random.random_range(part));
        self.sync.period.mul_f64(part)
    }
}
