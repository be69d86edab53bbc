//! E4: metastable collapse. A short spike makes a server slow, clients time out and retry, and the retries keep the
//! server slow long after the spike.
//!
//! The model: M. Brooker, "Metastability and Distributed Systems", 2021.

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, Means, amplification, ms, secs, settled, watch_limiter},
    textbook::{Bucket, Cap, Retries},
};
use std::{cell::Cell, rc::Rc, time::Duration};
use steadfast::{
    ConfigError, Error,
    load_shed::{Aimd, Gradient, Limiter, LimiterBuilder},
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, BackendService, Call, Failure, Latency, Link, Load, Reply, Report, Scenario, Sim},
};
use tower::{Service, ServiceExt};

const ATTEMPTS: u32 = 3;
/// How long a client waits for an attempt.
const PATIENCE: Duration = secs(3);
/// The sum of the longest backoffs before the second and the third attempt.
const LONGEST_WAITS: Duration = secs(3);
/// The sum of the longest backoffs of [`full_jitter`].
const LONGEST_JITTER: Duration = secs(20 + 40);
/// The hand-set limit. With 150 calls in flight the server answers in 2.5 s. With two hops of 0.1 s on average, most
/// answers arrive within the attempt timeout.
const LIMIT: usize = 150;
/// Runs differ by 0.007, and the bounds for immediate retries are 0.004 away, so five runs are too few.
const OTHER_SEEDS_AT_ONCE: u64 = 30;

/// The published figures are means of this number of runs.
const PUBLISHED_RUNS: f64 = 10.0;

/// The disturbance of a steady load of 40 rps.
#[derive(Clone, Copy)]
pub enum Trouble {
    /// Another rate for five seconds.
    Spike { rps: f64 },
    /// A rise to 80 rps in 25 s, and a fall to nothing in the next 50 s.
    Ramp,
}

const TROUBLES: [Trouble; 3] = [Trouble::Spike { rps: 80.0 }, Trouble::Spike { rps: 200.0 }, Trouble::Ramp];

/// A service whose errors say how a call ended, as the errors of a stack do.
pub trait Answering: Service<Call, Response = Reply, Error = Error<Failure>> + Clone + 'static {}

impl<S: Service<Call, Response = Reply, Error = Error<Failure>> + Clone + 'static> Answering for S {}

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let anchors = lab.beyond_a_glance(|| {
        let [_, large_spike, ramp] = means(lab, plain)?;
        Ok(vec![
            Anchor::column("3 tries at once after 200 rps and the ramp", [0.24, 0.31], &[large_spike, ramp], 0),
            Anchor::column("10% budget", [0.97, 0.64, 0.5], &means(lab, budgeted)?, 0),
            Anchor::column("in-flight cap 150, tries at once", [0.986, 0.845, 0.915], &means(lab, capped)?, 0),
        ])
    })?;
    let wanted = [Bound::AtLeast(0.98), Bound::AtLeast(0.84), Bound::AtLeast(0.91)];
    let mut spread = Vec::new();
    for trouble in TROUBLES {
        spread.push(lab.means(lab.count(10, 3, 1), |seed| summary(&collapse(seed, trouble, limited)?))?);
    }
    let mut figures = lab.beyond_a_glance(|| Ok(vec![two_outcomes(lab)?]))?;
    // Behind a limit the kind of backoff does not matter. E1 shows the benefit of jitter.
    figures.push(Figure::column("retries that wait below 1 s and 2 s", wanted, &spread, 0));
    let mut within_budget = Vec::new();
    for trouble in TROUBLES {
        within_budget
            .push(lab.means(lab.count(10, 3, 1), |seed| summary(&collapse(seed, trouble, budgeted_by_steadfast)?))?);
    }
    // The published goodput of a bucket with this ratio, less a tenth.
    let as_published = [0.97, 0.64, 0.5].map(|published| Bound::AtLeast(0.9 * published));
    figures.push(Figure::column("no limit, a budget of 10%", as_published, &within_budget, 0));
    figures.push(Figure::column("its attempts per call", [Bound::AtMost(1.11); 3], &within_budget, 1));
    if lab.is_thorough() {
        let mut at_once = Vec::new();
        for trouble in TROUBLES {
            let run = |seed| summary(&collapse(seed, trouble, limited_at_once)?);
            at_once.push(lab.means_with(10, OTHER_SEEDS_AT_ONCE, run)?);
        }
        figures.push(Figure::column("tries at once", wanted, &at_once, 0));
    }
    Ok(vec![
        Finding {
            id: "E4",
            what: "metastable collapse: 40 rps; 5 s of 80 rps, 5 s of 200 rps, a ramp; a hand-set limit on the server; \
                   done of offered",
            anchors,
            figures,
            to_come: None,
        },
        without_a_hand_set_limit(lab)?,
    ])
}

/// A server that knows the deadline of its callers, and has no hand-set limit.
fn without_a_hand_set_limit(lab: &Lab) -> Result<Finding, ConfigError> {
    let mut figures = Vec::new();
    let at_once = adaptive_means(lab, |sim| adaptive(sim, Backoff::none(), Limiter::adaptive()))?;
    let wanted = [0.94, 0.8, 0.84].map(Bound::AtLeast);
    figures.push(Figure::column("tries at once", wanted, &at_once, 0));
    figures.push(Figure::column("from 10 s after the spike on", [Bound::AtLeast(0.99); 2], &at_once[..2], 2));
    let jittered = adaptive_means(lab, |sim| adaptive(sim, full_jitter(), Limiter::adaptive()))?;
    let wanted = [0.99, 0.95, 0.96].map(Bound::AtLeast);
    figures.push(Figure::column("full jitter, base 10 s", wanted, &jittered, 0));
    figures.push(Figure::column("its attempts per call", [Bound::AtMost(1.55); 3], &jittered, 1));
    figures.push(Figure::column("and from 10 s after the spike on", [Bound::AtLeast(0.99); 2], &jittered[..2], 2));
    figures.extend(lab.beyond_a_glance(|| {
        let aimd = adaptive_means(lab, |sim| {
            adaptive(sim, Backoff::none(), Limiter::adaptive().algorithm(Aimd::new(20, 0.9)?))
        })?;
        let gradient = adaptive_means(lab, |sim| {
            adaptive(sim, Backoff::none(), Limiter::adaptive().algorithm(Gradient::new(20, 1.5)?))
        })?;
        Ok(vec![
            Figure::column("AIMD, tries at once", [Bound::Free; 3], &aimd, 0),
            Figure::column("a gradient, tries at once", [Bound::Free; 3], &gradient, 0),
        ])
    })?);
    Ok(Finding { id: "E4", what: "the same without a hand-set limit", anchors: Vec::new(), figures, to_come: None })
}

/// Returns the goodput, the attempts sent per call, and the goodput from 10 s after the spike on.
fn adaptive_means<S: Client>(
    lab: &Lab,
    client: impl Fn(&Sim) -> Result<(S, Rc<Cell<u64>>), ConfigError> + Sync,
) -> Result<[Means<3>; 3], ConfigError> {
    let means = |trouble| {
        lab.means_with(lab.count(10, 3, 1), lab.count(10, 3, 1), |seed| {
            let mut sent = None;
            let report = collapse_within(seed, trouble, LONGEST_JITTER, |sim| {
                let (client, count) = client(sim)?;
                sent = Some(count);
                Ok(client)
            })?;
            let sent = sent.map_or(0, |sent| sent.get());
            let after = report.goodput_between(secs(35), secs(80)).unwrap_or_default();
            Ok([report.goodput(), sent as f64 / report.offered() as f64, after])
        })
    };
    let [small, large, ramp] = TROUBLES.map(means);
    Ok([small?, large?, ramp?])
}

/// Returns the share of the calls that was answered in time, and the attempts per call that reached the server.
fn summary(report: &Report) -> Result<[f64; 2], ConfigError> {
    Ok([report.goodput(), amplification(report)])
}

/// An anchor whose tolerance is not a tenth. After the small spike, immediate retries collapse in about three runs of
/// four. The published mean of ten such runs can be far from the mean of many runs, so the tolerance is three standard
/// errors.
fn two_outcomes(lab: &Lab) -> Result<Figure, ConfigError> {
    let runs = lab.count(200, 40, 0);
    let means = lab.means_with(runs, runs, |seed| {
        let goodput = collapse(seed, TROUBLES[0], plain)?.goodput();
        Ok([goodput, goodput * goodput])
    })?;
    let [mean, square] = means.model;
    let noise = 3.0 * ((square - mean * mean) / PUBLISHED_RUNS).sqrt();
    Ok(Figure {
        name: "3 tries at once after 80 rps (published 0.66, the mean of ten runs)",
        wanted: vec![Bound::Within(0.66 - noise, 0.66 + noise)],
        got: vec![mean],
        half_widths: vec![means.half_widths[0]],
        on_other_seeds: vec![means.others[0]],
    })
}

/// Returns the means of one defence for each trouble.
fn means<S: Client>(
    lab: &Lab,
    client: impl Fn(&Sim) -> Result<S, ConfigError> + Sync,
) -> Result<[[f64; 2]; 3], ConfigError> {
    let mut means = [[0.0; 2]; 3];
    for (mean, trouble) in means.iter_mut().zip(TROUBLES) {
        // After the small spike some runs collapse and others do not, so the mean of few runs says little.
        let enough = if matches!(trouble, Trouble::Spike { rps: ..100.0 }) { 10 } else { 2 };
        *mean = lab.mean(0..lab.count(10, enough, 0), |seed| summary(&collapse(seed, trouble, &client)?))?;
    }
    Ok(means)
}

/// Makes one run.
pub fn collapse<S: Client>(
    seed: u64,
    trouble: Trouble,
    client: impl FnOnce(&Sim) -> Result<S, ConfigError>,
) -> Result<Report, ConfigError> {
    collapse_within(seed, trouble, LONGEST_WAITS, client)
}

/// Makes one run in which the backoffs of a call sum to at most `longest_waits`.
fn collapse_within<S: Client>(
    seed: u64,
    trouble: Trouble,
    longest_waits: Duration,
    client: impl FnOnce(&Sim) -> Result<S, ConfigError>,
) -> Result<Report, ConfigError> {
    // An answer counts if its attempt was answered in time. The call's only deadline is the sum of its attempt timeouts
    // and its backoffs.
    let calm = Load::poisson(40.0).in_time(ATTEMPTS * PATIENCE + longest_waits);
    let scenario = match trouble {
        Trouble::Spike { rps } => Scenario::new(calm.spike(secs(20), secs(25), rps)).length(secs(80)),
        Trouble::Ramp => {
            let up = calm.ramp(secs(0), secs(25), 40.0, 80.0);
            Scenario::new(up.ramp(secs(25), secs(75), 80.0, 0.0)).length(secs(75))
        }
    };
    settled(scenario.seed(seed).run(client)?)
}

/// Clients that make 3 attempts without a backoff.
pub fn plain(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    Ok(Retries::new(ATTEMPTS, patient(network(sim, open(sim)))?))
}

/// Those clients with a budget of 10%.
pub fn budgeted(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    let retries = Retries::new(ATTEMPTS, patient(network(sim, open(sim)))?);
    Ok(retries.within(Bucket::new(10.0, 0.1, 0.5)))
}

/// Plain clients of a server with a limit.
fn capped(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    let server = Cap::new(LIMIT, backend(sim)).map_err(Error::Service);
    Ok(Retries::new(ATTEMPTS, patient(network(sim, server))?))
}

/// Clients with this crate's budget of 10%, and a server without protection.
fn budgeted_by_steadfast(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    let budget = RetryBudget::builder().ratio(0.1).no_floor().cap(10).random(sim.random()).build()?;
    let retry = Retry::new(ATTEMPTS).backoff(Backoff::none()).budget(budget).random(sim.random());
    steadfast::client().retry(retry).attempt_timeout(PATIENCE).keep_error().service(network(sim, open(sim)))
}

/// This crate on both sides.
pub fn limited(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    // A backoff shorter than the server's response time makes no sense.
    client(sim, Backoff::exponential(secs(1), secs(2)))
}

/// This crate on both sides, with immediate retries.
fn limited_at_once(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    client(sim, Backoff::none())
}

fn client(sim: &Sim, backoff: Backoff) -> Result<impl Client + use<>, ConfigError> {
    let retry = Retry::new(ATTEMPTS).backoff(backoff).without_budget().random(sim.random());
    let server = network(sim, guarded(sim)?);
    // By default any error is retried, and so is a refusal by the server.
    steadfast::client().retry(retry).attempt_timeout(PATIENCE).keep_error().service(server)
}

/// Full jitter below 20 s, then below 40 s. These are a base of 10 s, doubled once and twice.
fn full_jitter() -> Backoff {
    Backoff::exponential(secs(20), secs(40))
}

/// This crate on both sides, with an adaptive limit. Also returns the counter of the attempts sent.
fn adaptive(
    sim: &Sim,
    backoff: Backoff,
    limiter: LimiterBuilder,
) -> Result<(impl Client + use<>, Rc<Cell<u64>>), ConfigError> {
    let retry = Retry::new(ATTEMPTS).backoff(backoff).without_budget().random(sim.random());
    let limiter = limiter.deadline(PATIENCE).build()?;
    watch_limiter(sim, &limiter);
    let server = steadfast::server().load_shed(limiter).service(backend(sim))?;
    let sent = Rc::new(Cell::new(0));
    let count = Rc::clone(&sent);
    let server = network(sim, server).map_request(move |call| {
        count.set(count.get() + 1);
        call
    });
    let client = steadfast::client().retry(retry).attempt_timeout(PATIENCE).keep_error().service(server)?;
    Ok((client, sent))
}

/// Times out an attempt; the server continues with it.
fn patient(server: impl Answering) -> Result<impl Answering, ConfigError> {
    steadfast::client().attempt_timeout(PATIENCE).keep_error().service(server)
}

/// The network between a client and the server.
fn network<S: Answering>(sim: &Sim, server: S) -> Link<S> {
    Link::new(sim, Latency::exponential(ms(100)), server)
}

/// A server that admits every call.
fn open(sim: &Sim) -> impl Answering + use<> {
    backend(sim).map_err(Error::Service)
}

/// A server behind a limit of this crate.
fn guarded(sim: &Sim) -> Result<impl Answering + use<>, ConfigError> {
    let limiter = Limiter::fixed(LIMIT)?;
    watch_limiter(sim, &limiter);
    steadfast::server().load_shed(limiter).service(backend(sim))
}

fn backend(sim: &Sim) -> BackendService {
    sim.backend(Backend::new(Latency::growing_with_in_flight(secs(1), ms(10))))
}
