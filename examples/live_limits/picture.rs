//! The picture: the answers per second below the limits in force, and the calls in flight.

use crate::{
    operator::Action,
    plot::{self, INK, font},
    report::{Report, Seen, Slice, limits},
    server::TIERS,
};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use std::{error::Error, fs, path::Path};
use tower::BoxError;

const SIZE: (u32, u32) = (1080, 700);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const TIER_COLOURS: [RGBColor; TIERS.len()] = [GREEN, BLUE];

type Drawn = Result<(), Box<dyn Error>>;
type Points = Vec<(f64, f64)>;

pub fn write(report: &Report, path: &Path) -> Result<(), BoxError> {
    let mut picture = String::new();
    draw(report, &mut picture).map_err(|error| error.to_string())?;
    Ok(fs::write(path, picture)?)
}

fn draw(report: &Report, picture: &mut String) -> Drawn {
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(SIZE.1 * 3 / 5);
    let points = |of: &dyn Fn(&Slice) -> f64| report.slices().map(|slice| (slice.at, of(slice))).collect::<Points>();
    // A limit seen at the end of a slice is drawn for the whole slice.
    let steps = |of: &dyn Fn(&Slice) -> f64| {
        report
            .slices()
            .flat_map(|slice| [slice.at - slice.length, slice.at].map(|at| (at, of(slice))))
            .collect::<Points>()
    };

    let mut lines = Vec::new();
    for (tier, (name, colour)) in TIERS.into_iter().zip(TIER_COLOURS).enumerate() {
        let limit = steps(&|slice| limits(&slice.in_force)[tier].unwrap_or(0.0));
        lines.push(Line { name: format!("{name}: the limit"), colour, is_dashed: true, points: limit });
        let answered = points(&|slice| slice.rates()[tier]);
        lines.push(Line { name: format!("{name}: answered"), colour, is_dashed: false, points: answered });
    }
    let panel = Panel {
        caption: "Limits changed by publishing a file, and a file that decays",
        description: "answered per second",
        legend: 26,
        lines,
    };
    panel.draw(&above, report)?;

    let limit = steps(&|slice| slice.in_force.load_shed.map_or(0.0, |shed| shed.limit as f64));
    let in_flight = points(&|slice| slice.in_flight as f64);
    let lines = vec![
        Line { name: "the limit".into(), colour: INK, is_dashed: true, points: limit },
        Line { name: "in flight".into(), colour: INK, is_dashed: false, points: in_flight },
    ];
    let panel = Panel { caption: "Load shedding", description: "calls in flight", legend: 52, lines };
    panel.draw(&below, report)?;
    area.present()?;
    Ok(())
}

struct Line {
    name: String,
    colour: RGBColor,
    is_dashed: bool,
    points: Points,
}

/// Lines over time, in front of the steps.
struct Panel {
    caption: &'static str,
    description: &'static str,
    /// How far below the top the names of the lines begin, in pixels.
    legend: i32,
    lines: Vec<Line>,
}

impl Panel {
    fn draw(self, area: &DrawingArea<SVGBackend, Shift>, report: &Report) -> Drawn {
        let length = report.slices().last().map_or(1.0, |slice| slice.at);
        let highest = self.lines.iter().flat_map(|line| &line.points).fold(1.0, |most: f64, point| most.max(point.1));
        // Leaves room for the names of the steps.
        let height = highest * 1.25;
        let mut chart = ChartBuilder::on(area)
            .caption(self.caption, font(20).color(&INK))
            .margin(14)
            .margin_right(24)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..length, 0.0..height)?;
        plot::axes(&mut chart.configure_mesh(), 13)
            .x_desc("seconds")
            .y_desc(self.description)
            .x_label_formatter(&|seconds| format!("{seconds:.0}"))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .draw()?;
        let mut begin = 0.0;
        for seen in &report.steps {
            let end = seen.slices.last().map_or(begin, |slice| slice.at);
            if let Some(colour) = shade(seen) {
                chart.draw_series([Rectangle::new([(begin, 0.0), (end, height)], colour.mix(0.14).filled())])?;
            }
            let border = INK.mix(0.25).stroke_width(1);
            chart.draw_series([PathElement::new([(end, 0.0), (end, height)], border)])?;
            let style = font(12).color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
            chart.draw_series([Text::new(seen.step.name, ((begin + end) / 2.0, height * 0.985), style)])?;
            begin = end;
        }
        for Line { name, colour, is_dashed, points } in self.lines {
            let style = colour.stroke_width(2);
            let series = if is_dashed {
                chart.draw_series(DashedLineSeries::new(points, 7, 5, style))?
            } else {
                chart.draw_series(LineSeries::new(points, style))?
            };
            // Two dashes, or one line over the whole width.
            let first = if is_dashed { 8 } else { 22 };
            series.label(name).legend(move |(x, y)| {
                EmptyElement::at((x, y))
                    + PathElement::new([(0, 0), (first, 0)], style)
                    + PathElement::new([(14, 0), (22, 0)], style)
            });
        }
        plot::legend(&mut chart, SeriesLabelPosition::Coordinate(16, self.legend), 13)?;
        Ok(())
    }
}

/// The colour of a step with a corrupt file or with all calls switched off.
fn shade(seen: &Seen) -> Option<RGBColor> {
    match seen.step.action {
        Action::Flip | Action::Truncate => Some(INK),
        Action::Publish => seen.step.config.switched_off.then_some(VERMILION),
    }
}
