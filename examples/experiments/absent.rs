//! A store with outages.

use steadfast::rate_limit::distributed::{
    Answering, Charge, Charged, Demand, Embedded, Settled, Store, StoreError, StoreErrorKind,
};

/// An [`Embedded`] store that does not answer while `is_away` returns true. Each call asks `is_away` once.
pub struct Absent<F> {
    inner: Embedded,
    is_away: F,
}

impl<F: Fn() -> bool> Absent<F> {
    pub fn new(inner: Embedded, is_away: F) -> Self {
        Self { inner, is_away }
    }

    fn answering<'a, Answer>(&self, answer: impl FnOnce() -> Answering<'a, Answer>) -> Answering<'a, Answer>
    where
        Answer: Send + 'a,
    {
        if (self.is_away)() {
            return Box::pin(async { Err(StoreError::new(StoreErrorKind::Unreachable, "an outage")) });
        }
        answer()
    }
}

impl<F: Fn() -> bool + Send + Sync + 'static> Store for Absent<F> {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        self.answering(|| self.inner.charge(charges))
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        self.answering(|| self.inner.settle(demands))
    }
}
