use super::{
    DeadLetter, DurableQueue, QueueError,
    consumption::Counted,
    core::{Core, GROUP},
    entry::Entry,
    scripts::{READINGS, bytes, call, entries, list, nonsense, number},
    worker::Memory,
};
use crate::{load_level::DrainTime, redis::Fault};
use ::redis::{Cmd, Value, cmd};
use std::time::Duration;

/// The content of a queue at one moment, and its totals since its data was created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueReadings {
    /// The messages that wait in the stream for a worker, including redelivered ones.
    pub waiting: u64,
    /// The messages that workers have taken and not finished.
    pub in_progress: u64,
    /// The messages that wait for another try.
    pub waiting_for_retry: u64,
    /// The dead letters that are kept.
    pub dead_letters: u64,
    /// The age of the first message of the stream, waiting or in progress: the time since its first append, by the
    /// server's clock. A redelivered message goes to the end of the stream, so the oldest message may be behind the
    /// first one, and older than this. `None` if no message is waiting or in progress.
    pub oldest: Option<Duration>,
    /// All messages that were appended. A revived dead letter counts again; duplicates and redeliveries do not count.
    pub appended: u64,
    /// All messages that were processed with success.
    pub acknowledged: u64,
    /// The number of redeliveries. A worker puts a message back after a failure or a rejection, or when the worker
    /// ends. Other workers take over the messages of a worker that died.
    pub redelivered: u64,
    /// All messages that became dead letters.
    pub dead: u64,
    /// All messages that were dropped because they were too old.
    pub dropped_for_age: u64,
    /// The dead letters that were removed because there were too many.
    pub dead_letters_trimmed: u64,
    /// The time until the backlog is gone, at the rates of the last ten seconds. This handle and its clones learn the
    /// rates from the answers of Redis to readings and appends. [`Unknown`](DrainTime::Unknown) until there are enough
    /// answers for rates, as with a first reading. [`Never`](DrainTime::Never) also if no message of the backlog has
    /// ended for ten seconds.
    pub drain_time: DrainTime,
}

impl QueueReadings {
    /// Returns the number of messages that count towards the depth: waiting, in progress, and waiting for another try.
    pub fn backlog(&self) -> u64 {
        self.waiting.saturating_add(self.in_progress).saturating_add(self.waiting_for_retry)
    }
}

impl DurableQueue {
    /// Reads the queue from Redis, with one script that takes about 20 µs.
    ///
    /// # Errors
    ///
    /// A [`QueueError`] if there is no connection, or if the server does not answer or refuses.
    pub async fn readings(&self) -> Result<QueueReadings, QueueError> {
        let core = &*self.core;
        let write = |command: &mut Cmd| {
            command.arg(4).arg(&core.keys.of_all()).arg(GROUP);
        };
        Ok(read(core, call(&core.connection, &READINGS, write).await?)?)
    }

    /// Reads the oldest dead letters, at most `count`, with one command whose answer contains all of them.
    ///
    /// # Errors
    ///
    /// As [`readings`](Self::readings).
    pub async fn dead_letters(&self, count: usize) -> Result<Vec<DeadLetter>, QueueError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut command = cmd("XRANGE");
        command.arg(&self.core.keys.dead).arg("-").arg("+").arg("COUNT").arg(count);
        let answer =
            self.core.connection.ask(async |connection| command.query_async::<Value>(connection).await).await?;
        let letters = entries(answer)?.into_iter().map(|(id, fields)| {
            let memory = Memory::of(id, fields.memory.as_deref());
            let reason = String::from_utf8_lossy(&fields.reason.unwrap_or_default()).into_owned();
            DeadLetter {
                id: id.to_string(),
                message_id: memory.id.to_string(),
                payload: fields.payload,
                attempts: memory.failed,
                reason,
            }
        });
        Ok(letters.collect())
    }
}

fn read(core: &Core, answer: Value) -> Result<QueueReadings, Fault> {
    let answer: [Value; 12] = list(answer)?.try_into().map_err(|_| nonsense())?;
    let oldest = bytes(answer[5].clone())?;
    let numbers: Vec<u64> = answer.iter().map(|value| number(value).unwrap_or(0)).collect();
    let [millis, stream, in_progress, waiting_for_retry, dead_letters, _, rest @ ..] = &*numbers else {
        return Err(nonsense());
    };
    let &[appended, acknowledged, redelivered, dead, dropped_for_age, dead_letters_trimmed] = rest else {
        return Err(nonsense());
    };
    let appended_at = Memory::parse(&oldest).map(|memory| memory.id).or_else(|| Entry::parse(&oldest));
    let appended_at = appended_at.map_or(0, |id| id.millis);
    let oldest = (!oldest.is_empty()).then(|| Duration::from_millis(millis.saturating_sub(appended_at)));
    let ended = acknowledged.saturating_add(dead).saturating_add(dropped_for_age);
    core.consumption.learn(Counted {
        millis: *millis,
        backlog: stream.saturating_add(*waiting_for_retry),
        appended,
        ended,
    });
    Ok(QueueReadings {
        waiting: stream.saturating_sub(*in_progress),
        in_progress: *in_progress,
        waiting_for_retry: *waiting_for_retry,
        dead_letters: *dead_letters,
        oldest,
        appended,
        acknowledged,
        redelivered,
        dead,
        dropped_for_age,
        dead_letters_trimmed,
        drain_time: core.consumption.drain_time(),
    })
}
