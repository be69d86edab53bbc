//! The tasks in which calls run.
//!
//! A lane is a task that makes one call after the other. To wake one that has nothing to do costs a part of what a new
//! task does, and calls that end at once cost not even that. For each call that waits a lane is on its way, so that one
//! which blocks its thread holds up no other.

use super::{
    super::call::{Verdict, call},
    Ticket,
};
use crate::{
    load_level::durable::{error::BoxError, message::Delivery},
    sync::{Mutex, lock},
};
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    task::{JoinSet, yield_now},
    time::Instant,
};
use tower::Service;

/// So many calls that end at once, or for so long, a lane makes before it lets others have its thread.
const TURN: u32 = 32;
const TURN_TIME: Duration = Duration::from_millis(1);

/// All lanes of a worker. Dropped, it stops the calls.
pub(super) struct Lanes {
    desk: Arc<Desk>,
    tasks: JoinSet<()>,
    /// The calls that were begun and whose ends were not collected.
    in_flight: usize,
}

/// A message whose call begins.
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) delivery: Delivery,
}

/// Where lanes get calls and leave their ends.
#[derive(Default)]
struct Desk(Mutex<OnDesk>);

#[derive(Default)]
struct OnDesk {
    /// At most as many as lanes are coming.
    jobs: VecDeque<Job>,
    ended: Vec<(Ticket, Verdict)>,
    /// Who collects the ends, while there are none.
    collector: Option<Waker>,
    lanes: Vec<Lane>,
    /// The numbers of those that are idle.
    idle: Vec<usize>,
    /// How many are coming.
    coming: usize,
}

enum Lane {
    /// Was made or woken, and has not looked for a call since then.
    Coming,
    Working,
    Idle(Waker),
    Gone,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { desk: Arc::default(), tasks: JoinSet::new(), in_flight: 0 }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Begins calls.
    pub(super) fn begin<Decode, T, E, S>(&mut self, jobs: Vec<Job>, decode: &Arc<Decode>, service: &Arc<Mutex<S>>)
    where
        Decode: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        if jobs.is_empty() {
            return;
        }
        self.in_flight += jobs.len();
        let (woken, new) = lock(&self.desk.0).put(jobs);
        woken.into_iter().for_each(Waker::wake);
        for number in new {
            self.tasks.spawn(work(self.desk.clone(), number, decode.clone(), service.clone()));
        }
    }

    /// Adds the calls that have ended to the empty list.
    pub(super) fn poll_ended(&mut self, ended: &mut Vec<(Ticket, Verdict)>, cx: &mut Context<'_>) -> bool {
        let mut desk = lock(&self.desk.0);
        if desk.ended.is_empty() {
            if !desk.collector.as_ref().is_some_and(|collector| collector.will_wake(cx.waker())) {
                desk.collector = Some(cx.waker().clone());
            }
            return false;
        }
        mem::swap(&mut desk.ended, ended);
        drop(desk);
        self.in_flight -= ended.len();
        true
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // One that is at work just now would go on with them.
        lock(&self.desk.0).jobs.clear();
    }
}

impl OnDesk {
    /// Puts calls there. Answers whom to wake for them, and which lanes to make.
    fn put(&mut self, jobs: Vec<Job>) -> (Vec<Waker>, Vec<usize>) {
        self.jobs.extend(jobs);
        let (mut woken, mut new) = (Vec::new(), Vec::new());
        while self.coming < self.jobs.len() {
            self.coming += 1;
            let Some(number) = self.idle.pop() else {
                new.push(self.lanes.len());
                self.lanes.push(Lane::Coming);
                continue;
            };
            if let Lane::Idle(waker) = mem::replace(&mut self.lanes[number], Lane::Coming) {
                woken.push(waker);
            }
        }
        (woken, new)
    }

    fn set(&mut self, number: usize, lane: Lane) {
        match mem::replace(&mut self.lanes[number], lane) {
            Lane::Coming => self.coming -= 1,
            // Something that an earlier call left behind has woken it.
            Lane::Idle(_) => self.idle.retain(|idle| *idle != number),
            Lane::Working | Lane::Gone => {}
        }
    }
}

impl Desk {
    fn poll_job(&self, number: usize, cx: &mut Context<'_>) -> Poll<Job> {
        let mut desk = lock(&self.0);
        if let Some(job) = desk.jobs.pop_front() {
            desk.set(number, Lane::Working);
            return Poll::Ready(job);
        }
        desk.set(number, Lane::Idle(cx.waker().clone()));
        desk.idle.push(number);
        let collector = if desk.ended.is_empty() { None } else { desk.collector.take() };
        drop(desk);
        collector.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    /// Says that calls have ended. Only before a lane leaves its thread: who is woken may have to wait for just that.
    fn tell(&self) {
        let collector = lock(&self.0).collector.take();
        collector.into_iter().for_each(Waker::wake);
    }
}

/// A lane with a call. Dropped with its ticket, the task has ended before the call.
struct Working<'a> {
    desk: &'a Desk,
    number: usize,
    ticket: Option<Ticket>,
}

impl Working<'_> {
    fn ended(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            lock(&self.desk.0).ended.push((ticket, verdict));
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut desk = lock(&self.desk.0);
        desk.ended.push((ticket, Verdict::Failed { reason: "its task has ended".to_owned() }));
        desk.set(self.number, Lane::Gone);
        let collector = desk.collector.take();
        drop(desk);
        collector.into_iter().for_each(Waker::wake);
    }
}

async fn work<Decode, T, E, S>(desk: Arc<Desk>, number: usize, decode: Arc<Decode>, service: Arc<Mutex<S>>)
where
    Decode: Fn(Delivery) -> Result<T, E>,
    E: Into<BoxError>,
    S: Service<T> + Clone,
    S::Error: Into<BoxError>,
{
    loop {
        let mut job = Some(poll_fn(|cx| desk.poll_job(number, cx)).await);
        let (mut calls, mut began) = (0, None);
        while let Some(Job { ticket, delivery }) = job.take() {
            let working = Working { desk: &desk, number, ticket: Some(ticket) };
            let mut future = pin!(Some(call(delivery, &*decode, &*service)));
            let verdict = poll_fn(|cx| {
                began.get_or_insert_with(Instant::now);
                let poll = || future.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(cx));
                let polled = match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(polled) => polled,
                    Err(payload) => Poll::Ready(Verdict::of_panic(&*payload)),
                };
                if polled.is_pending() && mem::take(&mut calls) > 0 {
                    desk.tell();
                }
                // The next turn begins when it is polled again.
                began = began.filter(|_| polled.is_ready());
                polled
            })
            .await;
            let dropped = catch_unwind(AssertUnwindSafe(|| future.set(None)));
            working.ended(dropped.map_or_else(|payload| Verdict::of_panic(&*payload), |()| verdict));
            calls += 1;
            if calls >= TURN || began.is_some_and(|began| Instant::now() >= began + TURN_TIME) {
                desk.tell();
                yield_now().await;
                break;
            }
            job = lock(&desk.0).jobs.pop_front();
        }
    }
}
