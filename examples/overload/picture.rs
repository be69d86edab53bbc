//! The picture of the run: goodput against offered load, as an SVG.

use crate::{
    plot::{self, INK, font},
    report::{Report, Row},
    scenario::{DEADLINE, MULTIPLES},
};
use plotters::prelude::*;
use std::{error::Error, fs, path::Path};

const SIZE: (u32, u32) = (960, 560);
const PROTECTED: RGBColor = RGBColor(0, 114, 178);
const UNPROTECTED: RGBColor = RGBColor(213, 94, 0);
const CAPACITY: RGBColor = RGBColor(110, 110, 110);

pub fn write(report: &Report, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut picture = String::new();
    draw(report, &mut picture)?;
    Ok(fs::write(path, picture)?)
}

fn draw(report: &Report, picture: &mut String) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let capacity = report.capacity_rps;
    // Logarithmic, because the loads are multiples: 0.5 to 1 is as far as 5 to 10.
    let loads = 0.4 * capacity..12.5 * capacity;
    let ticks = MULTIPLES.map(|multiple| multiple * capacity);
    let mut chart = ChartBuilder::on(&area)
        .caption("Goodput under overload", font(22).color(&INK))
        .margin(20)
        .margin_right(30)
        .x_label_area_size(56)
        .y_label_area_size(70)
        .build_cartesian_2d(loads.clone().log_scale().with_key_points(ticks.to_vec()), 0.0..1.35 * capacity)?;
    plot::axes(&mut chart.configure_mesh(), 14)
        .x_desc("offered load, calls per second (multiple of capacity)")
        .y_desc(format!("goodput, answers per second (within {} s)", DEADLINE.as_secs_f64()))
        .x_label_formatter(&|load| format!("{load:.0} ({}x)", (load / capacity * 10.0).round() / 10.0))
        .y_label_formatter(&|goodput| format!("{goodput:.0}"))
        .y_labels(7)
        .draw()?;

    let ends = [(loads.start, capacity), (loads.end, capacity)];
    chart
        .draw_series(DashedLineSeries::new(ends, 6, 5, CAPACITY.stroke_width(2)))?
        .label(format!("capacity of the server, {capacity:.0} per second"))
        .legend(|start| {
            let dash = |from| PathElement::new([(from, 0), (from + 6, 0)], CAPACITY.stroke_width(2));
            EmptyElement::at(start) + dash(0) + dash(9) + dash(18)
        });
    // The second line and its points are thinner, so that the first ones show where both modes do equally well.
    for (rows, color, width, label) in [
        (&report.protected, PROTECTED, 5, "protected by steadfast"),
        (&report.unprotected, UNPROTECTED, 2, "unprotected: timeouts and plain retries"),
    ] {
        let points = || rows.iter().map(|row: &Row| (row.offered_rps, row.goodput_rps));
        chart
            .draw_series(LineSeries::new(points(), color.stroke_width(width)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(width)));
        chart.draw_series(points().map(|point| Circle::new(point, width + 2, color.filled())))?;
    }
    plot::legend(&mut chart, SeriesLabelPosition::MiddleRight, 14)?;
    area.present()?;
    Ok(())
}
