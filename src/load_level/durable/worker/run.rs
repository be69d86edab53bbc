//! A worker and its loop. One task owns all of the worker's state. Calls run in other tasks, so that a call which
//! blocks its thread does not stop the worker from keeping messages alive.
//!
//! | phase | what happens | next phase |
//! |---|---|---|
//! | `Working` | `shutdown` ends | `Draining` |
//! | `Draining` | no call is in progress, or the last one ends | `Closing` |
//! | `Closing` | Redis has confirmed every end and each message given back, or the takeover time has passed | the end |
//!
//! While it runs, the worker sends five kinds of requests to Redis. Each kind has a state and a file of its own:
//! [`taking`] messages, [`settling`] their ends, [`tending`] the queue, [`keeping`] messages alive, and marking
//! suspects that are called [`alone`]. [`health`] says when the worker may ask Redis at all, and [`schedule`] when the
//! loop runs next.
//!
//! A message arrives with `taking` or `tending` and waits in [`waiting`]. [`starting`] begins its call in a task of
//! [`calls`]. The call ends in [`ends`], which hands its outcome to `settling`.

mod alone;
mod calls;
mod ends;
mod health;
mod keeping;
mod schedule;
mod settling;
mod starting;
mod taking;
mod tending;
mod waiting;

use super::{
    call::{Target, Verdict},
    memory::Ticket,
    report::{WorkerMonitor, WorkerReport, WorkerShared},
    requests::Requests,
    settings::Settings,
};
use crate::{
    load_level::durable::{core::Core, error::BoxError, message::Delivery},
    sync::Mutex,
};
use alone::Alone;
use calls::Calls;
use health::Health;
use keeping::Keeping;
use settling::Settling;
use starting::Starting;
use std::{
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};
use taking::Taking;
use tending::Tending;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;
use waiting::WaitingMessages;

/// A request to Redis in flight.
type Asking<Answer> = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The state of a running worker.
struct Run<C> {
    core: Arc<Core>,
    settings: Settings,
    caller: Arc<C>,
    shared: Arc<WorkerShared>,
    requests: Requests,
    report: WorkerReport,
    phase: Phase,

    waiting: WaitingMessages,
    starting: Starting,
    calls: Calls,
    /// A buffer for the ends of calls. Empty between two polls.
    ended: Vec<(Ticket, Verdict)>,

    health: Health,
    taking: Taking,
    settling: Settling,
    tending: Tending,
    keeping: Keeping,
    alone: Alone,
}

/// See the transition table of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Takes messages and calls the service.
    Working,
    /// Asks for no more messages, and begins no call. Calls are in progress.
    Draining,
    /// Since the instant `since` no call is in progress. The worker waits until Redis has confirmed every end and each
    /// message given back.
    Closing { since: Instant },
}

/// Takes messages from a queue and calls a service with each. Made by
/// [`DurableQueue::worker`](super::super::DurableQueue::worker).
///
/// It does nothing until it [runs](Self::run).
pub struct Worker<Decode, S> {
    pub(super) core: Arc<Core>,
    pub(super) settings: Settings,
    pub(super) decode: Arc<Decode>,
    pub(super) service: Arc<Mutex<S>>,
    pub(super) shared: Arc<WorkerShared>,
}

impl<Decode, S> Worker<Decode, S> {
    /// Returns a monitor, which reads the worker's state while it runs and after its end.
    pub fn monitor(&self) -> WorkerMonitor {
        WorkerMonitor(self.shared.clone())
    }

    /// Works until `shutdown` ends. Then it takes no more messages, and lets the calls in progress end. It reports
    /// these ends to Redis, gives back the messages whose calls have not begun, and returns its totals.
    ///
    /// No failure of Redis ends it earlier. At its end it waits for Redis for at most the time after which others [take
    /// over](super::WorkerBuilder::takeover_after), counted from the end of the last call. That time does not include
    /// the last request, which removes the worker from the consumer group.
    ///
    /// Dropping the future stops the worker and its calls at once; others take over its messages after the takeover
    /// time. The future must be polled to keep the messages alive, best in a task of its own.
    pub async fn run<T, E>(self, shutdown: impl Future<Output = ()>) -> WorkerReport
    where
        Decode: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let Self { core, settings, decode, service, shared } = self;
        let caller = Target { decode, service, decodes_to: PhantomData };
        let mut run = Run::new(core, settings, shared, caller, Instant::now());
        let mut shutdown = pin!(shutdown);
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            let now = Instant::now();
            run.begin_calls(now);
            run.ask(now);
            run.publish();
            if run.is_over(now) {
                break;
            }
            timer.as_mut().reset(run.next_tick(now));
            poll_fn(|cx| run.poll(shutdown.as_mut(), timer.as_mut(), cx)).await;
        }
        run.report.unconfirmed = run.keeping.held() as u64;
        run.requests.clone().leave().await;
        run.publish();
        run.report
    }
}

impl<Decode, S> fmt::Debug for Worker<Decode, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Worker");
        debug.field("stream", &self.core.keys.stream).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<C> Run<C> {
    fn new(core: Arc<Core>, settings: Settings, shared: Arc<WorkerShared>, caller: C, now: Instant) -> Self {
        Self {
            requests: Requests::new(core.clone()),
            report: WorkerReport::default(),
            phase: Phase::Working,
            waiting: WaitingMessages::default(),
            starting: Starting::new(settings.pace, now),
            calls: Calls::new(),
            ended: Vec::new(),
            health: Health::new(now),
            taking: Taking::default(),
            settling: Settling::default(),
            tending: Tending::new(now),
            keeping: Keeping::new(now),
            alone: Alone::default(),
            core,
            settings,
            caller: Arc::new(caller),
            shared,
        }
    }

    /// Sends the requests to Redis that are due.
    fn ask(&mut self, now: Instant) {
        self.give_back();
        if self.health.may_ask(now) {
            self.keep(now);
            self.settle();
            if self.phase == Phase::Working {
                self.tend(now);
                self.take();
            }
        }
    }

    /// Handles all events. Ready if there were any, or if the timer has ended.
    fn poll<Shutdown>(&mut self, shutdown: Pin<&mut Shutdown>, timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()>
    where
        Shutdown: Future<Output = ()>,
    {
        let now = Instant::now();
        let mut has_happened = false;
        // Working => Draining
        if self.phase == Phase::Working && shutdown.poll(cx).is_ready() {
            self.phase = Phase::Draining;
            has_happened = true;
        }
        if self.calls.poll_ended(&mut self.ended, cx) {
            has_happened = true;
            let mut ended = mem::take(&mut self.ended);
            for (ticket, verdict) in ended.drain(..) {
                self.ended(ticket, verdict, now);
            }
            self.ended = ended;
        }
        while let Poll::Ready((outcomes, result)) = self.settling.poll(cx) {
            has_happened = true;
            self.settled(outcomes, result, now);
        }
        while let Poll::Ready((count, result)) = self.taking.poll(cx) {
            has_happened = true;
            self.taken(count, result, now);
        }
        if let Poll::Ready(result) = self.tending.poll(now, cx) {
            has_happened = true;
            self.tended(result, now);
        }
        if let Poll::Ready((kept, result)) = self.keeping.poll(cx) {
            has_happened = true;
            self.kept(kept, result, now);
        }
        if self.poll_alone(now, cx) {
            has_happened = true;
        }
        if has_happened { Poll::Ready(()) } else { timer.poll(cx) }
    }

    fn is_over(&mut self, now: Instant) -> bool {
        // Draining => Closing
        if self.phase == Phase::Draining && self.calls.in_flight() == 0 {
            self.phase = Phase::Closing { since: now };
        }
        let Phase::Closing { since } = self.phase else { return false };
        // Closing => the end
        let is_settled = self.waiting.is_empty() && self.settling.is_done() && self.brings_no_more();
        is_settled || now >= since + self.settings.takeover_after
    }

    /// Returns whether no request in flight can bring messages or begin a call.
    fn brings_no_more(&self) -> bool {
        self.taking.is_idle() && self.tending.is_idle() && !self.alone.is_marking()
    }

    /// Gives back the waiting messages, once the worker takes no more and none can arrive.
    fn give_back(&mut self) {
        if self.phase != Phase::Working && self.brings_no_more() {
            let outcomes = self.waiting.give_back();
            self.report.given_back += outcomes.len() as u64;
            self.settling.add(outcomes);
        }
    }

    fn publish(&self) {
        self.shared.update(|readings| {
            readings.in_flight = self.calls.in_flight();
            readings.held = self.keeping.held();
            readings.so_far = self.report;
        });
    }
}
