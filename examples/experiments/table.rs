//! The findings as a table for people and as JSON for machines.

use crate::finding::{Anchor, Figure, Finding, number};
use serde::Serialize;
use std::io::{self, Write};

/// One row, ready to be printed.
#[derive(Serialize)]
struct Row {
    id: &'static str,
    what: &'static str,
    /// The published numbers.
    anchor: String,
    /// The result of the published mechanism here.
    reproduced: String,
    /// The target.
    reach: String,
    /// The result of this crate.
    got: String,
    verdict: String,
}

#[derive(Serialize)]
struct Table {
    experiments: Vec<Row>,
}

pub fn write_markdown(findings: &[Finding], output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "| id | what | anchor | reproduced | to reach | got | verdict |")?;
    writeln!(output, "|---|---|---|---|---|---|---|")?;
    for Row { id, what, anchor, reproduced, reach, got, verdict } in findings.iter().map(Row::from) {
        writeln!(output, "| {id} | {what} | {anchor} | {reproduced} | {reach} | {got} | {verdict} |")?;
    }
    Ok(())
}

pub fn write_json(findings: &[Finding], output: &mut impl Write) -> io::Result<()> {
    let table = Table { experiments: findings.iter().map(Row::from).collect() };
    writeln!(output, "{}", serde_json::to_string(&table)?)
}

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        let Finding { id, what, anchors, figures, to_come } = finding;
        let to_come = |text: fn(&crate::finding::ToCome) -> &'static str| {
            to_come.iter().map(move |to_come| text(to_come).to_owned()).filter(|text| !text.is_empty())
        };
        let published = anchors.iter().map(|Anchor { name, published, .. }| format!("{name} {}", numbers(published)));
        let reproduced = anchors.iter().map(|Anchor { reproduced, .. }| numbers(reproduced));
        let wanted = figures.iter().map(|Figure { name, wanted, .. }| format!("{name} {}", slashed(wanted)));
        let got = figures.iter().map(|Figure { name, got, half_widths, on_other_seeds, .. }| {
            let known = half_widths.iter().any(|half_width| *half_width > 0.0 && half_width.is_finite());
            let half_widths = if known { format!(" ± {}", numbers(half_widths)) } else { String::new() };
            format!("{name} {}{half_widths} (other seeds {})", numbers(got), numbers(on_other_seeds))
        });
        Self {
            id,
            what,
            anchor: sentence(published.chain(to_come(|to_come| to_come.anchor))),
            reproduced: sentence(reproduced),
            reach: sentence(wanted.chain(to_come(|to_come| to_come.reach))),
            got: sentence(got),
            verdict: finding.verdict().to_string(),
        }
    }
}

fn sentence(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

fn numbers(numbers: &[f64]) -> String {
    numbers.iter().map(|value| number(*value)).collect::<Vec<_>>().join("/")
}

/// Formats the bounds, or a single one if all are equal.
fn slashed<T: ToString + PartialEq>(bounds: &[T]) -> String {
    match bounds {
        [first, rest @ ..] if rest.iter().all(|bound| bound == first) => first.to_string(),
        _ => bounds.iter().map(T::to_string).collect::<Vec<_>>().join(" / "),
    }
}
