//! E17: is a queue's prediction of when its backlog is gone correct?

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{Lab, ms, secs, settled},
    queues::levelled,
};
use std::{cell::RefCell, rc::Rc, time::Duration};
use steadfast::{
    ConfigError,
    load_level::{DrainTime, Queue},
    sim::{Backend, Latency, Load, Scenario, Sim},
};

/// The service time of every call: the server completes 1000 calls per second.
const SERVICE: Duration = ms(1);
const RPS: f64 = 500.0;
/// At this load the backlog shrinks by a twentieth of the throughput.
const NEAR_BALANCE: f64 = 950.0;
/// The queue uses the rates of the last ten seconds. After eleven seconds they no longer include the initial burst.
const LOOK_AT: Duration = secs(11);

/// The initial backlog of a run.
#[derive(Clone, Copy)]
struct Backlog {
    /// About how many calls wait when the prediction is read.
    waiting: f64,
    /// The queue is empty after this time, at 500 calls per second.
    gone_within: Duration,
}

const WHOLE: Backlog = Backlog { waiting: 10_000.0, gone_within: secs(60) };
const GLANCE: Backlog = Backlog { waiting: 5_000.0, gone_within: secs(26) };

impl Backlog {
    /// The number of calls that arrive at once at the start. Higher loads get a smaller burst, so that the backlog is
    /// the same.
    fn burst(self, rps: f64) -> f64 {
        self.waiting + (1_000.0 - rps) * LOOK_AT.as_secs_f64()
    }
}

/// The number of runs in which the prediction is read. By chance it is off by more than 5% in one run of a hundred. Of
/// the 5000 arrivals in ten seconds, chance adds or removes about 70, so the predicted rate of shrinking is off by
/// 1.4%. The 10,000 arrivals of the next twenty seconds vary by 1%. The claim is therefore about many runs.
const RUNS: u64 = 100;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let backlog = if lab.is_glance() { GLANCE } else { WHOLE };
    let error = |seed| Ok([predict(seed, backlog, Load::poisson(RPS), RPS)?.error()]);
    let runs = lab.count(RUNS, 20, 1);
    let beyond = lab.means_with(runs, runs, |seed| error(seed).map(|[error]| [error, f64::from(error > 0.05)]))?;
    // The arrival rate over ten seconds is off by about 1%. The backlog shrinks by 5% of the throughput, so the rate is
    // known well enough to predict that the backlog ends.
    let near = |seed| Ok([1.0 - predict(seed, backlog, Load::poisson(NEAR_BALANCE), NEAR_BALANCE)?.is_a_time()]);
    let near = lab.means_with(runs, runs, near)?;
    let mut not_never = Vec::new();
    // A queue that grows at 1100/s also grows at 1500/s.
    let rates: &[f64] = if lab.is_glance() { &[1_100.0] } else { &[1_100.0, 1_500.0] };
    for rps in rates.iter().copied() {
        not_never.push(lab.worst(lab.count(12, 2, 1), |seed| {
            Ok([predict(seed, backlog, Load::poisson(rps), rps)?.is_not_never()])
        })?);
    }
    let evenly = |seed| Ok([predict(seed, backlog, Load::constant(1_000.0), 1_000.0)?.is_not_never()]);
    not_never.push(lab.worst(1, evenly)?);
    let figures = vec![
        Figure::new(
            "mean error against what came true, share of runs beyond 5%",
            [Bound::AtMost(0.02), Bound::AtMost(0.05)],
            beyond,
        ),
        Figure::new("950/s: share of the runs that name no time", [Bound::AtMost(0.01)], near),
        Figure {
            name: "share of the runs that do not say \"never\" at 1100/s, at 1500/s, and at 1000/s evenly",
            wanted: vec![Bound::AtMost(0.0); not_never.len()],
            got: not_never.iter().map(|runs| runs.model[0]).collect(),
            half_widths: Vec::new(),
            on_other_seeds: not_never.iter().map(|runs| runs.others[0]).collect(),
        },
    ];
    Ok(vec![Finding {
        id: "E17",
        what: "load leveling: 10,000 wait, 1000/s are done, 500/s come; the predicted time until none waits",
        anchors: Vec::new(),
        figures,
        to_come: None,
    }])
}

/// The queue's prediction, and the truth.
#[derive(Default)]
struct Prediction {
    drain_time: Option<DrainTime>,
    gone_at: Option<Duration>,
}

impl Prediction {
    /// Returns the error relative to the truth.
    fn error(&self) -> f64 {
        match (self.drain_time, self.gone_at) {
            (Some(DrainTime::In(predicted)), Some(gone_at)) => {
                let truth = (gone_at - LOOK_AT).as_secs_f64();
                (predicted.as_secs_f64() - truth).abs() / truth
            }
            _ => f64::INFINITY,
        }
    }

    fn is_a_time(&self) -> f64 {
        f64::from(matches!(self.drain_time, Some(DrainTime::In(_))))
    }

    fn is_not_never(&self) -> f64 {
        f64::from(self.drain_time != Some(DrainTime::Never))
    }
}

/// Makes one run: a burst, and then this load.
fn predict(seed: u64, backlog: Backlog, load: Load, rps: f64) -> Result<Prediction, ConfigError> {
    let prediction = Rc::new(RefCell::new(Prediction::default()));
    let seen = prediction.clone();
    let begin = ms(1);
    let burst = Load::constant(0.0).spike(Duration::ZERO, begin, backlog.burst(rps) / begin.as_secs_f64());
    // A backlog that shrinks fast is watched to its end.
    let to_the_end = rps <= RPS;
    let (length, settle) =
        if to_the_end { (backlog.gone_within, secs(10)) } else { (LOOK_AT + secs(1), Duration::ZERO) };
    let report = Scenario::new(load).and(burst).length(length).settle_within(settle).seed(seed).run(|sim| {
        // A depth and a wait that no call reaches.
        let queue = Queue::builder(1, 100_000).max_wait(secs(3_600)).build()?;
        let server = sim.backend(Backend::new(Latency::fixed(SERVICE)).servers(1));
        sim.spawn(watch(sim.clone(), queue.clone(), seen));
        Ok(levelled(sim, queue, server))
    })?;
    if to_the_end {
        settled(report)?;
    }
    Ok(prediction.take())
}

/// Reads the prediction once, and records when the queue is empty.
async fn watch(sim: Sim, queue: Queue, seen: Rc<RefCell<Prediction>>) {
    sim.sleep(LOOK_AT).await;
    seen.borrow_mut().drain_time = Some(queue.readings().drain_time);
    while queue.readings().waiting > 0 {
        sim.sleep(SERVICE).await;
    }
    seen.borrow_mut().gone_at = Some(sim.elapsed());
}
