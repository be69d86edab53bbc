//! The picture: goodput against offered load, and below it answers over time when the work slows down.

use crate::{
    plot::{self, INK, font},
    report::{Report, Row, SlowRun},
    scenario::{DEADLINE, MULTIPLES, SLOWDOWN_MULTIPLE, SLOWER},
};
use plotters::{coord::Shift, prelude::*};
use std::{error::Error, fs, path::Path};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (960, 900);
/// The height of the border between the chart over load, above, and the chart over time, below.
const SPLIT: u32 = 530;
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
    let (upper, lower) = area.split_vertically(SPLIT);
    goodput(report, &upper)?;
    slowdown(report, &lower)?;
    area.present()?;
    Ok(())
}

/// Answers in time against the offered load.
fn goodput(report: &Report, area: &Area) -> Result<(), Box<dyn Error>> {
    let capacity = report.capacity_rps;
    // Logarithmic, because the loads are multiples: the distance from 0.5 to 1 equals that from 5 to 10.
    let loads = 0.4 * capacity..12.5 * capacity;
    let ticks = MULTIPLES.map(|multiple| multiple * capacity);
    let mut chart = ChartBuilder::on(area)
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
    // The second line and its points are thinner, so that the first line stays visible where both modes do equally
    // well.
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
    Ok(())
}

/// Answers in time over time, before and after the work slows down. The colours match the chart above.
fn slowdown(report: &Report, area: &Area) -> Result<(), Box<dyn Error>> {
    let (slowdown, capacity) = (&report.slowdown, report.capacity_rps);
    let runs = [(&slowdown.protected, PROTECTED, 4), (&slowdown.unprotected, UNPROTECTED, 2)];
    let answers = |run: &Option<SlowRun>| run.as_ref().map_or_else(Vec::new, |run| run.answers.clone());
    let all = runs.iter().flat_map(|(run, ..)| answers(run));
    let (end, most) = all.fold((1.0_f64, capacity), |(end, most), (at, rate)| (end.max(at), most.max(rate)));
    let top = 1.2 * most;
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!("At {SLOWDOWN_MULTIPLE}x, the work takes {SLOWER}x as long from mid-run on"),
            font(22).color(&INK),
        )
        .margin(20)
        .margin_right(30)
        .x_label_area_size(56)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    plot::axes(&mut chart.configure_mesh(), 14)
        .x_desc("seconds since the load began")
        .y_desc("answers in time per second")
        .x_label_formatter(&|seconds| format!("{seconds:.0}"))
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .y_labels(5)
        .draw()?;

    let (slow_at, left) = (slowdown.slow_at, slowdown.capacity_rps);
    let steps = [(0.0, capacity), (slow_at, capacity), (slow_at, left), (end, left)];
    chart.draw_series(DashedLineSeries::new(steps, 6, 5, CAPACITY.stroke_width(2)))?;
    for (run, color, width) in runs {
        chart.draw_series(LineSeries::new(answers(run), color.stroke_width(width)))?;
    }
    // The notes on the slowdown stand beside its line, in the empty area above the remaining capacity.
    let note = |at, text| Text::new(text, at, font(14).color(&INK));
    let beside = slow_at + 0.01 * end;
    chart.draw_series([
        note((beside, 0.97 * top), format!("from here on the work takes {SLOWER}x as long,")),
        note((beside, 0.90 * top), format!("and the capacity is {left:.0} per second")),
    ])?;
    Ok(())
}
