//! The command line: its options, and one clear line of error for anything else.

use crate::{EXPERIMENTS, lab::FIRST_OTHER_SEEDS};
use clap::{Parser, value_parser};
use std::{fs, path::PathBuf, process::ExitCode};

/// Runs the experiments that judge this crate, in virtual time, and prints their results.
#[derive(Parser)]
#[command(name = "experiments")]
pub struct Arguments {
    /// Only these experiments
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = known)]
    only: Vec<&'static str>,

    /// Fewer seeds: a look, not a verdict
    #[arg(long)]
    pub quick: bool,

    /// Print one JSON object in place of the table
    #[arg(long)]
    pub json: bool,

    /// Draw E4, E5, E6, E9, E14 and E18 into this directory
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,

    /// The first of the other seeds that have to confirm each figure: five, or up to 400 as the experiment
    /// needs; quick, fewer
    #[arg(long, value_name = "SEED", default_value = "1000", value_parser = value_parser!(u64).range(FIRST_OTHER_SEEDS))]
    pub other_seeds: u64,
}

impl Arguments {
    /// Reads the command line. Reports anything invalid before the run begins, and ends the process.
    pub fn read() -> Result<Self, ExitCode> {
        let arguments = Self::try_parse().map_err(|error| {
            if error.use_stderr() {
                return refuse(&in_one_line(&error));
            }
            // `--help` is not an error.
            match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        })?;
        if let Some(directory) = &arguments.svg {
            fs::create_dir_all(directory)
                .map_err(|error| refuse(&format!("cannot make the directory {directory:?}: {error}")))?;
        }
        Ok(arguments)
    }

    pub fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.contains(&id)
    }
}

fn known(text: &str) -> Result<&'static str, String> {
    let known = EXPERIMENTS.map(|(id, _)| id);
    let found = known.into_iter().find(|id| id.eq_ignore_ascii_case(text.trim()));
    found.ok_or_else(|| format!("there are only {}", known.join(", ")))
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("experiments: {reason}");
    ExitCode::from(2)
}

/// Clap explains an error in several paragraphs; the first one names it.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    format!("{} (--help lists the flags)", paragraph.join(" ").trim_start_matches("error: "))
}
