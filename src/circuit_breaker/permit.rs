use super::Breaker;
use tokio::time::Instant;

/// Admits one call. Plain data: it has to be settled by the stage that holds it.
#[derive(Debug)]
pub struct Ticket {
    pub(super) era: u32,
    /// From when on the call is a failure if its caller drops it, by the configuration that admitted it.
    pub(super) overdue_at: Option<Instant>,
}

impl Ticket {
    /// What a cancelled call says: a failure if it had been in flight for so long that it counts as one.
    #[inline]
    pub(super) fn evidence_of_cancelled(&self, now: impl FnOnce() -> Instant) -> Evidence {
        match self.overdue_at {
            Some(overdue_at) if now() >= overdue_at => Evidence::Failure,
            _ => Evidence::Unanswered,
        }
    }
}

/// What became of a call, to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Success,
    Failure,
    /// The service refused, as one that has too much to do: a success, for it is alive, unless configured otherwise.
    Overloaded,
    /// The caller gave up before the service answered. A probe gives its place to another call.
    Unanswered,
    /// It says nothing about the service: the call did not get there. A probe gives its place to another call.
    Nothing,
}

/// A call that a breaker has let through. Dropped without a verdict it counts as cancelled.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once tells the breaker nothing"]
pub struct Permit<'breaker> {
    pub(super) breaker: &'breaker Breaker,
    pub(super) ticket: Option<Ticket>,
}

impl Permit<'_> {
    /// The call succeeded, by tokio's clock.
    pub fn success(self) {
        self.settle(Evidence::Success, Instant::now);
    }

    /// The call failed, by tokio's clock.
    pub fn failure(self) {
        self.settle(Evidence::Failure, Instant::now);
    }

    /// The call succeeded at `now`.
    #[inline]
    pub fn success_at(self, now: Instant) {
        self.settle(Evidence::Success, || now);
    }

    /// The call failed at `now`.
    pub fn failure_at(self, now: Instant) {
        self.settle(Evidence::Failure, || now);
    }

    #[inline]
    fn settle(mut self, evidence: Evidence, now: impl FnOnce() -> Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(&ticket, evidence, now);
        }
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let evidence =
                if std::thread::panicking() { Evidence::Failure } else { ticket.evidence_of_cancelled(Instant::now) };
            self.breaker.settle(&ticket, evidence, Instant::now);
        }
    }
}
