//! The command line: its options, and one clear line of error for anything else.

use crate::scenario::Lengths;
use clap::Parser;
use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Overloads an HTTP server on loopback, first without protection and then behind steadfast's stacks.
#[derive(Parser)]
#[command(name = "overload")]
pub struct Arguments {
    /// Shorter steps: the whole run ends in less than a minute
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,

    /// How long each step is measured (three times as long in the two steps with slower work)
    #[arg(long, value_name = "N", value_parser = seconds, default_value = "5", allow_negative_numbers = true)]
    seconds: Duration,

    /// Print the figures as one JSON object, in the last line of standard output
    #[arg(long)]
    pub json: bool,

    /// The file that the picture is written to
    #[arg(long, value_name = "PATH", default_value = "overload.svg")]
    pub svg: PathBuf,
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
        match check_writable(&arguments.svg) {
            Ok(()) => Ok(arguments),
            Err(error) => Err(refuse(&format!("cannot write {:?}: {error}", arguments.svg))),
        }
    }

    pub fn lengths(&self) -> Lengths {
        if self.quick {
            Lengths { warm_up: Duration::from_millis(1_500), measured: Duration::from_millis(1_000) }
        } else {
            Lengths { warm_up: Duration::from_secs(1), measured: self.seconds }
        }
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("overload: {reason}");
    ExitCode::from(2)
}

/// Clap explains an error in several paragraphs; the first one names it.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    format!("{} (--help lists the flags)", paragraph.join(" ").trim_start_matches("error: "))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let rule = || "must be a number from 0.1 to 3600".to_owned();
    let number: f64 = text.parse().map_err(|_| rule())?;
    // NaN fails this comparison too.
    if (0.1..=3_600.0).contains(&number) { Ok(Duration::from_secs_f64(number)) } else { Err(rule()) }
}

/// Opens the file as it will be opened at the end, without changing it or leaving a new one behind.
fn check_writable(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}
