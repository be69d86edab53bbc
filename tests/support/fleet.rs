//! Requests of processes to a store: charges of buckets, and demands of a process that tracks its own window.

use std::{collections::VecDeque, sync::Arc, time::Duration};
use steadfast::rate_limit::{
    Quota,
    distributed::{Charge, Demand, Hint, Settled},
};
use tokio::time::Instant;

/// Returns a charge of client 1 that reports no spent tokens, gives none back, and wants none.
pub fn charge(key: impl AsRef<[u8]>, quota: Quota) -> Charge {
    Charge {
        key: key.as_ref().into(),
        quota,
        client: 1,
        sequence: 0,
        spent: 0,
        late: 0,
        max_debt: 0,
        refund: 0,
        refund_of: Duration::ZERO,
        want: 0,
        least: 0,
        hint: Hint::default(),
    }
}

/// Returns a charge that wants `tokens`, all or none.
pub fn want(key: impl AsRef<[u8]>, quota: Quota, tokens: u64) -> Charge {
    Charge { want: tokens, least: tokens, ..charge(key, quota) }
}

/// A process as the store sees it: the tokens of a window that it holds, and its spends with their times.
pub struct Process {
    key: Arc<[u8]>,
    window: Duration,
    client: u64,
    pub held: u64,
    spent: u64,
    spends: VecDeque<(Instant, u64)>,
    sequence: u64,
    pub total: u64,
}

impl Process {
    pub fn new(key: impl AsRef<[u8]>, window: Duration, client: u64) -> Self {
        let (key, spends) = (key.as_ref().into(), VecDeque::new());
        Self { key, window, client, held: 0, spent: 0, spends, sequence: 0, total: 0 }
    }

    pub fn spend(&mut self, tokens: u64, now: Instant) {
        self.held -= tokens;
        self.spent += tokens;
        self.spends.push_front((now, tokens));
    }

    pub fn demand(&mut self, limit: u64, want: u64, now: Instant) -> Demand {
        self.spends.retain(|(at, _)| now - *at < self.window);
        self.sequence += 1;
        Demand {
            key: self.key.clone(),
            limit,
            window: self.window,
            client: self.client,
            sequence: self.sequence,
            spent: self.spent,
            spends: self.spends.iter().map(|(at, tokens)| (now - *at, *tokens)).collect(),
            held: self.held,
            want,
            total: self.total,
        }
    }

    pub fn answered(&mut self, settled: &Settled) {
        self.held += settled.granted;
        self.total = settled.total;
    }
}
