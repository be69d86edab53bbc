//! The requests of a worker to Redis, one command or script each.

use super::super::{
    core::{Core, GROUP},
    entry::Entry,
    scripts::{Fields, KEEP, LEAVE, MARK, SETTLE, TEND, call, entries, identity_of, list, millis, nonsense, number},
};
use super::memory::{Memory, Ticket};
use crate::{
    random::Random,
    redis::{Connection, Fault},
};
use ::redis::{Cmd, Value, cmd};
use rand::RngExt;
use std::{sync::Arc, time::Duration};

/// The requests of one worker. Clones belong to the same worker.
#[derive(Clone)]
pub(super) struct Requests {
    core: Arc<Core>,
    /// A connection for the requests for messages, which may block. On the queue's connection the answers to all other
    /// requests would wait behind them.
    waiting: Connection,
    /// The name of this worker in the consumer group.
    consumer: Arc<str>,
}

/// How long a request for messages waits for one. After the beginning of its shutdown, a worker without messages may
/// need up to this time to end.
const WAIT: Duration = Duration::from_millis(200);

/// Whether a request for messages waits for one, if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Not,
    ForOne,
}

/// The end of a delivery: the stream entry, and how the delivery ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) entry: Entry,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    Done,
    Dropped,
    Again { memory: Memory, delay: Duration },
    Dead { memory: Memory, reason: String },
}

impl Outcome {
    /// Returns the outcome of work that is done.
    pub(super) fn done(Ticket { entry, .. }: Ticket) -> Self {
        Self { entry, end: End::Done }
    }

    /// Returns the outcome of a message that was too old.
    pub(super) fn dropped(Ticket { entry, .. }: Ticket) -> Self {
        Self { entry, end: End::Dropped }
    }

    /// Returns the outcome of a message that is delivered again after this time.
    pub(super) fn again(Ticket { entry, memory }: Ticket, delay: Duration) -> Self {
        Self { entry, end: End::Again { memory, delay } }
    }

    /// Returns the outcome of a message that becomes a dead letter.
    pub(super) fn dead(Ticket { entry, memory }: Ticket, reason: String) -> Self {
        Self { entry, end: End::Dead { memory, reason } }
    }
}

impl End {
    /// Returns the index of its kind among the arguments of the script.
    fn place(&self) -> usize {
        match self {
            Self::Done => 0,
            Self::Dropped => 1,
            Self::Again { .. } => 2,
            Self::Dead { .. } => 3,
        }
    }
}

/// The state of a suspect's call, as the takeover script knows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// The call begins. No other call of this worker is in flight, except long calls of other suspects.
    Alone = 2,
    /// The call takes long, and other calls may begin beside it.
    Beside = 3,
}

/// The answer of the `TEND` script.
pub(super) struct Tended {
    /// The server's clock.
    pub(super) millis: u64,
    /// The number of due messages that went back to the stream.
    pub(super) moved: u64,
    /// The time until the next message is due.
    pub(super) next_due: Option<Duration>,
    pub(super) taken: Vec<Taken>,
}

/// A message that the worker has received.
pub(super) struct Taken {
    pub(super) entry: Entry,
    /// The number of workers that died during its calls as a suspect.
    pub(super) deaths: u32,
    /// Whether it may have killed a worker.
    pub(super) is_suspect: bool,
    pub(super) fields: Fields,
}

/// The work of the `TEND` script, beside moving due messages.
#[derive(Clone, Copy)]
pub(super) struct Duties {
    pub(super) make_group: bool,
    /// The idle time after which to take over, and the most messages to take over.
    pub(super) take_over: Option<(Duration, usize)>,
}

/// The most due messages that one call of the `TEND` script moves.
pub(super) const MOST_MOVED: u64 = 500;

impl Requests {
    pub(super) fn new(core: Arc<Core>) -> Self {
        // Not the queue's generator: two processes with the same seed would be one consumer.
        let (high, low): (u64, u64) = Random::new().with(|random| (random.random(), random.random()));
        // At most one of the requests in flight waits, so each is answered within the answer timeout and one `WAIT`.
        let server = core.server.with_answer_timeout(core.limits.answer_timeout.saturating_add(WAIT));
        let waiting = Connection::open_lazily(server, core.random.clone());
        Self { core, waiting, consumer: format!("{high:016x}{low:016x}").into() }
    }

    /// Takes messages.
    pub(super) async fn take(self, count: usize, wait: Wait) -> Result<Vec<Taken>, Fault> {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(&*self.consumer).arg("COUNT").arg(count);
        if wait == Wait::ForOne {
            command.arg("BLOCK").arg(millis(WAIT));
        }
        command.arg("STREAMS").arg(&self.core.keys.stream).arg(">");
        // The first connection gets time to be made, so that a worker that has just started reports no failure of
        // Redis.
        self.waiting.until_it_was_up(WAIT).await;
        let answer = self.waiting.ask(async |connection| command.query_async::<Value>(connection).await).await?;
        let stream = match answer {
            Value::Nil => None,
            Value::Map(streams) => streams.into_iter().next().map(|(_, stream)| stream),
            Value::Array(streams) => match streams.into_iter().next() {
                Some(stream) => Some(list(stream)?.pop().ok_or_else(nonsense)?),
                None => None,
            },
            _ => return Err(nonsense()),
        };
        let taken = |(entry, fields)| Taken { entry, deaths: 0, is_suspect: false, fields };
        Ok(stream.map_or(Ok(Vec::new()), entries)?.into_iter().map(taken).collect())
    }

    /// Ends deliveries. Also returns the outcomes, which the worker sends again after a failure.
    pub(super) async fn settle(self, outcomes: Vec<Outcome>) -> (Vec<Outcome>, Result<(), Fault>) {
        let core = &*self.core;
        let write = |command: &mut Cmd| {
            command.arg(4).arg(&core.keys.of_all()).arg(GROUP).arg(&*self.consumer).arg(core.limits.dead_letters);
            write_outcomes(command, &outcomes);
        };
        let answer = call(&core.connection, &SETTLE, write).await;
        (outcomes, answer.map(drop).map_err(Fault::from))
    }

    /// Moves due messages to the stream, and does these duties.
    pub(super) async fn tend(self, duties: Duties) -> Result<Tended, Fault> {
        let keys = &self.core.keys;
        let (idle, most) = duties.take_over.unwrap_or_default();
        let write = |command: &mut Cmd| {
            command.arg(3).arg(&keys.stream).arg(&keys.retries).arg(&keys.totals).arg(GROUP).arg(&*self.consumer);
            command.arg(u8::from(duties.make_group)).arg(MOST_MOVED);
            command.arg(millis(idle)).arg(most);
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

    /// Tells Redis that the worker still processes these messages. Returns these messages, and the answer of Redis:
    /// those of them that this worker no longer has.
    pub(super) async fn keep(self, held: Vec<Entry>) -> (Vec<Entry>, Result<Vec<Entry>, Fault>) {
        let write = |command: &mut Cmd| {
            command.arg(1).arg(&self.core.keys.stream).arg(GROUP).arg(&*self.consumer).arg(&held);
        };
        let answer = call(&self.core.connection, &KEEP, write).await;
        let lost = |answer| list(answer)?.into_iter().map(identity_of).collect();
        (held, answer.map_err(Fault::from).and_then(lost))
    }

    /// Tells Redis the state of a suspect's call. `false`: this worker no longer has the message.
    pub(super) async fn mark(self, entry: Entry, mark: Mark) -> Result<bool, Fault> {
        let write = |command: &mut Cmd| {
            command.arg(1).arg(&self.core.keys.stream).arg(GROUP).arg(&*self.consumer).arg(entry).arg(mark as u8);
        };
        Ok(number(&call(&self.core.connection, &MARK, write).await?)? == 1)
    }

    /// Removes the consumer if it has no messages. If that fails, another worker removes the consumer once it has been
    /// idle for more than ten times that worker's `takeover_after`.
    pub(super) async fn leave(self) {
        let write = |command: &mut Cmd| {
            command.arg(1).arg(&self.core.keys.stream).arg(GROUP).arg(&*self.consumer);
        };
        let _ = call(&self.core.connection, &LEAVE, write).await;
    }
}

fn write_outcomes(command: &mut Cmd, outcomes: &[Outcome]) {
    for place in 0..4 {
        let of_this_kind = || outcomes.iter().filter(|outcome| outcome.end.place() == place);
        command.arg(of_this_kind().count());
        for Outcome { entry, end } in of_this_kind() {
            command.arg(entry);
            match end {
                End::Done | End::Dropped => {}
                End::Again { memory, delay } => {
                    command.arg(memory.text()).arg(millis(*delay));
                }
                End::Dead { memory, reason } => {
                    command.arg(memory.text()).arg(reason);
                }
            }
        }
    }
}
