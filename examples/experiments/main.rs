//! Does the crate protect the system? Every experiment that judges it, in virtual time.
//!
//! ```sh
//! cargo run --release --features sim,constant-work --example experiments
//! cargo run --release --features sim,constant-work --example experiments -- --only E4,E6 --svg pictures
//! ```
//!
//! Each experiment has a model, published numbers (its anchors), and figures to reach. First it runs the published
//! mechanism, to check the simulation: the result must be within a tenth of the published number. Then the real layers
//! of this crate, the types that production uses, meet the same load.
//!
//! A figure passes if both its mean over the model's seeds and its mean over other seeds keep the bound. There are five
//! other seeds, or up to 400 where single runs differ by more than the bounds allow. `--other-seeds` names the first of
//! them. Means of several runs are shown with half the width of their 95% confidence interval.
//!
//! Each run of a stack ends with an inventory: its limiters and queues must have all permits and places back, or the
//! experiment fails.
//!
//! The verdict is `ok`; `short` if a figure or an anchor misses its bound (the exit status is then 1); or `later` if
//! the crate does not have the mechanism yet, or this machine lacks a tool. `tests/overload` asserts the figures with a
//! few seeds, without the anchors.

mod absent;
mod args;
mod crowd;
mod e1;
mod e10;
mod e11;
mod e12;
mod e13;
mod e14;
mod e16;
mod e17;
mod e18;
mod e2;
mod e22;
mod e23;
mod e24;
mod e25;
mod e26;
mod e3;
mod e4;
mod e5;
mod e6;
mod e6b;
mod e7;
mod e8;
mod e9;
mod finding;
mod lab;
mod later;
mod picture;
#[path = "../support/plot.rs"]
mod plot;
mod queues;
mod table;
mod textbook;
mod workers;

use crate::{
    args::Arguments,
    finding::{Finding, Verdict},
    lab::{Effort, Lab},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    error::Error,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};
use steadfast::ConfigError;

type Run = fn(&Lab) -> Result<Vec<Finding>, ConfigError>;
type Draw = fn(&Lab, &Path) -> Result<(), Box<dyn Error>>;

/// All experiments. Those without a function are in `later`.
const EXPERIMENTS: [(&str, Option<Run>); 26] = [
    ("E1", Some(e1::run)),
    ("E2", Some(e2::run)),
    ("E3", Some(e3::run)),
    ("E4", Some(e4::run)),
    ("E5", Some(e5::run)),
    ("E6", Some(e6::run)),
    ("E6b", Some(e6b::run)),
    ("E7", Some(e7::run)),
    ("E8", Some(e8::run)),
    ("E9", Some(e9::run)),
    ("E10", Some(e10::run)),
    ("E11", Some(e11::run)),
    ("E12", Some(e12::run)),
    ("E13", Some(e13::run)),
    ("E14", Some(e14::run)),
    ("E15", None),
    ("E16", Some(e16::run)),
    ("E17", Some(e17::run)),
    ("E18", Some(e18::run)),
    ("E19", None),
    ("E20", None),
    ("E22", Some(e22::run)),
    ("E23", Some(e23::run)),
    ("E24", Some(e24::run)),
    ("E25", Some(e25::run)),
    ("E26", Some(e26::run)),
];

const PICTURES: [(&str, Draw); 6] = [
    ("E4", picture::collapse),
    ("E5", picture::amplification),
    ("E6", picture::queues),
    ("E9", picture::outage),
    ("E14", picture::fair_queue),
    ("E18", picture::instructions),
];

fn main() -> ExitCode {
    match e18::instructions::run_alone() {
        None => {}
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("experiments: {error}");
            return ExitCode::FAILURE;
        }
    }
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    match run(&arguments) {
        Ok(findings) if findings.iter().any(|finding| finding.verdict() == Verdict::Short) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("experiments: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<Finding>, Box<dyn Error>> {
    let bar = ProgressBar::new(0).with_style(style());
    let effort = if arguments.quick { Effort::Quick } else { Effort::Whole };
    let lab = Lab::new(arguments.other_seeds, effort, bar.clone());
    let mut findings = Vec::new();
    for (id, run) in EXPERIMENTS.into_iter().filter(|(id, _)| arguments.wants(id)) {
        bar.set_message(id);
        match run {
            Some(run) => findings.extend(run(&lab)?),
            None => findings.extend(later::finding(id)),
        }
    }
    if let Some(directory) = &arguments.svg {
        for (id, draw) in PICTURES.into_iter().filter(|(id, _)| arguments.wants(id)) {
            bar.set_message(format!("{id}, the picture"));
            draw(&lab, &directory.join(format!("{id}.svg")))?;
        }
    }
    bar.finish_and_clear();
    match print(&findings, arguments.json) {
        // The reader of the table may close the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    Ok(findings)
}

fn print(findings: &[Finding], json: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if json {
        table::write_json(findings, &mut output)?;
    } else {
        table::write_markdown(findings, &mut output)?;
    }
    output.flush()
}

fn style() -> ProgressStyle {
    // The template is a constant; if it were wrong, the default would do.
    ProgressStyle::with_template("{msg:<18} {bar:32.cyan/dim} {pos} of {len} runs, {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}
