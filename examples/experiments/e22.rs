//! E22, the part in virtual time: deadlines that travel from hop to hop, through a client and a server of this crate.
//!
//! A caller has half a second. Its server calls a leaf, which fails at once for ten seconds and takes two seconds per
//! call for the next ten. Three of ten callers have their own deadline of a tenth of a second.

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{Lab, ms, secs},
};
use std::{cell::RefCell, rc::Rc, time::Duration};
use steadfast::{
    CallContext, ConfigError, Error,
    retry::{Backoff, Retry},
    sim::{Backend, Call, Failure, Latency, Link, Load, Scenario},
};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};

const TOTAL: Duration = ms(500);
const ATTEMPT: Duration = ms(200);
/// The remaining time of callers in a hurry.
const LEFT: Duration = ms(100);
/// The backoff before each further attempt. The deadline cuts short the second attempt of an unanswered call, and
/// callers in a hurry have no second attempt.
const WAIT: Duration = ms(200);
/// Timers fire at whole milliseconds.
const TICK: f64 = 0.001;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seen = lab.worst(lab.count(5, 1, 1), |seed| Ok(calls(seed)?.worst()))?;
    let at_most = |time: Duration| Bound::AtMost(time.as_secs_f64() + TICK);
    let bounds =
        [at_most(TOTAL), at_most(LEFT), at_most(ATTEMPT), at_most(LEFT), Bound::AtMost(0.0), Bound::AtMost(TICK)];
    Ok(vec![Finding {
        id: "E22",
        what: "deadlines in a chain of a client, a server and a leaf that fails at once, then takes 2 s; a call has 0.5 s, an \
               attempt 0.2 s, some callers 0.1 s",
        anchors: Vec::new(),
        figures: vec![Figure::new(
            "longest call in s, of the hurried; longest time left at the leaf, of the hurried; timed out though it failed at \
             once; worked on after its deadline",
            bounds,
            seen,
        )],
        to_come: None,
    }])
}

/// The longest times, in seconds, of all callers and of those with little time.
#[derive(Clone, Copy, Default)]
struct Seen {
    call: [f64; 2],
    left_at_the_leaf: [f64; 2],
    /// The calls that timed out while the leaf failed at once.
    timed_out: u64,
    /// How long a server worked on a call after its deadline.
    beyond: f64,
}

impl Seen {
    fn worst(&self) -> [f64; 6] {
        let Self { call, left_at_the_leaf, timed_out, beyond } = *self;
        [call[0], call[1], left_at_the_leaf[0], left_at_the_leaf[1], timed_out as f64, beyond]
    }
}

fn longest(longest: &mut [f64; 2], call: Call, time: Duration) {
    let time = time.as_secs_f64();
    longest[0] = longest[0].max(time);
    if is_hurried(call) {
        longest[1] = longest[1].max(time);
    }
}

fn is_hurried(call: Call) -> bool {
    call.class == 1
}

/// Returns the remaining time of the current call.
fn left() -> Duration {
    let deadline = CallContext::current().deadline();
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
}

/// A server's work on a call, until it is dropped.
struct Working {
    deadline: Option<Instant>,
    seen: Rc<RefCell<Seen>>,
}

impl Drop for Working {
    fn drop(&mut self) {
        let beyond =
            self.deadline.map_or(0.0, |deadline| Instant::now().saturating_duration_since(deadline).as_secs_f64());
        let mut seen = self.seen.borrow_mut();
        seen.beyond = seen.beyond.max(beyond);
    }
}

fn calls(seed: u64) -> Result<Seen, ConfigError> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let patient = Load::poisson(70.0);
    let hurried = Load::poisson(30.0).named("hurried");
    let (failing, slow) = (Duration::ZERO..secs(10), secs(10)..secs(20));
    Scenario::new(patient).and(hurried).length(secs(20)).seed(seed).run(|sim| {
        let leaf = Backend::new(Latency::fixed(ms(1))).outage(failing.clone()).slow(slow, 2_000.0);
        let leaf = sim.backend(leaf.notices_cancellation());
        let noted = seen.clone();
        let leaf = service_fn(move |call: Call| {
            longest(&mut noted.borrow_mut().left_at_the_leaf, call, left());
            let working = Working { deadline: CallContext::current().deadline(), seen: noted.clone() };
            let answer = leaf.clone().oneshot(call);
            async move {
                let _working = working;
                answer.await
            }
        });
        let server = steadfast::server().timeout(secs(1)).service(leaf)?;
        let retry = Retry::new(3).backoff(Backoff::fixed(WAIT)).without_budget().random(sim.random());
        let client = steadfast::client().timeout(TOTAL).retry(retry).attempt_timeout(ATTEMPT).keep_error();
        let client = client.service(Link::new(sim, Latency::fixed(ms(2)), server))?;
        let (noted, clock) = (seen.clone(), sim.clone());
        Ok(service_fn(move |call: Call| {
            let context = CallContext::new();
            let context = if is_hurried(call) { context.with_deadline(Instant::now() + LEFT) } else { context };
            let (begin, client, noted, clock) = (clock.elapsed(), client.clone(), noted.clone(), clock.clone());
            let failing = failing.clone();
            async move {
                let result: Result<_, Error<Failure>> = context.scope(client.oneshot(call)).await;
                let end = clock.elapsed();
                longest(&mut noted.borrow_mut().call, call, end - begin);
                let timed_out =
                    matches!(&result, Err(Error::Rejected(rejection)) if rejection.mechanism() == "timeout");
                noted.borrow_mut().timed_out += u64::from(timed_out && failing.contains(&end));
                result
            }
        }))
    })?;
    let seen = *seen.borrow();
    Ok(seen)
}
