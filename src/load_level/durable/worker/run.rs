//! The loop of a worker. One task has all its state; calls run in tasks of their own, so that a call which blocks its thread
//! keeps no message from being kept alive.

use super::{
    Memory, Settings, Worker, WorkerReport,
    call::{Verdict, call},
    clock::{ServerClock, Starts},
    report::Shared,
    requests::{MOST_MOVED, Outcome, Requests, Taken, Tended, Tending, WAIT},
};
use crate::{
    Random,
    load_level::durable::{core::Core, error::BoxError, message::Delivery, scripts::Fields},
    redis::{Connection, Fault},
    retry::{Backoff, Jitter},
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

/// What is due is looked for so often.
const BETWEEN_TENDS: Duration = Duration::from_millis(100);

/// Calls of the script that ends deliveries: the most at a time, and the most ends in each.
const SETTLING: usize = 2;
const MOST_SETTLED: usize = 1000;

/// Calls that take messages: the most at a time of a queue that has many.
const TAKING: usize = 2;

/// The most that are taken at a time, and the most that are kept alive with one call.
const MOST_TAKEN: usize = 1000;
const MOST_KEPT: usize = 500;

/// The pauses after failures of Redis.
const PAUSES: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1)).jitter(Jitter::Equal);

/// So long nothing begins after the service said that it has enough and not for how long, and so long at most.
const HOLD: Duration = Duration::from_millis(100);
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// The longest reason of a dead letter.
const LONGEST_REASON: usize = 1024;

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

    fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Tick => {}
            Event::Stop => self.stopping = Some(now),
            Event::Called(Ok((id, verdict))) => self.ended(id, verdict, now),
            Event::Called(Err(error)) => {
                let id = error.id();
                let verdict = match error.try_into_panic() {
                    Ok(payload) => Verdict::of_panic(&*payload),
                    Err(_) => Verdict::Failed { reason: "the runtime has ended".to_owned() },
                };
                self.ended(id, verdict, now);
            }
            Event::Taken(count, result) => {
                self.being_taken -= count;
                self.is_backlogged = result.as_ref().is_ok_and(|messages| messages.len() >= count);
                if let Some(messages) = self.answered(result, now) {
                    for (entry, fields) in messages {
                        self.receive(entry, fields, 0, now);
                    }
                } else {
                    // The group may be gone, with the data or on a replica that had not heard of it.
                    self.make_group = true;
                    self.tend_at = now;
                }
            }
            Event::Settled(outcomes, result) => {
                if self.answered(result, now).is_some() {
                    for outcome in &outcomes {
                        self.held.remove(outcome.entry());
                    }
                } else {
                    self.outcomes.extend(outcomes);
                }
            }
            Event::Tended(result) => self.tended(result, now),
            Event::Kept(since, entries, result) => {
                if self.answered(result, now).is_some() {
                    for entry in entries {
                        self.held.entry(entry).and_modify(|kept| *kept = since);
                    }
                }
            }
        }
    }

    /// What Redis answered, if it did; else it is left alone for a while.
    fn answered<Answer>(&mut self, result: Result<Answer, Fault>, now: Instant) -> Option<Answer> {
        match result {
            Ok(answer) => {
                if self.well_since.is_none() {
                    self.well_since = Some(now);
                    self.failures_in_a_row = 0;
                    self.shared.update(|readings| readings.redis_error = None);
                }
                Some(answer)
            }
            Err(fault) => {
                self.well_since = None;
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                self.ask_at = now + PAUSES.draw(self.failures_in_a_row, Duration::ZERO, &self.core.random);
                self.shared.update(|readings| {
                    readings.redis_failures += 1;
                    readings.redis_error = Some(fault.to_string());
                });
                None
            }
        }
    }

    fn tended(&mut self, result: Result<Tended, Fault>, now: Instant) {
        let Some(tended) = self.answered(result, now) else { return };
        self.clock = Some(ServerClock::new(tended.millis, now));
        self.make_group = false;
        let more = tended.moved >= MOST_MOVED;
        let pause = tended.next_due.unwrap_or(BETWEEN_TENDS).clamp(Duration::from_millis(1), BETWEEN_TENDS);
        self.tend_at = now + if more { Duration::ZERO } else { pause };
        for Taken { entry, deliveries, fields } in tended.taken {
            if let Some(kept) = self.held.get_mut(&entry) {
                // Its own, which it could not keep alive in time: nobody else has it now.
                *kept = now;
            } else {
                self.report.taken_over += 1;
                self.receive(entry, fields, deliveries, now);
            }
        }
    }

    /// Has a message. Its earlier deliveries have not been ended by their workers.
    fn receive(&mut self, entry: String, fields: Fields, deliveries: u32, now: Instant) {
        let mut memory = Memory::of(&entry, fields.memory.as_deref());
        memory.failed = memory.failed.saturating_add(deliveries);
        self.held.insert(entry.clone(), now);
        let ticket = Ticket { entry, memory };
        if ticket.memory.failed >= self.settings.max_tries {
            self.bury(ticket, "no worker that had it has ended it".to_owned());
        } else {
            self.ready.push_back(Ready { ticket, payload: fields.payload });
        }
    }

    fn bury(&mut self, ticket: Ticket, mut reason: String) {
        let cut = (0..=LONGEST_REASON.min(reason.len())).rev().find(|length| reason.is_char_boundary(*length));
        reason.truncate(cut.unwrap_or(0));
        self.report.dead += 1;
        let Ticket { entry, memory } = ticket;
        self.outcomes.push_back(Outcome::Dead { entry, memory, reason });
    }

    fn ended(&mut self, id: Id, verdict: Verdict, now: Instant) {
        let Some(ticket) = self.called.remove(&id) else { return };
        match verdict {
            Verdict::Succeeded => {
                self.report.succeeded += 1;
                self.outcomes.push_back(Outcome::Done { entry: ticket.entry });
            }
            Verdict::Failed { reason } => self.failed(ticket, reason),
            Verdict::Undecodable { reason } => {
                self.report.failed += 1;
                self.bury(ticket.after_a_failure(), reason);
            }
            Verdict::Rejected { retry_after, holds_up } => {
                self.report.rejected += 1;
                if holds_up {
                    let hold = retry_after.unwrap_or(HOLD).min(LONGEST_HOLD);
                    self.hold_until = self.hold_until.max(now + hold);
                }
                let spread = self.settings.backoff.draw(1, Duration::ZERO, &self.core.random);
                let delay = retry_after.unwrap_or_default().saturating_add(spread);
                let Ticket { entry, memory } = ticket;
                self.outcomes.push_back(Outcome::Again { entry, memory, delay });
            }
        }
    }

    fn failed(&mut self, ticket: Ticket, reason: String) {
        self.report.failed += 1;
        let ticket = ticket.after_a_failure();
        if ticket.memory.failed >= self.settings.max_tries {
            return self.bury(ticket, reason);
        }
        let Ticket { entry, mut memory } = ticket;
        memory.delay = self.settings.backoff.draw(memory.failed, memory.delay, &self.core.random);
        let delay = memory.delay;
        self.outcomes.push_back(Outcome::Again { entry, memory, delay });
    }

    /// Asks of Redis what is to be asked now.
    fn ask(&mut self, now: Instant) {
        if self.stopping.is_some() && self.taking.is_empty() && self.tending.is_none() {
            self.report.given_back += self.ready.len() as u64;
            let give_back = |Ready { ticket: Ticket { entry, memory }, .. }| Outcome::Again {
                entry,
                memory,
                delay: Duration::ZERO,
            };
            self.outcomes.extend(self.ready.drain(..).map(give_back));
        }
        if now < self.ask_at {
            return;
        }
        self.keep(now);
        while self.settling.len() < SETTLING && !self.outcomes.is_empty() {
            let count = self.outcomes.len().min(MOST_SETTLED);
            let mut outcomes: Vec<Outcome> = self.outcomes.drain(..count).collect();
            outcomes.sort_by_cached_key(|outcome| place(outcome.entry()));
            self.settling.push(Box::pin(self.requests.clone().settle(outcomes)));
        }
        if self.stopping.is_some() {
            return;
        }
        self.tend(now);
        // While one answer is read the server makes the next, if it need not wait for messages.
        let most = if self.is_backlogged { TAKING } else { 1 };
        while self.taking.len() < most {
            let count = self.to_take();
            if count == 0 {
                return;
            }
            self.being_taken += count;
            let take = self.requests.clone().take(count);
            self.taking.push_back(Box::pin(async move { (count, take.await) }));
        }
    }

    fn tend(&mut self, now: Instant) {
        if self.tending.is_some() || now < self.tend_at {
            return;
        }
        let idle = self.settings.takeover_after;
        let is_well = self.well_since.is_some_and(|since| now >= since + idle / 2);
        let room = self.room().min(MOST_TAKEN);
        let take_over = (is_well && now >= self.take_over_at && room > 0).then_some((idle, room));
        if take_over.is_some() {
            self.take_over_at = now + idle / 4;
        }
        let tending = Tending { make_group: self.make_group, take_over };
        self.tending = Some(Box::pin(self.requests.clone().tend(tending)));
    }

    /// Says of what is held for long that it is worked on. What comes and goes needs none of that.
    fn keep(&mut self, now: Instant) {
        if self.keeping.is_some() || now < self.keep_at {
            return;
        }
        let quarter = self.settings.takeover_after / 4;
        let old = |kept: &Instant| now >= *kept + quarter;
        let entries: Vec<String> =
            self.held.iter().filter(|(_, kept)| old(kept)).map(|(entry, _)| entry.clone()).take(MOST_KEPT).collect();
        // Those that did not fit come at once after these.
        self.keep_at = if entries.len() == MOST_KEPT { now } else { now + quarter / 4 };
        if !entries.is_empty() {
            self.keeping = Some((now, Box::pin(self.requests.clone().keep(entries))));
        }
    }

    fn room(&self) -> usize {
        (self.settings.concurrency + self.settings.prefetch).saturating_sub(self.held.len() + self.being_taken)
    }

    /// How many messages to take: none before the clock is known and the group made, and few only if there is nothing else.
    fn to_take(&self) -> usize {
        let Settings { concurrency, prefetch, .. } = self.settings;
        if self.clock.is_none() || self.make_group || self.ready.len() + self.being_taken > (concurrency + prefetch) / 2
        {
            return 0;
        }
        let wanted = (concurrency + prefetch).saturating_sub(self.calls.len() + self.ready.len() + self.being_taken);
        let count = wanted.min(self.room()).min(MOST_TAKEN);
        let few = count < (concurrency + prefetch) / 8;
        if few && !(self.outcomes.is_empty() && self.settling.is_empty()) { 0 } else { count }
    }

    fn next_tick(&self, now: Instant) -> Instant {
        let mut next = now + Duration::from_secs(1);
        let mut at = |is: bool, instant: Instant| {
            if is && instant < next {
                next = instant;
            }
        };
        at(now < self.ask_at, self.ask_at);
        at(now >= self.ask_at && self.stopping.is_none() && self.tending.is_none(), self.tend_at);
        at(now >= self.ask_at && self.keeping.is_none() && !self.held.is_empty(), self.keep_at);
        if !self.ready.is_empty() && self.calls.len() < self.settings.concurrency && self.stopping.is_none() {
            at(now < self.hold_until, self.hold_until);
            if let Some(starts) = &self.starts {
                at(true, starts.next(now));
            }
        }
        next
    }

    fn is_over(&self, now: Instant) -> bool {
        let Some(stopping) = self.stopping else { return false };
        if !self.calls.is_empty() {
            return false;
        }
        let is_settled = self.ready.is_empty() && self.outcomes.is_empty() && self.settling.is_empty();
        (is_settled && self.taking.is_empty() && self.tending.is_none())
            || now >= stopping + self.settings.takeover_after
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
            if self.starts.as_mut().is_some_and(|starts| starts.begin(now).is_err()) {
                return self.ready.push_front(Ready { ticket, payload });
            }
            let attempt = ticket.memory.failed.saturating_add(1);
            let delivery = Delivery { id: ticket.memory.id.clone(), payload, attempt, age };
            let task = self.calls.spawn(call(delivery, self.decode.clone(), self.service.clone()));
            self.called.insert(task.id(), ticket);
        }
    }
}

/// Where an entry is in its stream.
fn place(entry: &str) -> (u64, u64) {
    let (millis, number) = entry.split_once('-').unwrap_or((entry, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

impl Ticket {
    fn after_a_failure(mut self) -> Self {
        self.memory.failed = self.memory.failed.saturating_add(1);
        self
    }
}
