//! Appends of many callers, sent together.

use super::{
    consumption::Counted,
    core::Core,
    error::AppendError,
    message::{Message, Receipt},
    scripts::{APPEND, bytes, call, list, nonsense, number, text},
};
use crate::{
    Rejection,
    error::{QueueFull, QueueFullCause},
    redis::{Connection, Fault, Script},
};
use ::redis::{Cmd, Value};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};
use tokio::sync::{mpsc, oneshot};

/// A message on its way, and who waits for its receipt.
pub(super) struct Pending {
    pub(super) message: Message,
    pub(super) answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

/// While one batch is at the server the next one is made and sent; more at a time would only be smaller.
const IN_FLIGHT: usize = 2;

/// The task that sends batches. It ends when no handle and no producer of the queue is left, and all is answered.
pub(super) struct Batches {
    core: Arc<Core>,
    pending: mpsc::Receiver<Pending>,
    flights: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Batches {
    pub(super) fn new(core: Arc<Core>, pending: mpsc::Receiver<Pending>) -> Self {
        Self { core, pending, flights: FuturesUnordered::new() }
    }

    pub(super) async fn run(mut self) {
        while let Some(first) = self.next().await {
            let batch = self.fill(first);
            if !batch.is_empty() {
                self.flights.push(Box::pin(send(self.core.clone(), batch)));
            }
        }
        while self.flights.next().await.is_some() {}
    }

    /// The first message of a batch, when one may be sent.
    async fn next(&mut self) -> Option<Pending> {
        poll_fn(|cx| {
            while let Poll::Ready(Some(())) = self.flights.poll_next_unpin(cx) {}
            if self.flights.len() < IN_FLIGHT { self.pending.poll_recv(cx) } else { Poll::Pending }
        })
        .await
    }

    fn fill(&mut self, first: Pending) -> Vec<Pending> {
        let limits = &self.core.limits;
        let (mut batch, mut size, mut next) = (Vec::new(), 0, Some(first));
        while let Some(pending) = next {
            let message_size = pending.message.size();
            // Whoever is gone wants it no more.
            if pending.answer.is_closed() {
                self.core.bytes_on_the_way.fetch_sub(message_size, Ordering::Relaxed);
            } else {
                size += message_size;
                batch.push(pending);
            }
            let full = batch.len() >= limits.batch || size >= limits.batch_bytes;
            next = if full { None } else { self.pending.try_recv().ok() };
        }
        batch
    }
}

async fn send(core: Arc<Core>, batch: Vec<Pending>) {
    let (messages, callers): (Vec<Message>, Vec<_>) =
        batch.into_iter().map(|pending| (pending.message, pending.answer)).unzip();
    let size: usize = messages.iter().map(Message::size).sum();
    let answer = append(&core, &core.connection, &messages).await;
    core.bytes_on_the_way.fetch_sub(size, Ordering::Relaxed);
    let mut answers = answer.map(Vec::into_iter);
    for caller in callers {
        let answer = match &mut answers {
            Ok(answers) => answers.next().unwrap_or_else(|| Err(AppendError::unknown(&nonsense()))),
            Err(error) => Err(error.clone()),
        };
        // A caller that is gone has no use for it.
        let _ = caller.send(answer);
    }
}

type Answers = Vec<Result<Receipt, AppendError>>;

async fn append(core: &Core, connection: &Connection, messages: &[Message]) -> Result<Answers, AppendError> {
    let letters: String = messages.iter().map(|message| if message.once.is_some() { 'k' } else { '-' }).collect();
    let keyed = letters.bytes().filter(|letter| *letter == b'k').count();
    let write = |command: &mut Cmd| {
        let keys = &core.keys;
        command.arg(3 + keyed).arg(&keys.stream).arg(&keys.retries).arg(&keys.totals);
        for once in messages.iter().filter_map(|message| message.once.as_ref()) {
            command.arg([keys.once.as_bytes(), once].concat());
        }
        // An expiry of a fraction of a millisecond more is none less.
        let lasts = u64::try_from(core.limits.dedup_for.as_millis()).unwrap_or(u64::MAX);
        command.arg(core.limits.depth).arg(lasts).arg(&letters);
        for message in messages {
            command.arg(&message.payload[..]);
        }
    };
    call_and_read(core, connection, &APPEND, write).await
}

/// Calls a script that appends. What it answered is read in one place.
pub(super) async fn call_and_read(
    core: &Core,
    connection: &Connection,
    script: &Script,
    write: impl Fn(&mut Cmd),
) -> Result<Answers, AppendError> {
    let answer = call(connection, script, write).await.map_err(AppendError::of)?;
    read(core, answer).map_err(|fault| AppendError::unknown(&fault))
}

fn read(core: &Core, answer: Value) -> Result<Answers, Fault> {
    let mut answers = list(answer)?.into_iter();
    let mut next = || number(&answers.next().ok_or_else(nonsense)?);
    let (millis, backlog, appended, ended) = (next()?, next()?, next()?, next()?);
    core.consumption.heard(Counted { millis, backlog, appended, ended });
    answers.map(|answer| Ok(read_one(core, backlog, bytes(answer)?))).collect()
}

fn read_one(core: &Core, backlog: u64, answer: Vec<u8>) -> Result<Receipt, AppendError> {
    let rest = || text(Value::BulkString(answer[1..].to_vec())).map_err(|fault| AppendError::unknown(&fault));
    match answer.first() {
        None => {
            let retry_after = core.consumption.time_for(backlog);
            let full = QueueFull::new(QueueFullCause::Depth, core.limits.depth, retry_after);
            Err(Rejection::from(full).into())
        }
        Some(b'=') => Ok(Receipt { id: rest()?, is_duplicate: true }),
        Some(b'!') => Err(AppendError::Refused { reason: rest()? }),
        Some(_) => {
            let id = text(Value::BulkString(answer)).map_err(|fault| AppendError::unknown(&fault))?;
            Ok(Receipt { id, is_duplicate: false })
        }
    }
}
