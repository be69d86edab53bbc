//! The style that the pictures of all examples share: ink, font, axes and legend.

use plotters::{
    chart::{ChartContext, MeshStyle},
    coord::{CoordTranslate, ranged1d::Ranged},
    prelude::*,
};

pub const INK: RGBColor = RGBColor(40, 40, 40);

pub fn font(size: u32) -> FontDesc<'static> {
    ("sans-serif", size).into_font()
}

/// Draws thin lines, and labels of this size.
pub fn axes<'style, 'area, 'chart, X, Y, DB>(
    mesh: &'style mut MeshStyle<'area, 'chart, X, Y, DB>,
    size: u32,
) -> &'style mut MeshStyle<'area, 'chart, X, Y, DB>
where
    X: Ranged,
    Y: Ranged,
    DB: DrawingBackend,
{
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.10))
        .axis_style(INK.mix(0.6))
        .label_style(font(size).color(&INK))
        .axis_desc_style(font(size + 1).color(&INK))
}

/// Draws the names of all series, in letters of this size.
pub fn legend<'area, DB, CT>(
    chart: &mut ChartContext<'area, DB, CT>,
    position: SeriesLabelPosition,
    size: u32,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
where
    DB: DrawingBackend + 'area,
    CT: CoordTranslate,
{
    chart
        .configure_series_labels()
        .position(position)
        .margin(14)
        .legend_area_size(32)
        .background_style(WHITE.mix(0.9))
        .border_style(INK.mix(0.25))
        .label_font(font(size).color(&INK))
        .draw()
}
