//! What if my database is away for ten seconds: does my service come back, and when?
//!
//! A template: put in your own service, your timeout and your retries, and your own question.
//! `cargo run --release --features sim --example what_if` prints the report and draws `what_if.svg`.

use plotters::prelude::*;
use std::{error::Error, time::Duration};
use steadfast::{
    ConfigError,
    load_shed::Limiter,
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, Latency, Load, Report, Scenario},
};

const PICTURE: &str = "what_if.svg";

/// The question: when the database stands still, and for how long.
const AWAY: std::ops::Range<Duration> = Duration::from_secs(20)..Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let bare = run(false)?;
    println!("As it is, with plain retries:\n{bare}");
    let protected = run(true)?;
    println!("With a budget, and a limit on the calls in flight:\n{protected}");
    draw(&bare, &protected)?;
    println!("The picture is in {PICTURE}.");
    Ok(())
}

fn run(protected: bool) -> Result<Report, ConfigError> {
    let millis = Duration::from_millis;
    // My traffic: 50 calls per second, and an answer after a second is worth nothing.
    let load = Load::poisson(50.0).in_time(Duration::from_secs(1));
    Scenario::new(load).length(Duration::from_secs(120)).seed(1).run(|sim| {
        // My database: ten connections, 100 ms for a query. It finishes what it began, whoever still waits.
        let database = Backend::new(Latency::exponential(millis(100))).named("database").servers(10).hang(AWAY);
        let retry = Retry::new(3).backoff(Backoff::exponential(millis(50), millis(200))).random(sim.random());
        let retry = if protected {
            retry.budget(RetryBudget::builder().ratio(0.1).random(sim.random()).build()?)
        } else {
            retry.without_budget()
        };
        let client = steadfast::client().timeout(Duration::from_secs(1)).retry(retry).attempt_timeout(millis(280));
        // Twenty at once are twice what the connections take, and few enough that nobody waits for long.
        let in_flight = if protected { 20 } else { usize::MAX };
        client.load_shed(Limiter::fixed(in_flight)?).service(sim.backend(database))
    })
}

/// Goodput over time, and the time in which the database stood still.
fn draw(bare: &Report, protected: &Report) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(PICTURE, (900, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Calls answered in time, around ten seconds without a database", ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..120.0, 0.0..105.0)?;
    chart.configure_mesh().x_desc("time, s").y_desc("answered in time, %").light_line_style(TRANSPARENT).draw()?;
    let away = [(AWAY.start.as_secs_f64(), 0.0), (AWAY.end.as_secs_f64(), 105.0)];
    chart.draw_series([Rectangle::new(away, BLACK.mix(0.12).filled())])?;
    for (report, label, color) in [(bare, "plain retries", &RED), (protected, "budget and limit", &BLUE)] {
        let percent = |in_time: u64, offered: u64| 100.0 * in_time as f64 / offered.max(1) as f64;
        let points = report.spans.iter().map(|span| (span.from, percent(span.in_time, span.offered)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::MiddleRight).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
