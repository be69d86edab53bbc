//! The loop of a worker. One task has all its state; calls run in tasks of their own, so that a call which blocks its thread
//! keeps no message from being kept alive.

mod asking;
mod ends;

use super::{
    Memory, Settings, Worker, WorkerReport,
    call::{Verdict, call},
    clock::{ServerClock, Starts},
    report::Shared,
    requests::{Outcome, Requests, Tended, WAIT},
};
use crate::{
    Random,
    load_level::durable::{core::Core, error::BoxError, message::Delivery, scripts::Fields},
    redis::{Connection, Fault},
    sync::Mutex,
};
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use rand::RngExt;
use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, Sleep, sleep_until},
};
use tower::Service;

type Asking<Answer> = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a worker has, from the start of its run to the end.
struct Run<Decode, S> {
    core: Arc<Core>,
    settings: Settings,
    decode: Arc<Decode>,
    service: Arc<Mutex<S>>,
    shared: Arc<Shared>,
    requests: Requests,
    report: WorkerReport,

    /// Messages that wait for their call.
    ready: VecDeque<Ready>,
    calls: JoinSet<Verdict>,
    /// What the calls are about.
    called: HashMap<Id, Ticket>,
    /// Ends that Redis has not been told of.
    outcomes: VecDeque<Outcome>,
    /// All entries of the stream that this worker has, until Redis has confirmed their end, and when it was last told that
    /// they are worked on.
    held: HashMap<String, Instant>,

    taking: FuturesOrdered<Asking<(usize, Result<Vec<(String, Fields)>, Fault>)>>,
    /// The most that these may bring.
    being_taken: usize,
    /// The last one brought as many as it might: there are more.
    is_backlogged: bool,
    settling: FuturesUnordered<Asking<(Vec<Outcome>, Result<(), Fault>)>>,
    tending: Option<Asking<Result<Tended, Fault>>>,
    keeping: Option<(Instant, Asking<(Vec<String>, Result<(), Fault>)>)>,

    clock: Option<ServerClock>,
    starts: Option<Starts>,
    /// The service said that it has enough: no call begins before.
    hold_until: Instant,
    make_group: bool,
    tend_at: Instant,
    take_over_at: Instant,
    keep_at: Instant,
    /// After a failure nothing is asked of Redis before.
    ask_at: Instant,
    failures_in_a_row: u32,
    /// Redis has answered everything since then. One that has just come back has heard from nobody for a while, also not from
    /// workers that live: these first get the time to say so.
    well_since: Option<Instant>,
    /// Nothing is taken any more, since then.
    stopping: Option<Instant>,
    /// And no call is in progress any more, since then.
    waiting_since: Option<Instant>,
}

/// A message and its place in the stream.
#[derive(Debug)]
struct Ticket {
    entry: String,
    memory: Memory,
}

struct Ready {
    ticket: Ticket,
    payload: Vec<u8>,
}

enum Event {
    Stop,
    Called(Result<(Id, Verdict), JoinError>),
    Taken(usize, Result<Vec<(String, Fields)>, Fault>),
    Settled(Vec<Outcome>, Result<(), Fault>),
    Tended(Result<Tended, Fault>),
    Kept(Instant, Vec<String>, Result<(), Fault>),
    Tick,
}

impl<Decode, S> Worker<Decode, S> {
    /// Works until `shutdown` ends; then takes no more, lets the calls in progress end, tells Redis, gives back what it has not
    /// begun, and says what it has done.
    ///
    /// Nothing that Redis does ends it before. At the end it waits for Redis for as long as others wait before they
    /// [take over](super::WorkerBuilder::takeover_after), counted from the end of the last call.
    ///
    /// Dropped, it stops at once, and its calls with it; its messages are taken over by others after that time. It must be
    /// polled, best in a task of its own, for its messages to be kept alive.
    pub async fn run<T, E>(self, shutdown: impl Future<Output = ()>) -> WorkerReport
    where
        Decode: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let mut run = Run::new(self, Instant::now());
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
            let event = poll_fn(|cx| run.poll(shutdown.as_mut(), timer.as_mut(), cx)).await;
            run.handle(event, Instant::now());
            // Those that are over together are settled together.
            while let Some(called) = run.calls.try_join_next_with_id() {
                run.handle(Event::Called(called), Instant::now());
            }
        }
        run.report.unconfirmed = run.held.len() as u64;
        run.requests.clone().leave().await;
        run.publish();
        run.report
    }
}

impl<Decode, S> Run<Decode, S> {
    fn new(worker: Worker<Decode, S>, now: Instant) -> Self {
        let Worker { core, settings, decode, service, shared } = worker;
        // Not the queue's generator: with the same seed in two processes they would be one consumer.
        let (high, low): (u64, u64) = Random::new().with(|random| (random.random(), random.random()));
        let server = core.server.with_answer_timeout(core.limits.answer_timeout.saturating_add(WAIT));
        let waiting = Connection::open_lazily(server, core.random.clone(), core.handle.clone());
        let consumer = format!("{high:016x}{low:016x}").into();
        Self {
            requests: Requests { core: core.clone(), waiting, consumer },
            report: WorkerReport::default(),
            ready: VecDeque::new(),
            calls: JoinSet::new(),
            called: HashMap::new(),
            outcomes: VecDeque::new(),
            held: HashMap::new(),
            taking: FuturesOrdered::new(),
            being_taken: 0,
            is_backlogged: false,
            settling: FuturesUnordered::new(),
            tending: None,
            keeping: None,
            clock: None,
            starts: settings.pace.map(|pace| Starts::new(pace, now)),
            hold_until: now,
            make_group: true,
            tend_at: now,
            take_over_at: now,
            keep_at: now,
            ask_at: now,
            failures_in_a_row: 0,
            well_since: Some(now),
            stopping: None,
            waiting_since: None,
            core,
            settings,
            decode,
            service,
            shared,
        }
    }

    fn poll<Shutdown>(
        &mut self,
        shutdown: Pin<&mut Shutdown>,
        timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Event>
    where
        Shutdown: Future<Output = ()>,
    {
        if self.stopping.is_none() && shutdown.poll(cx).is_ready() {
            return Poll::Ready(Event::Stop);
        }
        if let Poll::Ready(Some(called)) = self.calls.poll_join_next_with_id(cx) {
            return Poll::Ready(Event::Called(called));
        }
        if let Poll::Ready(Some((outcomes, result))) = self.settling.poll_next_unpin(cx) {
            return Poll::Ready(Event::Settled(outcomes, result));
        }
        if let Poll::Ready(Some((count, result))) = self.taking.poll_next_unpin(cx) {
            return Poll::Ready(Event::Taken(count, result));
        }
        if let Some(Poll::Ready(result)) = self.tending.as_mut().map(|tending| tending.as_mut().poll(cx)) {
            self.tending = None;
            return Poll::Ready(Event::Tended(result));
        }
        if let Some((since, keeping)) = &mut self.keeping {
            let since = *since;
            if let Poll::Ready((held, result)) = keeping.as_mut().poll(cx) {
                self.keeping = None;
                return Poll::Ready(Event::Kept(since, held, result));
            }
        }
        timer.poll(cx).map(|()| Event::Tick)
    }

    fn is_over(&mut self, now: Instant) -> bool {
        if self.stopping.is_none() || !self.calls.is_empty() {
            return false;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let is_settled = self.ready.is_empty() && self.outcomes.is_empty() && self.settling.is_empty();
        let is_quiet = self.taking.is_empty() && self.tending.is_none();
        (is_settled && is_quiet) || now >= since + self.settings.takeover_after
    }

    fn publish(&self) {
        self.shared.update(|readings| {
            readings.in_flight = self.calls.len();
            readings.held = self.held.len();
            readings.so_far = self.report;
        });
    }

    /// Begins the calls that may begin.
    fn begin_calls<T, E>(&mut self, now: Instant)
    where
        Decode: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        while self.stopping.is_none() && self.calls.len() < self.settings.concurrency && now >= self.hold_until {
            let Some(Ready { ticket, payload }) = self.ready.pop_front() else { return };
            let age = self.clock.map_or(Duration::ZERO, |clock| clock.since(ticket.memory.appended_at(), now));
            if self.settings.max_age.is_some_and(|longest| age > longest) {
                self.report.dropped_for_age += 1;
                self.outcomes.push_back(Outcome::Dropped { entry: ticket.entry });
                continue;
            }
            if self.starts.as_mut().is_some_and(|starts| !starts.begin(now)) {
                return self.ready.push_front(Ready { ticket, payload });
            }
            let attempt = ticket.memory.failed.saturating_add(1);
            let delivery = Delivery { id: ticket.memory.id.clone(), payload, attempt, age };
            let task = self.calls.spawn(call(delivery, self.decode.clone(), self.service.clone()));
            self.called.insert(task.id(), ticket);
        }
    }
}
