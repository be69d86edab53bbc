//! E18: the cost of ticks, case by case.

use super::{BLUE, Drawn, VERMILION, save};
use crate::{
    e18::{
        Case, Source, count,
        instructions::{Instructions, can_be_counted},
    },
    lab::Lab,
    plot::{self, INK, font},
};
use plotters::prelude::*;
use std::{ops::Range, path::Path};

/// The range of the drawn values, as powers of ten.
const POWERS: Range<f64> = 1.0..8.0;
const BELOW_THE_LEGEND: f64 = 6.9;

/// E18: the instructions of each tick, of the poller and of a watcher.
pub fn instructions(lab: &Lab, path: &Path) -> Drawn {
    if !can_be_counted() {
        return Err("E18 is drawn from what valgrind counts, and it is not here".into());
    }
    let Instructions { polling, watching } = count(lab, 0, &[])?;
    let lines = [
        ("watch for changes, and process only those", VERMILION, 2, watching),
        ("steadfast: constant work", BLUE, 4, polling),
    ];
    let cases = Case::all();
    save(path, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption("E18: the cost of a tick with 0, 1, 10% or all of its rules changed", font(22).color(&INK))
            .margin(20)
            .x_label_area_size(50)
            .y_label_area_size(96)
            .build_cartesian_2d(0.0..cases.len() as f64, POWERS)?;
        plot::axes(&mut chart.configure_mesh(), 14)
            .disable_x_mesh()
            .x_desc("slots used; from left to right: no rule changed, one, a tenth, all")
            .y_desc("instructions per tick (logarithmic)")
            .x_labels(0)
            .y_labels(7)
            // Leaves room for the legend.
            .y_label_formatter(&|power| if *power > 6.5 { String::new() } else { format!("{:.0}", 10f64.powf(*power)) })
            .draw()?;
        for (group, used) in cases.chunks(4).enumerate() {
            let begin = 4.0 * group as f64;
            if group % 3 == 0 {
                let (source, colour) = match used[0].source {
                    Source::Up => ("the source is up", TRANSPARENT),
                    Source::Down => ("the source is down", INK.mix(0.12)),
                    Source::Corrupt => ("the source is corrupt", TRANSPARENT),
                };
                chart.draw_series([Rectangle::new(
                    [(begin, POWERS.start), (begin + 12.0, POWERS.end)],
                    colour.filled(),
                )])?;
                let text = Text::new(source, (12, 8), font(15).color(&INK));
                chart.draw_series([EmptyElement::at((begin, BELOW_THE_LEGEND)) + text])?;
            }
            let text = Text::new(["none used", "half used", "all used"][group % 3], (10, -18), font(13).color(&INK));
            chart.draw_series([EmptyElement::at((begin, POWERS.start)) + text])?;
        }
        for (name, colour, width, instructions) in &lines {
            let (colour, width) = (*colour, *width);
            let place = |(case, instructions): (usize, &f64)| (case as f64 + 0.5, instructions.log10());
            let points: Vec<_> = instructions.iter().enumerate().map(place).collect();
            for group in points.chunks(4) {
                chart.draw_series(LineSeries::new(group.iter().copied(), colour.stroke_width(width)))?;
            }
            chart
                .draw_series(points.iter().map(|point| Circle::new(*point, width + 2, colour.filled())))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(width)));
        }
        plot::legend(&mut chart, SeriesLabelPosition::UpperMiddle, 14)?;
        Ok(())
    })
}
