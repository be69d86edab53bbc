//! Reads and parses the files of a control group.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

/// The most bytes that are read of a file. The files are a few lines long.
const LONGEST: u64 = 4_096;

/// The folder of the group, and the bound of each quantity. A quantity without a bound is not read.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
    pub(super) cpu: Option<f64>,
    pub(super) memory: Option<f64>,
}

/// A level: finite and at least 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading(pub(super) f64);

/// A file that is missing or malformed, and the reason.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: PathBuf,
    pub(super) why: String,
}

impl Files {
    /// Returns the largest of the quantities, each divided by its bound. Blocks.
    pub(super) fn read(&self) -> Result<Reading, Fault> {
        let mut level = 0.0_f64;
        if let Some(bound) = self.cpu {
            level = level.max(self.file("cpu.pressure", pressure)? / bound);
        }
        if let Some(bound) = self.memory {
            let used = self.file("memory.current", bytes)?;
            let most = self.file("memory.max", maximum)?;
            let share = if most > 0.0 { used / most } else { 1.0 };
            level = level.max(share.max(self.file("memory.pressure", pressure)?) / bound);
        }
        // With a very small bound the quotient is infinite.
        Ok(Reading(level.min(f64::MAX)))
    }

    fn file(&self, name: &str, understand: fn(&str) -> Option<f64>) -> Result<f64, Fault> {
        let path = self.folder.join(name);
        let read = || -> io::Result<String> {
            let mut text = String::new();
            File::open(&path)?.take(LONGEST).read_to_string(&mut text)?;
            Ok(text)
        };
        match read().map(|text| understand(&text)) {
            Ok(Some(number)) => Ok(number),
            Ok(None) => Err(Fault { path, why: "it is not in the format of cgroup v2".to_owned() }),
            Err(error) => Err(Fault { path, why: error.to_string() }),
        }
    }
}

/// Returns the share, from 0 to 1, of the last ten seconds in which some task waited. The file states it in percent:
/// `some avg10=12.34 ..`.
fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = some.split_whitespace().find_map(|part| part.strip_prefix("avg10="))?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn bytes(text: &str) -> Option<f64> {
    text.trim().parse::<u64>().ok().map(|bytes| bytes as f64)
}

/// Parses a maximum: `max` means that there is none.
fn maximum(text: &str) -> Option<f64> {
    if text.trim() == "max" { Some(f64::INFINITY) } else { bytes(text) }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_ten_second_average_of_the_some_line_counts() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=7\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(pressure(text), Some(0.125));
        assert_eq!(pressure("full avg10=3.00\nsome avg10=0.00 total=1\n"), Some(0.0));
    }

    #[test]
    fn malformed_pressure_is_none() {
        for text in ["", "some", "some avg60=1.00", "some avg10=", "some avg10=NaN", "some avg10=-1", "some avg10=101"]
        {
            assert_eq!(pressure(text), None, "{text}");
        }
    }

    #[test]
    fn a_group_without_a_maximum_has_an_infinite_one() {
        assert_eq!(maximum("max\n"), Some(f64::INFINITY));
        assert_eq!(maximum("1024\n"), Some(1024.0));
        assert_eq!((maximum("much"), bytes("max"), bytes("-1")), (None, None, None));
    }
}
