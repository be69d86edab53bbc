//! E5: retry amplification. Each service of a chain retries the failures of the next service.

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, amplification, ms, secs},
    textbook::Promise,
};
use std::{
    rc::Rc,
    task::{Context, Poll},
};
use steadfast::{
    CallContext, ConfigError, Error, Outcome,
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, Call, Failure, Latency, Load, Reply, Scenario, Sim},
};
use tower::{Service, ServiceExt};

const SERVICES: usize = 5;
/// Every service makes 3 attempts in all.
const ATTEMPTS: u32 = 3;
const RATIO: f64 = 0.1;

/// How the services of a chain retry.
#[derive(Clone, Copy)]
pub struct Manners {
    /// Each service has a budget for its retries.
    pub budget: bool,
    /// A service that stops retrying says so to its caller, which does not retry either.
    pub mark: bool,
}

pub const PLAIN: Manners = Manners { budget: false, mark: false };
pub const BUDGET: Manners = Manners { budget: true, mark: false };
pub const MARK: Manners = Manners { budget: false, mark: true };
pub const BOTH: Manners = Manners { budget: true, mark: true };

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let anchors = lab.beyond_a_glance(|| {
        let dead = [PLAIN, BUDGET, MARK].map(|manners| lab.mean(0..1, |seed| chain(seed, 1.0, manners)));
        let [plain, budget, mark] = dead;
        let dead = [plain?, budget?, mark?];
        Ok(vec![Anchor::column("no budget; 10% budget per hop; a mark without a budget", [243.0, 1.61, 3.0], &dead, 0)])
    })?;
    let seeds = lab.count(10, 1, 1);
    let ours = lab.means(seeds, |seed| chain(seed, 1.0, BOTH))?;
    let mut figures = vec![Figure::column("calls to the leaf", [Bound::Within(1.09, 1.11)], &[ours], 0)];
    // Here neither a budget nor a mark limits the retries.
    let permanent = lab.means(seeds, |seed| above(seed, 1.0, Trouble::Permanent, PLAIN))?;
    let name = "no budget, a leaf whose failures are permanent: calls to it";
    figures.push(Figure::column(name, [Bound::Within(1.0, 1.0)], &[permanent], 0));
    figures.extend(lab.beyond_a_glance(|| {
        let [with_mark, without_mark] =
            [BOTH, BUDGET].map(|manners| lab.means(seeds, |seed| chain(seed, 0.3, manners)));
        let name = "30% of the leaf's calls fail, with and without the mark: success";
        Ok(vec![Figure::column(name, [Bound::Free; 2], &[with_mark?, without_mark?], 1)])
    })?);
    Ok(vec![Finding {
        id: "E5",
        what: "5 services in a chain, 3 tries each; calls to a dead leaf per call at the top",
        anchors,
        figures,
        to_come: None,
    }])
}

/// Returns the calls to the leaf per call at the top, and the share of the calls that succeed.
pub fn chain(seed: u64, failing: f64, manners: Manners) -> Result<[f64; 2], ConfigError> {
    above(seed, failing, Trouble::Passing, manners)
}

/// Simulates the chain above a leaf with this kind of failure.
fn above(seed: u64, failing: f64, trouble: Trouble, manners: Manners) -> Result<[f64; 2], ConfigError> {
    let report = Scenario::new(Load::poisson(100.0)).length(secs(20)).seed(seed).run(|sim| {
        let leaf = sim.backend(Backend::new(Latency::fixed(ms(1))).failing(failing));
        let leaf = Next::new(leaf.map_err(move |_| trouble));
        (0..SERVICES).try_fold(leaf, |next, _| manners.service(sim, next))
    })?;
    Ok([amplification(&report), report.goodput()])
}

impl Manners {
    /// One service of the chain. It only calls the next service.
    fn service(self, sim: &Sim, next: Next) -> Result<Next, ConfigError> {
        let retry = Retry::new(ATTEMPTS).backoff(Backoff::none()).random(sim.random());
        let retry = if self.budget {
            retry.budget(RetryBudget::builder().ratio(RATIO).no_floor().random(sim.random()).build()?)
        } else {
            retry.without_budget()
        };
        let client = steadfast::client().retry(retry).classify(|result| match result {
            Ok(Reply) => Outcome::Success,
            Err(Trouble::Passing) => Outcome::Failure,
            // The services below have retried enough for the whole chain.
            Err(Trouble::DoNotRetry) => Outcome::Overloaded { retry_after: None },
            Err(Trouble::Permanent) => Outcome::Permanent,
        });
        let trouble = if self.mark { Trouble::DoNotRetry } else { Trouble::Passing };
        Ok(Next::new(client.service(next)?.map_err(move |error| match error {
            Error::Service(Trouble::Permanent) => Trouble::Permanent,
            _ => trouble,
        })))
    }
}

/// Why a call to a service of the chain failed.
#[derive(Clone, Copy)]
enum Trouble {
    Passing,
    DoNotRetry,
    /// The caller's fault: another attempt ends in the same way.
    Permanent,
}

impl From<Trouble> for Error<Failure> {
    fn from(_: Trouble) -> Self {
        Self::Service(Failure::Failed)
    }
}

/// The next service in the chain, of any type.
#[derive(Clone)]
struct Next(Rc<dyn Fn(Call) -> Promise<Reply, Trouble>>);

impl Next {
    fn new<S>(service: S) -> Self
    where
        S: Service<Call, Response = Reply, Error = Trouble> + Clone + 'static,
    {
        // A separate process: its caller sees only the answer.
        Self(Rc::new(move |call| Box::pin(CallContext::current().scope(service.clone().oneshot(call)))))
    }
}

impl Service<Call> for Next {
    type Response = Reply;
    type Error = Trouble;
    type Future = Promise<Reply, Trouble>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        (self.0)(call)
    }
}
