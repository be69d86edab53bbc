//! What a worker asks of Redis.

use super::super::{
    core::{Core, GROUP},
    entry::Entry,
    scripts::{Fields, KEEP, LEAVE, MARK, SETTLE, TEND, call, entries, identity_of, list, nonsense, number},
};
use super::Memory;
use crate::redis::{Connection, Fault};
use ::redis::{Cmd, Value, cmd};
use std::{sync::Arc, time::Duration};

/// Who asks.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) core: Arc<Core>,
    /// For what waits: other answers would wait behind it.
    pub(super) waiting: Connection,
    pub(super) consumer: Arc<str>,
}

/// So long a worker that has nothing to do waits for a message at a time, and so long its end takes at most then.
pub(super) const WAIT: Duration = Duration::from_millis(200);

/// The end of a delivery, by the entry of the stream.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Done { entry: Entry },
    Dropped { entry: Entry },
    Again { entry: Entry, memory: Memory, delay: Duration },
    Dead { entry: Entry, memory: Memory, reason: String },
}

impl Outcome {
    pub(super) fn entry(&self) -> Entry {
        match self {
            Self::Done { entry } | Self::Dropped { entry } | Self::Again { entry, .. } | Self::Dead { entry, .. } => {
                *entry
            }
        }
    }
}

/// How the call of a suspect goes on, as the script that takes over knows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// It begins, and no other has begun.
    Alone = 2,
    /// Others may begin beside it.
    Beside = 3,
}

/// What the script that tends a queue says.
pub(super) struct Tended {
    pub(super) millis: u64,
    pub(super) moved: u64,
    pub(super) next_due: Option<Duration>,
    pub(super) taken: Vec<Taken>,
}

/// A message that was taken over.
pub(super) struct Taken {
    pub(super) entry: Entry,
    /// The workers that died during its call.
    pub(super) deaths: u32,
    /// It may be what killed a worker.
    pub(super) is_suspect: bool,
    pub(super) fields: Fields,
}

/// What the script that tends a queue is to do.
#[derive(Clone, Copy)]
pub(super) struct Tending {
    pub(super) make_group: bool,
    /// After how long to take over, and the most to.
    pub(super) take_over: Option<(Duration, usize)>,
}

/// The most that one call of the script moves.
pub(super) const MOST_MOVED: u64 = 500;

impl Requests {
    /// Takes messages, and waits for one if there is none and it is to.
    pub(super) async fn take(self, count: usize, waits: bool) -> Result<Vec<(Entry, Fields)>, Fault> {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(&*self.consumer).arg("COUNT").arg(count);
        if waits {
            command.arg("BLOCK").arg(u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX));
        }
        command.arg("STREAMS").arg(&self.core.keys.stream).arg(">");
        // A worker that has just started is no failure of Redis.
        self.waiting.until_it_was_up(WAIT).await;
        let answer = self.waiting.ask(async |connection| command.query_async::<Value>(connection).await).await?;
        match answer {
            Value::Nil => Ok(Vec::new()),
            Value::Map(streams) => streams.into_iter().next().map_or(Ok(Vec::new()), |(_, stream)| entries(stream)),
            Value::Array(streams) => match streams.into_iter().next() {
                Some(stream) => entries(list(stream)?.pop().ok_or_else(nonsense)?),
                None => Ok(Vec::new()),
            },
            _ => Err(nonsense()),
        }
    }

    /// Ends deliveries.
    pub(super) async fn settle(self, outcomes: Vec<Outcome>) -> (Vec<Outcome>, Result<(), Fault>) {
        let core = &*self.core;
        let write = |command: &mut Cmd| {
            command.arg(4).arg(&core.keys.of_all()).arg(GROUP).arg(&*self.consumer).arg(core.limits.dead_letters);
            write_outcomes(command, &outcomes);
        };
        let answer = call(&core.connection, &SETTLE, write).await;
        (outcomes, answer.map(drop).map_err(Fault::from))
    }

    pub(super) async fn tend(self, tending: Tending) -> Result<Tended, Fault> {
        let keys = &self.core.keys;
        let (idle, most) = tending.take_over.unwrap_or_default();
        let write = |command: &mut Cmd| {
            command.arg(3).arg(&keys.stream).arg(&keys.retries).arg(&keys.totals).arg(GROUP).arg(&*self.consumer);
            command.arg(u8::from(tending.make_group)).arg(MOST_MOVED);
            command.arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)).arg(most);
        };
        let answer = list(call(&self.core.connection, &TEND, write).await?)?;
        let [millis, moved, next_due, taken] = <[Value; 4]>::try_from(answer).map_err(|_| nonsense())?;
        let next_due = match next_due {
            Value::Int(millis) => u64::try_from(millis).ok().map(Duration::from_millis),
            _ => return Err(nonsense()),
        };
        let taken = list(taken)?.into_iter().map(|one| {
            let [entry, deaths, suspect, fields] = <[Value; 4]>::try_from(list(one)?).map_err(|_| nonsense())?;
            let deaths = u32::try_from(number(&deaths)?).unwrap_or(u32::MAX);
            let is_suspect = number(&suspect)? == 1;
            Ok(Taken { entry: identity_of(entry)?, deaths, is_suspect, fields: Fields::of(fields)? })
        });
        let taken = taken.collect::<Result<Vec<_>, Fault>>()?;
        Ok(Tended { millis: number(&millis)?, moved: number(&moved)?, next_due, taken })
    }

    /// Says of these that they are still worked on, and which of them are no longer this worker's.
    pub(super) async fn keep(self, held: Vec<Entry>) -> (Vec<Entry>, Result<Vec<Entry>, Fault>) {
        let write = |command: &mut Cmd| {
            command.arg(1).arg(&self.core.keys.stream).arg(GROUP).arg(&*self.consumer).arg(&held);
        };
        let answer = call(&self.core.connection, &KEEP, write).await;
        let lost = |answer| list(answer)?.into_iter().map(identity_of).collect();
        (held, answer.map_err(Fault::from).and_then(lost))
    }

    /// Says how the call of a suspect goes on. `false`: it is no longer this worker's.
    pub(super) async fn mark(self, entry: Entry, mark: Mark) -> Result<bool, Fault> {
        let write = |command: &mut Cmd| {
            command.arg(1).arg(&self.core.keys.stream).arg(GROUP).arg(&*self.consumer).arg(entry).arg(mark as u8);
        };
        Ok(number(&call(&self.core.connection, &MARK, write).await?)? == 1)
    }

    /// Removes the consumer, if it has nothing. If that fails, others do it when it has been away for long.
    pub(super) async fn leave(self) {
        let write = |command: &mut Cmd| {
            command.arg(1).arg(&self.core.keys.stream).arg(GROUP).arg(&*self.consumer);
        };
        let _ = call(&self.core.connection, &LEAVE, write).await;
    }
}

fn write_outcomes(command: &mut Cmd, outcomes: &[Outcome]) {
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    command.arg(count(|outcome| matches!(outcome, Outcome::Done { .. })));
    for outcome in outcomes {
        if let Outcome::Done { entry } = outcome {
            command.arg(entry);
        }
    }
    command.arg(count(|outcome| matches!(outcome, Outcome::Dropped { .. })));
    for outcome in outcomes {
        if let Outcome::Dropped { entry } = outcome {
            command.arg(entry);
        }
    }
    command.arg(count(|outcome| matches!(outcome, Outcome::Again { .. })));
    for outcome in outcomes {
        if let Outcome::Again { entry, memory, delay } = outcome {
            command.arg(entry).arg(memory.text()).arg(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        }
    }
    command.arg(count(|outcome| matches!(outcome, Outcome::Dead { .. })));
    for outcome in outcomes {
        if let Outcome::Dead { entry, memory, reason } = outcome {
            command.arg(entry).arg(memory.text()).arg(reason);
        }
    }
}
