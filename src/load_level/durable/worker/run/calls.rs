//! The tasks in which calls run.
//!
//! Each task makes one call after the other. It takes the next message from a queue that all tasks share, and waits
//! while the queue is empty. Spawning a task for each call would cost a worker with short calls about a quarter of its
//! throughput.
//!
//! A call that blocks its thread delays no other call, because of two invariants:
//!
//! - There are at least as many tasks as calls in progress.
//! - Each message in the queue has a permit of the semaphore, or a task. The task has taken the permit, and has not
//!   looked into the queue since.

use super::super::{
    call::{Caller, Verdict},
    memory::Ticket,
};
use crate::{
    load_level::durable::message::Delivery,
    panics::discard,
    sync::{Mutex, lock},
};
use futures_util::FutureExt;
use std::{
    any::Any,
    collections::VecDeque,
    future::{Future, poll_fn},
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, yield_now},
    time::Instant,
};

/// A task yields its thread after this number of calls that end without waiting.
const TURN: u32 = 32;
/// A task also yields after a call that ends later than this after the beginning of the task's [turn](TaskTurn).
const TURN_TIME: Duration = Duration::from_millis(1);

/// All calls of a worker. Dropping it stops them.
pub(super) struct Calls {
    shared: Arc<CallsShared>,
    tasks: JoinSet<()>,
    /// The calls that were handed to the tasks and whose ends have not been collected.
    in_flight: usize,
}

/// A message and its delivery, for a call that begins.
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) delivery: Delivery,
}

struct CallsShared {
    state: Mutex<CallsState>,
    /// Permits to look for a job. The second invariant of this file says how they belong to the jobs.
    permits: Semaphore,
}

#[derive(Default)]
struct CallsState {
    jobs: VecDeque<Job>,
    ended: Vec<(Ticket, Verdict)>,
    /// The waker of the worker's loop, while it waits for ends.
    collector: Option<Waker>,
}

impl Calls {
    pub(super) fn new() -> Self {
        let shared = CallsShared { state: Mutex::default(), permits: Semaphore::new(0) };
        Self { shared: Arc::new(shared), tasks: JoinSet::new(), in_flight: 0 }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Hands calls to the tasks, and spawns the tasks that are missing.
    pub(super) fn begin<C: Caller>(&mut self, jobs: Vec<Job>, caller: &Arc<C>) {
        if jobs.is_empty() {
            return;
        }
        self.in_flight += jobs.len();
        let waiting = self.shared.put(jobs);
        self.shared.permits.add_permits(waiting.saturating_sub(self.shared.permits.available_permits()));
        // A task that has ended makes no calls, but counts until it is joined.
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() < self.in_flight {
            self.tasks.spawn(make_calls(self.shared.clone(), caller.clone()));
        }
    }

    /// Moves the calls that have ended to `ended`, which must be empty. Returns whether there are any. If not, the task
    /// of `cx` is woken when there are.
    pub(super) fn poll_ended(&mut self, ended: &mut Vec<(Ticket, Verdict)>, cx: &mut Context<'_>) -> bool {
        let mut state = lock(&self.shared.state);
        if state.ended.is_empty() {
            if !state.collector.as_ref().is_some_and(|collector| collector.will_wake(cx.waker())) {
                state.collector = Some(cx.waker().clone());
            }
            return false;
        }
        mem::swap(&mut state.ended, ended);
        drop(state);
        self.in_flight -= ended.len();
        true
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // A task that polls a call at this moment stops only after that poll. It must not find another job then.
        lock(&self.shared.state).jobs.clear();
    }
}

impl CallsShared {
    /// Adds jobs to the queue. Returns the length of the queue.
    fn put(&self, jobs: Vec<Job>) -> usize {
        let mut state = lock(&self.state);
        state.jobs.extend(jobs);
        state.jobs.len()
    }

    fn next(&self) -> Option<Job> {
        lock(&self.state).jobs.pop_front()
    }

    fn end(&self, ticket: Ticket, verdict: Verdict) {
        lock(&self.state).ended.push((ticket, verdict));
    }

    /// Wakes the worker's loop if calls have ended. Call it only just before the task yields or waits. Tokio may queue
    /// the woken loop behind this task, where no other thread can steal it: the loop then runs only once this task
    /// yields or waits.
    fn wake_collector(&self) {
        let mut state = lock(&self.state);
        let collector = if state.ended.is_empty() { None } else { state.collector.take() };
        drop(state);
        collector.into_iter().for_each(Waker::wake);
    }
}

/// A call in progress. If its task ends first, the call counts as failed.
struct InProgress<'a> {
    shared: &'a CallsShared,
    ticket: Option<Ticket>,
}

impl InProgress<'_> {
    fn end(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.end(ticket, verdict);
        }
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.end(ticket, Verdict::Failed { reason: "the task of the call has ended".to_owned() });
            self.shared.wake_collector();
        }
    }
}

/// The calls that a task has made since it last yielded its thread or waited.
#[derive(Default)]
struct TaskTurn {
    calls: u32,
    /// When the task polled its first call of this turn.
    began: Option<Instant>,
}

impl TaskTurn {
    fn is_over(&self) -> bool {
        self.calls >= TURN || self.began.is_some_and(|began| Instant::now() >= began + TURN_TIME)
    }
}

async fn make_calls<C: Caller>(shared: Arc<CallsShared>, caller: Arc<C>) {
    while let Ok(permit) = shared.permits.acquire().await {
        permit.forget();
        let mut turn = TaskTurn::default();
        while let Some(Job { ticket, delivery }) = shared.next() {
            let in_progress = InProgress { shared: &shared, ticket: Some(ticket) };
            let mut call = pin!(AssertUnwindSafe(caller.call(delivery)).catch_unwind());
            let ended = poll_fn(|cx| {
                turn.began.get_or_insert_with(Instant::now);
                let polled = call.as_mut().poll(cx);
                if polled.is_pending() && mem::take(&mut turn).calls > 0 {
                    shared.wake_collector();
                }
                polled
            });
            in_progress.end(ended.await.unwrap_or_else(of_panic));
            turn.calls += 1;
            if turn.is_over() {
                shared.wake_collector();
                yield_now().await;
                break;
            }
        }
        // The task may wait now.
        shared.wake_collector();
    }
}

/// Returns the verdict on a call that panicked. Dropping the payload of the panic runs user code, which may panic as
/// well.
fn of_panic(payload: Box<dyn Any + Send>) -> Verdict {
    let verdict = Verdict::of_panic(&*payload);
    discard(payload);
    verdict
}

#[cfg(test)]
mod tests;
