//! The picture: the admissions in the last second, for each kind of limit.

use crate::{
    plot::{self, INK, font},
    process::{RATE, SLOT, Slots, Way, in_the_last_window, slots_in},
};
use plotters::prelude::*;
use std::{error::Error, fs, path::Path, time::Duration};

const SIZE: (u32, u32) = (1240, 440);
const OURS: RGBColor = RGBColor(0, 114, 178);
const BOUND: RGBColor = RGBColor(213, 94, 0);

pub fn write(slots: &Slots, third: Duration, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut picture = String::new();
    draw(slots, third, &mut picture)?;
    Ok(fs::write(path, picture)?)
}

fn draw(slots: &Slots, third: Duration, picture: &mut String) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let third = third.as_secs_f64();
    let most = Way::ALL.map(Way::bound_in_outage).into_iter().max().unwrap_or(RATE) as f64 * 1.3;
    let panels = area.split_evenly((1, Way::ALL.len()));
    for ((way, slots), panel) in Way::ALL.into_iter().zip(slots).zip(&panels) {
        let mut chart = ChartBuilder::on(panel)
            .caption(way.name(), font(20).color(&INK))
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..3.0 * third, 0.0..most)?;
        plot::axes(&mut chart.configure_mesh(), 13)
            .x_desc("seconds; grey: without the store")
            .y_desc("admitted in the last second, by all four")
            .x_labels(7)
            .y_label_formatter(&|tokens| format!("{tokens:.0}"))
            .draw()?;
        chart.draw_series([Rectangle::new([(third, 0.0), (2.0 * third, most)], INK.mix(0.10).filled())])?;
        let end = (2.0 * third + 3.0).min(3.0 * third);
        let (bound, in_outage) = (way.bound() as f64, way.bound_in_outage() as f64);
        let bounds =
            [(0.0, bound), (third, bound), (third, in_outage), (end, in_outage), (end, bound), (3.0 * third, bound)];
        chart
            .draw_series(LineSeries::new(bounds, BOUND.stroke_width(2)))?
            .label("the stated bound")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], BOUND.stroke_width(2)));
        let limit = [(0.0, RATE as f64), (3.0 * third, RATE as f64)];
        chart
            .draw_series(DashedLineSeries::new(limit, 6, 5, INK.stroke_width(1)))?
            .label("the limit, 1000 per second")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], INK.stroke_width(1)));
        let windows = in_the_last_window(slots).into_iter().enumerate();
        // The first window is complete after a second.
        let line = windows.skip(slots_in(Duration::from_secs(1)).saturating_sub(1));
        let line = line.map(|(slot, tokens)| ((slot + 1) as f64 * SLOT.as_secs_f64(), tokens as f64));
        let style = OURS.stroke_width(3);
        chart
            .draw_series(LineSeries::new(line, style))?
            .label("admitted")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        plot::legend(&mut chart, SeriesLabelPosition::LowerRight, 13)?;
    }
    area.present()?;
    Ok(())
}
