//! The state of a connection.
//!
//! The keeper is the task that connects. It belongs to the runtime of the call or the task that spawned it, and ends
//! with that runtime.
//!
//! | from | event | to |
//! |---|---|---|
//! | `Up` | the connection is lost | `Down`, with a keeper |
//! | `Down`, `Moving` | an attempt succeeds | `Up` |
//! | `Down`, `Moving` | an attempt fails | `Down`, with the new reason |
//! | `Down`, `Moving` | the keeper is gone | `Left` |
//! | `Left`; `Down` or `Moving`, if the keeper was not seen for 2 s | a call comes, inside of a runtime | `Moving`, with a new keeper |
//!
//! A connection that was opened lazily begins as `Down`, with a keeper, or outside of a runtime as `Left`. A connection
//! that was opened at once begins as `Up`. In `Down` calls fail at once. In `Moving` they wait for the first attempt of
//! the keeper.

use super::{duty::Duty, error::Fault, keeper::LONGEST_PAUSE};
use ::redis::aio::MultiplexedConnection;
use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};
use tokio::time::Instant;

/// See the module.
pub(super) enum ConnectionState {
    Up(Arc<Live>),
    /// There is no connection, for this reason. The keeper is trying to connect.
    Down(Fault, Keeper),
    /// There is no connection and no keeper: the runtime of the keeper has ended, or there was no runtime yet.
    Left(Fault),
    /// There is no connection, and no attempt of the new keeper has ended yet.
    Moving(Fault, Keeper),
}

/// A connection that was made.
pub(super) struct Live {
    pub(super) number: u64,
    pub(super) connection: MultiplexedConnection,
    /// When the connection was made.
    pub(super) since: Instant,
    /// The number of calls that ended without an answer since the last answer. Relaxed: it guards no other memory.
    pub(super) unanswered: AtomicU32,
    /// The duty to find out whether the connection still answers.
    pub(super) in_question: Arc<Duty>,
}

/// The number of a keeper, and when it was last seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeper {
    number: u64,
    seen: Instant,
}

/// The state as a call finds it, and what the call does.
pub(super) enum Outlook {
    Up(Arc<Live>),
    /// The call fails at once.
    Down(Fault),
    /// The call waits for a change.
    Moving(Fault),
    /// The call spawns a keeper, if there is a runtime.
    Left(Fault),
}

/// A keeper that was not seen for this time is taken to be in a runtime that no longer runs. A working keeper is seen
/// before each attempt, so at least once per [`LONGEST_PAUSE`].
const UNSEEN: Duration = LONGEST_PAUSE.saturating_mul(4);

impl Keeper {
    pub(super) fn new(number: u64, now: Instant) -> Self {
        Self { number, seen: now }
    }
}

impl ConnectionState {
    pub(super) fn outlook(&self, now: Instant) -> Outlook {
        match self {
            Self::Up(live) => Outlook::Up(live.clone()),
            Self::Down(fault, keeper) if now < keeper.seen + UNSEEN => Outlook::Down(fault.clone()),
            Self::Moving(fault, keeper) if now < keeper.seen + UNSEEN => Outlook::Moving(fault.clone()),
            Self::Down(fault, _) | Self::Moving(fault, _) | Self::Left(fault) => Outlook::Left(fault.clone()),
        }
    }

    /// `Up => Down`, if it is up with the connection of this number.
    pub(super) fn lost(&self, number: u64, fault: Fault, keeper: Keeper) -> Option<Self> {
        matches!(self, Self::Up(live) if live.number == number).then_some(Self::Down(fault, keeper))
    }

    /// `Left => Moving`. Also `Down | Moving => Moving`, if the keeper was not seen for [`UNSEEN`].
    pub(super) fn moves(&self, keeper: Keeper) -> Option<Self> {
        match self.outlook(keeper.seen) {
            Outlook::Left(fault) => Some(Self::Moving(fault, keeper)),
            _ => None,
        }
    }

    /// `Down | Moving => Up`, if the keeper has this number. Takes a reference, so that a connection that is not needed
    /// is not dropped here, under the lock.
    pub(super) fn connected(&self, keeper: u64, live: &Arc<Live>) -> Option<Self> {
        self.is_kept_by(keeper).then(|| Self::Up(live.clone()))
    }

    /// `Down | Moving => Down`, if the keeper has this number.
    pub(super) fn failed(&self, keeper: u64, fault: Fault, now: Instant) -> Option<Self> {
        self.is_kept_by(keeper).then(|| Self::Down(fault, Keeper::new(keeper, now)))
    }

    /// `Down | Moving => Left`, if the keeper has this number.
    pub(super) fn left(&self, keeper: u64) -> Option<Self> {
        match self {
            Self::Down(fault, Keeper { number, .. }) | Self::Moving(fault, Keeper { number, .. })
                if *number == keeper =>
            {
                Some(Self::Left(fault.clone()))
            }
            _ => None,
        }
    }

    fn is_kept_by(&self, keeper: u64) -> bool {
        matches!(self, Self::Down(_, Keeper { number, .. }) | Self::Moving(_, Keeper { number, .. }) if *number == keeper)
    }

    /// Notes that the keeper of this number works. Returns `false` if it is no longer the keeper.
    pub(super) fn is_seen(&mut self, keeper: u64, now: Instant) -> bool {
        match self {
            Self::Down(_, Keeper { number, seen }) | Self::Moving(_, Keeper { number, seen }) if *number == keeper => {
                *seen = now;
                true
            }
            _ => false,
        }
    }
}
