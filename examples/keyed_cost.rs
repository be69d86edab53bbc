//! Measures the cost of one call of a keyed limit, with one key and up to a million. The cost is constant, except for
//! cache misses of the processor.
//!
//! ```sh
//! cargo run --release --example keyed_cost -- keyed_cost.svg
//! ```

#[path = "support/plot.rs"]
mod plot;

use indicatif::ProgressBar;
use plot::{INK, font};
use plotters::prelude::*;
use std::{env, error::Error, fs, hint::black_box, time::Duration};
use steadfast::rate_limit::{Keyed, Quota};
use tokio::time::Instant;

/// Measures real time.
#[allow(clippy::disallowed_types, reason = "no runtime here could pause the clock")]
type Clock = std::time::Instant;

const COUNTS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
const CALLS: u64 = 1_000_000;
const REPETITIONS: usize = 5;
const SIZE: (u32, u32) = (900, 480);
const OURS: RGBColor = RGBColor(0, 114, 178);
const CLOCK: RGBColor = RGBColor(110, 110, 110);

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).unwrap_or("keyed_cost.svg".to_owned());
    let bar = ProgressBar::new((COUNTS.len() * REPETITIONS) as u64);
    let mut clock = reading();
    let mut costs = Vec::new();
    for count in COUNTS {
        let limit = Keyed::<u64>::builder(count.max(1000) as usize, Quota::new(1_000_000_000, Duration::from_secs(1)));
        let limit = limit.build()?;
        // The table knows all keys from here on: a full bucket stays until a new key needs its slot.
        (0..count).for_each(|key| drop(limit.try_acquire(&key, 1)));
        let mut keys = Keys { count, state: 0x9E37_79B9_7F4A_7C15 };
        let cost = median(|| {
            bar.inc(1);
            time(|_| assert!(limit.try_acquire(&keys.next(), 1).is_ok(), "a token per nanosecond is enough"))
        });
        println!("{count:>9} keys: {cost:>6.1} ns per call, {} bytes in all", limit.memory());
        costs.push((count as f64, cost));
        clock = clock.min(reading());
    }
    bar.finish_and_clear();
    println!("of which the clock takes {clock:.1} ns");
    let mut picture = String::new();
    draw(&costs, clock, &mut picture)?;
    Ok(fs::write(path, picture)?)
}

/// Measures nanoseconds per call.
fn time(mut call: impl FnMut(u64)) -> f64 {
    let start = Clock::now();
    (0..CALLS).for_each(&mut call);
    start.elapsed().as_nanos() as f64 / CALLS as f64
}

/// Measures the cost of reading the clock.
fn reading() -> f64 {
    median(|| {
        time(|_| {
            black_box(Instant::now());
        })
    })
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..REPETITIONS).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all[REPETITIONS / 2]
}

/// Keys in random order: Marsaglia's xorshift64, scaled to the number of keys.
struct Keys {
    count: u64,
    state: u64,
}

impl Keys {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((u128::from(self.state) * u128::from(self.count)) >> 64) as u64
    }
}

fn draw(costs: &[(f64, f64)], clock: f64, picture: &mut String) -> Result<(), Box<dyn Error>> {
    let most = costs.iter().map(|(_, cost)| *cost).fold(0.0, f64::max);
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("One call of a keyed rate limit", font(22).color(&INK))
        .margin(20)
        .x_label_area_size(52)
        .y_label_area_size(64)
        .build_cartesian_2d((0.8..1_300_000.0).log_scale(), 0.0..most * 1.15)?;
    plot::axes(&mut chart.configure_mesh(), 14)
        .x_desc("keys in use, drawn at random")
        .y_desc("nanoseconds per call")
        .x_label_formatter(&|count| format!("{count:.0}"))
        .draw()?;
    let style = OURS.stroke_width(4);
    chart
        .draw_series(LineSeries::new(costs.iter().copied(), style))?
        .label("hash, find, take a token")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    chart.draw_series(costs.iter().map(|point| Circle::new(*point, 5, OURS.filled())))?;
    chart
        .draw_series(DashedLineSeries::new([(0.8, clock), (1_300_000.0, clock)], 6, 5, CLOCK.stroke_width(2)))?
        .label("of which reading the clock")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], CLOCK.stroke_width(2)));
    plot::legend(&mut chart, SeriesLabelPosition::UpperLeft, 14)?;
    area.present()?;
    Ok(())
}
