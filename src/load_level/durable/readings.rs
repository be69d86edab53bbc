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

/// The content of a queue at one moment, and its totals since its data began.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueReadings {
    /// The messages that no worker has taken yet.
    pub waiting: u64,
    /// The messages that workers have taken and not ended.
    pub in_progress: u64,
    /// The messages that wait for another try.
    pub waiting_for_retry: u64,
    /// The dead letters that are kept.
    pub dead_letters: u64,
    /// The time since the first of those that are waiting or in progress was appended first, by the server's clock. A
    /// message that comes again is behind others, and may be older.
    pub oldest: Option<Duration>,
    /// All that were appended; what was there already and what is delivered again is not counted.
    pub appended: u64,
    /// All that were worked on with success.
    pub acknowledged: u64,
    /// How often a message was put back, after a failure, a rejection, or by a worker that ended; or was taken over
    /// from a worker that died.
    pub redelivered: u64,
    /// All that became dead letters.
    pub dead: u64,
    /// All that were dropped since they were too old.
    pub dropped_for_age: u64,
    /// The dead letters that had to make way for later ones.
    pub dead_letters_trimmed: u64,
    /// When the backlog is gone, by what this handle and its clones have heard of the queue with readings and appends
    /// of the last ten seconds: unknown with the first. Never also where nothing has ended for ten seconds.
    pub drain_time: DrainTime,
}

impl QueueReadings {
    /// The messages that count towards the depth: waiting, in progress, and waiting for another try.
    pub fn backlog(&self) -> u64 {
        self.waiting.saturating_add(self.in_progress).saturating_add(self.waiting_for_retry)
    }
}

impl DurableQueue {
    /// Asks Redis what is in the queue: one script that takes about 20 µs.
    ///
    /// # Errors
    ///
    /// A [`QueueError`] where there is no connection, and where the server does not answer or refuses.
    pub async fn readings(&self) -> Result<QueueReadings, QueueError> {
        let core = &*self.core;
        let write = |command: &mut Cmd| {
            command.arg(4).arg(&core.keys.of_all()).arg(GROUP);
        };
        Ok(read(core, call(&core.connection, &READINGS, write).await?)?)
    }

    /// The oldest dead letters, at most `count`: one command, whose answer has them all.
    ///
    /// # Errors
    ///
    /// As of [`readings`](Self::readings).
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
    core.consumption.heard(Counted {
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
