//! Batches the appends of many callers.

use super::{
    consumption::Counted,
    core::{Core, Limits},
    error::AppendError,
    message::{Message, Receipt},
    scripts::{APPEND, bytes, call, list, millis, nonsense, number, text},
};
use crate::{
    answer::answer,
    error::{QueueFull, QueueFullCause, Rejection},
    redis::{Connection, Duty, Fault, OnDuty, Script, bare},
    sync::{Mutex, lock},
};
use ::redis::{Cmd, Value};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};
use tokio::{runtime::Handle, sync::oneshot, task::coop::consume_budget, time::Instant};

/// A message to send, and the channel for the answer to its producer.
pub(super) struct Pending {
    pub(super) message: Message,
    pub(super) weight: Weight,
    pub(super) answer: oneshot::Sender<Answered>,
}

/// The answer to a producer.
pub(super) enum Answered {
    Appended(Result<Receipt, AppendError>),
    /// The message was not sent, and is returned: the runtime of the sending task has ended.
    Back(Message, Weight),
}

/// The bytes of a message on the way to Redis. Dropping the weight subtracts them from the count of all messages.
#[derive(Debug)]
pub(super) struct Weight {
    bytes: Arc<AtomicUsize>,
    size: usize,
}

impl Weight {
    /// Counts these bytes, if there is room. While no other message is on the way, a message may be longer than the
    /// limit; otherwise it could never be sent.
    pub(super) fn add(core: &Core, size: usize) -> Option<Self> {
        let before = core.bytes_on_the_way.fetch_add(size, Ordering::Relaxed);
        let weight = Self { bytes: core.bytes_on_the_way.clone(), size };
        (before == 0 || before.saturating_add(size) <= core.limits.bytes_on_the_way).then_some(weight)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// The messages that wait to be sent. One task sends all of them, in the runtime of the producer that handed over the
/// first.
#[derive(Default)]
pub(super) struct SendQueue(Mutex<SendQueueState>);

#[derive(Default)]
struct SendQueueState {
    pending: VecDeque<Pending>,
    /// The waker of the sending task, while the task waits for messages.
    waker: Option<Waker>,
    /// The [`Duty`] to send: at most one task has it. The producer that spawns a task takes the duty for it, and the
    /// task ends the duty. Both do so under the lock, so that no message is left without a task.
    sending: Arc<Duty>,
}

/// The result of handing over a message.
pub(super) enum Handed {
    Over(oneshot::Receiver<Answered>),
    /// The queue of unsent messages is full.
    Full,
    /// There is no sending task, and no runtime for one.
    NoRuntime(Message, Weight),
}

/// Hands a message to the sending task, and spawns that task if there is none.
pub(super) fn hand_over(core: &Arc<Core>, message: Message, weight: Weight) -> Handed {
    // Each call of Redis ends within this time, so the sending task is polled within it while its runtime runs. If the
    // task was not polled for longer, this producer takes the runtime of the task to have ended, and spawns another
    // task.
    let patience = core.limits.answer_timeout.saturating_add(core.server.connect_timeout()).saturating_mul(2);
    let mut state = lock(&core.send_queue.0);
    let begun = match state.sending.begin(patience, Instant::now()) {
        None => None,
        Some(duty) => match Handle::try_current() {
            Ok(handle) => Some((handle, duty)),
            Err(_) => return Handed::NoRuntime(message, weight),
        },
    };
    let handed = if state.pending.len() < core.limits.on_the_way {
        let (answer, receiver) = oneshot::channel();
        state.pending.push_back(Pending { message, weight, answer });
        Handed::Over(receiver)
    } else {
        Handed::Full
    };
    let waker = state.waker.take();
    drop(state);
    if let Some((handle, duty)) = begun {
        handle.spawn(Batches::new(core.clone(), duty).run());
    } else if let Some(waker) = waker {
        waker.wake();
    }
    handed
}

/// The most batches that one sending task has in flight. While one batch is at the server, the task builds and sends
/// the next one. With more in flight, each batch would be smaller.
const IN_FLIGHT: usize = 2;

/// The sending task. It ends once no message is left to send and all are answered. A task that another task has
/// relieved sends nothing more, and ends once its own batches are answered.
///
/// If it is dropped with its runtime, it returns the unsent messages: each producer hands its message over again, in
/// its own runtime. The results of the batches in flight are unknown.
struct Batches {
    core: Arc<Core>,
    /// `None` once the task has ended its duty.
    duty: Option<OnDuty>,
    flights: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Batches {
    fn new(core: Arc<Core>, duty: OnDuty) -> Self {
        Self { core, duty: Some(duty), flights: FuturesUnordered::new() }
    }

    async fn run(mut self) {
        while let Some(batch) = self.next().await {
            self.flights.push(Box::pin(send(self.core.clone(), batch)));
            consume_budget().await;
        }
    }

    /// Waits until a batch may be sent, and returns it. `None`: the task ends.
    async fn next(&mut self) -> Option<Vec<Pending>> {
        poll_fn(|cx| {
            while let Poll::Ready(Some(())) = self.flights.poll_next_unpin(cx) {}
            let is_on_duty = self.duty.as_ref().is_some_and(|duty| duty.goes_on(Instant::now()));
            if is_on_duty && self.flights.len() < IN_FLIGHT {
                let mut state = lock(&self.core.send_queue.0);
                let (batch, gone) = fill(&mut state.pending, &self.core.limits);
                if !batch.is_empty() {
                    drop(state);
                    drop(gone);
                    return Poll::Ready(Some(batch));
                }
                if self.flights.is_empty() {
                    self.duty = None;
                } else {
                    state.waker = Some(cx.waker().clone());
                }
                drop(state);
                drop(gone);
            }
            // A task that another task has relieved waits only for its own batches.
            if self.flights.is_empty() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        let Some(duty) = self.duty.take() else { return };
        let mut state = lock(&self.core.send_queue.0);
        // Another task has relieved this one, and sends the unsent messages.
        if !duty.goes_on(Instant::now()) {
            return;
        }
        let pending = mem::take(&mut state.pending);
        drop(duty);
        drop(state);
        for Pending { message, weight, answer: caller } in pending {
            // The send fails if the caller has gone.
            answer(caller, Answered::Back(message, weight));
        }
    }
}

/// Takes the messages of a batch. Returns separately those whose callers have gone, to be dropped without the lock.
fn fill(pending: &mut VecDeque<Pending>, limits: &Limits) -> (Vec<Pending>, Vec<Pending>) {
    let (mut batch, mut gone, mut size) = (Vec::new(), Vec::new(), 0);
    while batch.len() < limits.batch && size < limits.batch_bytes {
        let Some(next) = pending.pop_front() else { break };
        if next.answer.is_closed() {
            gone.push(next);
        } else {
            size += next.message.size();
            batch.push(next);
        }
    }
    (batch, gone)
}

async fn send(core: Arc<Core>, batch: Vec<Pending>) {
    let (mut messages, mut weights, mut callers) = (Vec::new(), Vec::new(), Vec::new());
    for Pending { message, weight, answer } in batch {
        messages.push(message);
        weights.push(weight);
        callers.push(answer);
    }
    let results = append(&core, &core.connection, &messages).await;
    drop(weights);
    let mut results = results.map(Vec::into_iter);
    for caller in callers {
        let result = match &mut results {
            Ok(results) => results.next().unwrap_or_else(|| Err(AppendError::unknown(&nonsense()))),
            Err(error) => Err(error.clone()),
        };
        // The send fails if the caller has gone.
        answer(caller, Answered::Appended(result));
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
        // A remainder below one millisecond is negligible for an expiry.
        let lasts = millis(core.limits.dedup_for);
        command.arg(core.limits.depth).arg(lasts).arg(&letters);
        for message in messages {
            command.arg(&message.payload[..]);
        }
    };
    call_and_read(core, connection, &APPEND, write).await
}

/// Calls an append script, and reads its answer.
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
    core.consumption.learn(Counted { millis, backlog, appended, ended });
    answers.map(|answer| Ok(read_one(core, backlog, bytes(answer)?))).collect()
}

/// Reads the answer for one message, as `append.lua` describes it. An empty answer: the queue is full.
fn read_one(core: &Core, backlog: u64, answer: Vec<u8>) -> Result<Receipt, AppendError> {
    let rest = || text(Value::BulkString(answer[1..].to_vec())).map_err(|fault| AppendError::unknown(&fault));
    match answer.first() {
        None => {
            let retry_after = core.consumption.time_for(backlog);
            let full = QueueFull::new(QueueFullCause::Depth, core.limits.depth, retry_after);
            Err(Rejection::from(full).into())
        }
        Some(b'=') => Ok(Receipt { id: rest()?, is_duplicate: true }),
        Some(b'!') => Err(AppendError::Refused { reason: bare(&rest()?).to_owned() }),
        Some(_) => {
            let id = text(Value::BulkString(answer)).map_err(|fault| AppendError::unknown(&fault))?;
            Ok(Receipt { id, is_duplicate: false })
        }
    }
}
