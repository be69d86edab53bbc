//! Answers a question about your own service in virtual time. Copy this file, insert your numbers and your stack, and
//! run it.
//!
//! ```sh
//! cargo run --release --features sim --example what_if
//! ```
//!
//! The question here: the service stalls for ten seconds. Does it recover, and when? The picture goes to `what_if.svg`.

use plotters::prelude::*;
use std::{error::Error, ops::Range, time::Duration};
use steadfast::{
    ConfigError,
    load_shed::Limiter,
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, BackendService, Call, Failure, Latency, Link, Load, Recovery, Reply, Report, Scenario, Sim},
};
use tower::Service;

/// Calls per second, and the deadline of a caller.
pub const RPS: f64 = 300.0;
const TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;
/// The simulated time.
pub const LENGTH: Duration = Duration::from_secs(60);
const OUTAGE: Range<Duration> = Duration::from_secs(20)..Duration::from_secs(30);
/// The limit on the calls in the service: those that it can complete in 150 ms.
pub const LIMIT: usize = 60;
/// The network latency from a caller to the service, and back.
const HOP: Latency = Latency::fixed(Duration::from_millis(1));

/// The service: 20 workers of 50 ms each, so 400 calls per second. It does not notice when a caller gives up.
fn my_service(sim: &Sim) -> BackendService {
    sim.backend(Backend::new(Latency::exponential(Duration::from_millis(50))).servers(20).hang(OUTAGE))
}

/// The callers as they are today: a timeout, and three attempts.
pub fn as_it_is(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    let retry = Retry::new(ATTEMPTS).backoff(Backoff::none()).without_budget();
    steadfast::client().retry(retry).attempt_timeout(TIMEOUT).service(Link::new(sim, HOP, my_service(sim)))
}

/// With a limit on the calls that the service admits, and a budget for the retries of its callers. The network is
/// between the two stacks, so a caller that gives up does not release its call's place in the service. Without the
/// [`Link`], the caller's future would contain the service's future and release the place.
pub fn as_it_could_be(sim: &Sim) -> Result<impl Client + use<>, ConfigError> {
    let service = steadfast::server().load_shed(Limiter::fixed(LIMIT)?).service(my_service(sim))?;
    let budget = RetryBudget::builder().random(sim.random()).build()?;
    let retry = Retry::new(ATTEMPTS).budget(budget).random(sim.random());
    steadfast::client().retry(retry).attempt_timeout(TIMEOUT).keep_error().service(Link::new(sim, HOP, service))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (today, then) = (ask("As it is", as_it_is)?, ask("As it could be", as_it_could_be)?);
    draw("what_if.svg", &[("as it is", RED, today), ("with a limit and a budget", BLUE, then)])
}

/// Runs one variant.
fn ask<S: Client>(name: &str, client: fn(&Sim) -> Result<S, ConfigError>) -> Result<Report, ConfigError> {
    let report = run(client, 1)?;
    match report.recovery() {
        Recovery::After(time) => println!("{name}, it comes back {time:?} after the outage.\n{report}"),
        _ => println!("{name}, it does not come back.\n{report}"),
    }
    Ok(report)
}

/// Makes one run of the simulated load, with this seed.
pub fn run<S: Client>(client: fn(&Sim) -> Result<S, ConfigError>, seed: u64) -> Result<Report, ConfigError> {
    Scenario::new(Load::poisson(RPS).in_time(3 * TIMEOUT)).length(LENGTH).seed(seed).run(client)
}

/// A service of simulated calls, such as a stack. The trait is a short name for its bounds.
pub trait Client: Service<Call, Response = Reply, Error = steadfast::Error<Failure>> + Clone + 'static {}
impl<S: Service<Call, Response = Reply, Error = steadfast::Error<Failure>> + Clone + 'static> Client for S {}

/// Draws the answers in time per second, over the time at which the calls began.
fn draw(path: &str, lines: &[(&str, RGBColor, Report)]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (900, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("The service stands still for ten seconds", ("sans-serif", 22))
        .margin(20)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..LENGTH.as_secs_f64(), 0.0..1.5 * RPS)?;
    let mesh = &mut chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_desc("time, in seconds").y_desc("answers in time, per second").draw()?;
    let [from, to] = [OUTAGE.start, OUTAGE.end].map(|instant| instant.as_secs_f64());
    let grey = BLACK.mix(0.12).filled();
    let shade = chart.draw_series([Rectangle::new([(from, 0.0), (to, 1.5 * RPS)], grey)])?;
    shade.label("the outage").legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 20, y + 6)], grey));
    for (name, colour, report) in lines {
        let points = report.spans.iter().map(|span| (span.from, span.in_time as f64 / (span.to - span.from)));
        let line = chart.draw_series(LineSeries::new(points, colour.stroke_width(3)))?;
        let colour = *colour;
        line.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)));
    }
    let legend = &mut chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperRight).background_style(WHITE).border_style(BLACK.mix(0.3)).draw()?;
    area.present()?;
    Ok(())
}
