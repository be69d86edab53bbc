//! E10: client-side adaptive throttling that counts a call before it has ended mistakes a slow backend for a dead one.

use crate::{
    finding::{Anchor, Finding, ToCome},
    lab::{Lab, secs},
    textbook::{self, Promise},
};
use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};
use steadfast::{
    ConfigError,
    sim::{Backend, BackendService, Call, Failure, Latency, Load, Reply, Scenario},
};
use tower::{Service, ServiceExt};

/// The ratio of the calls sent to the calls accepted above which calls are rejected.
const K: f64 = 2.0;
/// The calls per second. The backend works on any number of calls at once.
const RPS: f64 = 50.0;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let rejected = lab.mean(0..20, |seed| {
        let load = Load::poisson(RPS).in_time(secs(10));
        // Shorter than the two-minute window of the formula.
        let report = Scenario::new(load).length(secs(5)).seed(seed).run(|sim| {
            let random = textbook::random(seed);
            let backend = sim.backend(Backend::new(Latency::fixed(secs(1))));
            Ok(Throttle { counts: Rc::new(RefCell::new(Counts { requests: 0.0, accepts: 0.0, random })), backend })
        })?;
        Ok([1.0 - report.goodput()])
    })?;
    Ok(vec![Finding {
        id: "E10",
        what: "client-side adaptive throttling, cold start: 50 rps to a healthy backend that answers after 1 s",
        anchors: vec![Anchor::new("counting at the attempt: rejected in the first 5 s", [0.87], rejected)],
        figures: Vec::new(),
        to_come: Some(ToCome {
            anchor: "",
            reach: "0 rejected cold and on a tenfold step; refusals by the backend per accept in steady overload 1.0 ± 0.02 \
                    (K=2) and 0.10 ± 0.01 (K=1.1)",
        }),
    }])
}

/// "Site Reliability Engineering", equation 21-1, with requests counted when they are sent.
#[derive(Clone)]
struct Throttle {
    counts: Rc<RefCell<Counts>>,
    backend: BackendService,
}

struct Counts {
    requests: f64,
    accepts: f64,
    random: Xoshiro256PlusPlus,
}

impl Counts {
    fn admits(&mut self) -> bool {
        let refused = (self.requests - K * self.accepts) / (self.requests + 1.0);
        self.requests += 1.0;
        self.random.random::<f64>() >= refused
    }
}

impl Service<Call> for Throttle {
    type Response = Reply;
    type Error = Failure;
    type Future = Promise<Reply, Failure>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { counts, backend } = self.clone();
        Box::pin(async move {
            if !counts.borrow_mut().admits() {
                return Err(Failure::Overloaded);
            }
            let reply = backend.oneshot(call).await?;
            counts.borrow_mut().accepts += 1.0;
            Ok(reply)
        })
    }
}
