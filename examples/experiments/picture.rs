//! The pictures: the goodput over time in E4, E9 and E14, a comparison of mechanisms in E5 and E6, and the cost of
//! ticks in E18.

mod constant_work;

pub use constant_work::instructions;

use crate::{
    e4::{self, Trouble},
    e5, e6, e9,
    e14::{self, Trigger},
    lab::{Client, Lab, secs},
    plot::{self, INK, font},
};
use plotters::{coord::Shift, prelude::*};
use std::{error::Error, fs, ops::Range, path::Path};
use steadfast::{
    ConfigError,
    sim::{BackendService, Report, Sim, Span},
};

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (960, 520);
/// How many spans a report has.
const SPANS: usize = 100;

// The colours of Okabe and Ito, which colour-blind people can distinguish.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(140, 140, 140);

/// A line over time: its name, its colour, its width, and the percentage at the middle of each span.
type Line = (&'static str, RGBColor, u32, [f64; SPANS]);

/// E4: the share of the calls that is answered, around a spike of 200 rps.
pub fn collapse(lab: &Lab, path: &Path) -> Drawn {
    let lines = [
        ("3 tries at once", VERMILION, 2, spike(lab, e4::plain)?),
        ("3 tries at once, 10% budget", ORANGE, 2, spike(lab, e4::budgeted)?),
        ("steadfast: limit of 150 on the server, full jitter", BLUE, 4, spike(lab, e4::limited)?),
    ];
    let scene = Scene {
        caption: "E4: 40 calls per second, and 200 for five seconds",
        length: 80.0,
        height: 105.0,
        shade: Some((20.0..25.0, "the spike")),
        legend: SeriesLabelPosition::MiddleRight,
    };
    save(path, |area| over_time(area, &scene, &lines))
}

fn spike<S: Client>(
    lab: &Lab,
    client: impl Fn(&Sim) -> Result<S, ConfigError> + Sync,
) -> Result<[f64; SPANS], ConfigError> {
    lab.mean(0..10, |seed| Ok(answered(&e4::collapse(seed, Trouble::Spike { rps: 200.0 }, &client)?)))
}

/// E9: the share of the calls that is answered while one shard of five is dead. One run, because breakers open at other
/// times in each run.
pub fn outage(_: &Lab, path: &Path) -> Drawn {
    type Shards = e9::Shards<BackendService>;
    fn run<S: Client>(client: fn(&Sim, Shards) -> Result<S, ConfigError>) -> Result<[f64; SPANS], ConfigError> {
        Ok(answered(&e9::outage(0, secs(60), 1, client)?))
    }
    let lines = [
        ("one breaker for all shards", VERMILION, 2, run(e9::one_breaker)?),
        ("a breaker for each shard", BLUE, 4, run(e9::breaker_per_shard)?),
    ];
    let scene = Scene {
        caption: "E9: one of five shards is dead, and nothing else",
        length: 60.0,
        height: 130.0,
        shade: None,
        legend: SeriesLabelPosition::UpperRight,
    };
    save(path, |area| over_time(area, &scene, &lines))
}

/// E14: a service that stalls for ten seconds, behind several queues.
pub fn fair_queue(lab: &Lab, path: &Path) -> Drawn {
    fn run<S: Client>(
        lab: &Lab,
        client: impl Fn(&Sim, BackendService) -> Result<S, ConfigError> + Sync,
    ) -> Result<[f64; SPANS], ConfigError> {
        lab.mean(0..10, |seed| {
            let mut answered = answered(&e14::collapse(seed, e14::WHOLE, Trigger::Standstill, &client)?);
            // Not drawn.
            answered[e14::WHOLE.counted().as_secs() as usize..].fill(f64::NAN);
            Ok(answered)
        })
    }
    let lines = [
        ("first in, first out", VERMILION, 2, run(lab, e14::fifo)?),
        ("the same, expired calls dropped", ORANGE, 2, run(lab, e14::without_the_expired)?),
        ("barging", GREY, 2, run(lab, e14::barging)?),
        ("steadfast: load leveling as it is by default", BLUE, 4, run(lab, e14::levelled_by_default)?),
    ];
    let scene = Scene {
        caption: "E14: 280 calls per second, 300 can be done; the service stands still for ten seconds",
        length: e14::WHOLE.length.as_secs_f64(),
        height: 150.0,
        shade: Some((20.0..30.0, "the standstill")),
        legend: SeriesLabelPosition::UpperRight,
    };
    save(path, |area| over_time(area, &scene, &lines))
}

/// Returns the percentage of the calls of each span that was answered.
fn answered(report: &Report) -> [f64; SPANS] {
    let percent = |span: &Span| 100.0 * span.in_time as f64 / span.offered.max(1) as f64;
    std::array::from_fn(|index| report.spans.get(index).map_or(0.0, percent))
}

/// E5: calls to a dead leaf per call at the top of a chain of five.
pub fn amplification(_: &Lab, path: &Path) -> Drawn {
    let bars = [
        ("3 tries each", VERMILION, e5::chain(0, 1.0, e5::PLAIN)?[0]),
        ("\"do not retry\" mark", ORANGE, e5::chain(0, 1.0, e5::MARK)?[0]),
        ("10% budget", ORANGE, e5::chain(0, 1.0, e5::BUDGET)?[0]),
        ("10% budget and mark", BLUE, e5::chain(0, 1.0, e5::BOTH)?[0]),
    ];
    let description = "calls to the leaf per call at the top (logarithmic)";
    let axis = Axis { description, values: 1.0..500.0, logarithmic: true, mark: None };
    save(path, |area| compare(area, "E5: five services in a chain, and a dead leaf", &axis, 190, &bars))
}

/// E6: useful answers, and the p99 of the served calls.
pub fn queues(lab: &Lab, path: &Path) -> Drawn {
    let mut means = Vec::new();
    for (name, discipline, _) in e6::PUBLISHED {
        means.push((name, ORANGE, lab.mean(0..10, |seed| e6::textbook(seed, discipline))?));
    }
    means.push(("steadfast's default", BLUE, lab.mean(0..10, |seed| e6::steadfast(seed, e6::LENGTH, 1_000.0))?));
    let bars =
        |number: usize| -> Vec<_> { means.iter().map(|(name, colour, mean)| (*name, *colour, mean[number])).collect() };
    let (useful, p99) = (bars(0), bars(1));
    let description = "answers within 100 ms, per second";
    let mark = Some((500.0, "capacity"));
    let per_second = Axis { description, values: 0.0..600.0, logarithmic: false, mark };
    let description = "p99 of the answers, in ms (logarithmic)";
    let mark = Some((100.0, "deadline"));
    let millis = Axis { description, values: 10.0..10_000.0, logarithmic: true, mark };
    save(path, |area| {
        let (left, right) = area.split_horizontally(560);
        compare(&left, "E6: 1000 calls per second, 500 can be done", &per_second, 190, &useful)?;
        compare(&right, " ", &millis, 0, &p99)
    })
}

fn save(path: &Path, draw: impl FnOnce(&Area) -> Drawn) -> Drawn {
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    fs::write(path, picture).map_err(|error| format!("cannot write {path:?}: {error}").into())
}

/// The axes of lines over time.
struct Scene<'a> {
    caption: &'a str,
    /// In seconds.
    length: f64,
    /// In percent.
    height: f64,
    shade: Option<(Range<f64>, &'a str)>,
    legend: SeriesLabelPosition,
}

/// Percentages over time.
fn over_time(area: &Area, scene: &Scene, lines: &[Line]) -> Drawn {
    let length = scene.length;
    let mut chart = ChartBuilder::on(area)
        .caption(scene.caption, font(22).color(&INK))
        .margin(20)
        .x_label_area_size(50)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..length, 0.0..scene.height)?;
    plot::axes(&mut chart.configure_mesh(), 14)
        .x_desc("time of arrival, in seconds")
        .y_desc("calls answered, in percent")
        .x_label_formatter(&|seconds| format!("{seconds:.0}"))
        // Leaves room for the legend.
        .y_label_formatter(&|percent| if *percent > 100.0 { String::new() } else { format!("{percent:.0}") })
        .draw()?;
    if let Some((during, name)) = &scene.shade {
        let corners = [(during.start, 0.0), (during.end, scene.height)];
        chart
            .draw_series([Rectangle::new(corners, INK.mix(0.12).filled())])?
            .label(*name)
            .legend(|(x, y)| Rectangle::new([(x, y - 6), (x + 24, y + 6)], INK.mix(0.12).filled()));
    }
    for (name, colour, width, percentages) in lines {
        let middle = |span: usize| length * (span as f64 + 0.5) / SPANS as f64;
        let points = percentages.iter().enumerate().map(|(span, percent)| (middle(span), *percent));
        let points = points.filter(|(_, percent)| percent.is_finite());
        let (colour, width) = (*colour, *width);
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(width)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(width)));
    }
    plot::legend(&mut chart, scene.legend.clone(), 14)?;
    Ok(())
}

/// The scale of the bars in a comparison, and the mark to compare them with.
struct Axis<'a> {
    description: &'a str,
    values: Range<f64>,
    logarithmic: bool,
    mark: Option<(f64, &'a str)>,
}

impl Axis<'_> {
    /// Returns the position of a value in the picture.
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.log10() } else { value }
    }

    fn value(&self, place: f64) -> f64 {
        if self.logarithmic { 10f64.powf(place) } else { place }
    }
}

/// Draws horizontal bars, the first at the top, each with its number.
fn compare(area: &Area, caption: &str, axis: &Axis, room_for_names: u32, bars: &[(&str, RGBColor, f64)]) -> Drawn {
    let (begin, end) = (axis.place(axis.values.start), axis.place(axis.values.end));
    // One more row at the top, for the name of the mark.
    let rows = if axis.mark.is_some() { bars.len() } else { bars.len() - 1 };
    let mut chart = ChartBuilder::on(area)
        .caption(caption, font(20).color(&INK))
        .margin(20)
        .margin_right(30)
        .x_label_area_size(50)
        .y_label_area_size(room_for_names)
        .build_cartesian_2d(begin..end, (0..rows).into_segmented())?;
    let name = |row: &SegmentValue<usize>| match row {
        SegmentValue::CenterOf(row) if room_for_names > 0 => {
            bars.iter().rev().nth(*row).map_or(String::new(), |(name, ..)| name.to_string())
        }
        _ => String::new(),
    };
    plot::axes(&mut chart.configure_mesh(), 14)
        .disable_y_mesh()
        .x_desc(axis.description)
        .x_labels(if axis.logarithmic { 4 } else { 7 })
        .x_label_formatter(&|place| format!("{:.0}", axis.value(*place)))
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .draw()?;
    for (row, (_, colour, value)) in bars.iter().rev().enumerate() {
        let corners = [(begin, SegmentValue::Exact(row)), (axis.place(*value), SegmentValue::Exact(row + 1))];
        let mut bar = Rectangle::new(corners, colour.filled());
        bar.set_margin(9, 9, 0, 0);
        chart.draw_series([bar])?;
        // Beside its bar, or at the right edge if there is a mark.
        let (at, offset) = if axis.mark.is_some() { (end, -40) } else { (axis.place(*value), 7) };
        let digits = if *value < 10.0 { 2 } else { 0 };
        let text = Text::new(format!("{value:.digits$}"), (offset, -6), font(14).color(&INK));
        chart.draw_series([EmptyElement::at((at, SegmentValue::CenterOf(row))) + text])?;
    }
    if let Some((value, name)) = axis.mark {
        let at = axis.place(value);
        let ends = [SegmentValue::Exact(0), SegmentValue::Exact(bars.len())].map(|row| (at, row));
        chart.draw_series(DashedLineSeries::new(ends, 6, 5, INK.stroke_width(2)))?;
        let text = Text::new(name.to_owned(), (-24, 4), font(14).color(&INK));
        chart.draw_series([EmptyElement::at((at, SegmentValue::CenterOf(bars.len()))) + text])?;
    }
    Ok(())
}
