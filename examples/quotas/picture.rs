//! The picture of both runs: the share of each caller's requests that was answered, over time.

use crate::{
    plot::{self, INK, font},
    traffic::{Run, SLICE, SLICES},
};
use plotters::prelude::*;
use std::{error::Error, fs, path::Path};

const SIZE: (u32, u32) = (1080, 460);
const COLORS: [RGBColor; 4] =
    [RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 158, 115), RGBColor(170, 68, 153)];

pub fn write(runs: &[Run], path: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut picture = String::new();
    draw(runs, &mut picture).map_err(|error| error.to_string())?;
    Ok(fs::write(path, picture)?)
}

fn draw(runs: &[Run], picture: &mut String) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    for (run, panel) in runs.iter().zip(area.split_evenly((1, runs.len()))) {
        let slice = SLICE.as_secs_f64();
        let mut chart = ChartBuilder::on(&panel)
            .caption(run.title, font(20).color(&INK))
            .margin(16)
            .x_label_area_size(50)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..SLICES as f64 * slice, 0.0..1.08)?;
        plot::axes(&mut chart.configure_mesh(), 13)
            .x_desc("seconds")
            .y_desc("share of the requests answered")
            .x_labels(7)
            .y_label_formatter(&|share| format!("{:.0}%", share * 100.0))
            .draw()?;
        for (caller, color) in run.callers.iter().zip(COLORS) {
            let points = caller.slices.iter().enumerate().filter(|(_, (sent, _))| *sent > 0);
            let line = points.map(|(index, (sent, answered))| {
                ((index as f64 + 0.5) * slice, f64::from(*answered) / f64::from(*sent))
            });
            let style = color.stroke_width(3);
            chart
                .draw_series(LineSeries::new(line, style))?
                .label(format!("{}, {} per second", caller.key, caller.per_second))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
        plot::legend(&mut chart, SeriesLabelPosition::LowerLeft, 13)?;
    }
    area.present()?;
    Ok(())
}
