//! The picture: how many calls wait, and the predicted time until the queue is empty beside the actual time.

use crate::{
    plot::{self, INK, font},
    traffic::{CALM, Run},
};
use plotters::{coord::Shift, prelude::*};
use std::{error::Error, fs, path::Path};
use steadfast::load_level::DrainTime;
use tower::BoxError;

const SIZE: (u32, u32) = (960, 640);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(190, 190, 190);

type Drawn = Result<(), Box<dyn Error>>;

pub fn write(run: &Run, path: &Path) -> Result<(), BoxError> {
    let mut picture = String::new();
    draw(run, &mut picture).map_err(|error| error.to_string())?;
    Ok(fs::write(path, picture)?)
}

fn draw(run: &Run, picture: &mut String) -> Drawn {
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(SIZE.1 / 2);
    let length = run.moments.last().map_or(1.0, |moment| moment.at);
    let most = run.moments.iter().map(|moment| moment.look.waiting).max().unwrap_or(0).max(1) as f64;
    let burst = (CALM.as_secs_f64(), (CALM + run.burst).as_secs_f64());

    let waiting = run.moments.iter().map(|moment| (moment.at, moment.look.waiting as f64)).collect();
    let backlog = Panel {
        caption: "A burst of ten times the capacity, then half of the capacity",
        description: "waiting calls",
        length,
        height: most * 1.15,
        shades: vec![("the burst", INK, burst)],
        lines: vec![("waiting", BLUE, 3, waiting)],
    };
    backlog.draw(&above)?;

    let rest = |at: f64| (run.gone_at - at).max(0.0);
    let truth = run.moments.iter().map(|moment| (moment.at, rest(moment.at))).collect();
    let predicted = run.moments.iter().filter_map(|moment| match moment.look.drain_time {
        DrainTime::In(time) if moment.look.waiting > 0 => Some((moment.at, time.as_secs_f64())),
        _ => None,
    });
    let never = run.moments.iter().filter(|moment| moment.look.drain_time == DrainTime::Never);
    let never: Vec<f64> = never.map(|moment| moment.at).collect();
    let never = (never.first().copied().unwrap_or(0.0), never.last().copied().unwrap_or(0.0));
    let drain = Panel {
        caption: "When is the backlog gone?",
        description: "seconds until the queue is empty",
        length,
        height: run.gone_at * 1.15,
        shades: vec![("predicted: \"never\"", VERMILION, never)],
        lines: vec![("actual", GREY, 9, truth), ("predicted", BLUE, 3, predicted.collect())],
    };
    drain.draw(&below)?;
    area.present()?;
    Ok(())
}

/// Lines over time, in front of shaded and named periods.
struct Panel<'a> {
    caption: &'a str,
    description: &'a str,
    length: f64,
    height: f64,
    shades: Vec<(&'a str, RGBColor, (f64, f64))>,
    lines: Vec<(&'a str, RGBColor, u32, Vec<(f64, f64)>)>,
}

impl Panel<'_> {
    fn draw(&self, area: &DrawingArea<SVGBackend, Shift>) -> Drawn {
        let mut chart = ChartBuilder::on(area)
            .caption(self.caption, font(20).color(&INK))
            .margin(16)
            .x_label_area_size(46)
            .y_label_area_size(68)
            .build_cartesian_2d(0.0..self.length, 0.0..self.height)?;
        plot::axes(&mut chart.configure_mesh(), 13)
            .x_desc("seconds")
            .y_desc(self.description)
            .x_label_formatter(&|seconds| format!("{seconds:.0}"))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .draw()?;
        for (name, colour, (from, to)) in &self.shades {
            let style = colour.mix(0.15).filled();
            chart
                .draw_series([Rectangle::new([(*from, 0.0), (*to, self.height)], style)])?
                .label(*name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 22, y + 6)], style));
        }
        for (name, colour, width, points) in &self.lines {
            let style = colour.stroke_width(*width);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
        plot::legend(&mut chart, SeriesLabelPosition::UpperRight, 13)?;
        Ok(())
    }
}
