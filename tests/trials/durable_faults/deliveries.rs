//! The messages, and the record of their deliveries.

use crate::clock::now;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};
use steadfast::load_level::durable::Delivery;

/// The fate of a message, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Its first try fails.
    FailsOnce,
    /// All its tries fail.
    Poison,
    Undecodable,
}

impl Kind {
    pub fn of(number: u32) -> Self {
        match number % 1000 {
            7 => Self::Poison,
            13 => Self::Undecodable,
            rest if rest % 50 == 3 => Self::FailsOnce,
            _ => Self::Plain,
        }
    }

    pub fn dies(self) -> bool {
        matches!(self, Self::Poison | Self::Undecodable)
    }
}

/// A payload of a hundred bytes.
pub fn payload(number: u32) -> String {
    let mark = if Kind::of(number) == Kind::Undecodable { '?' } else { '#' };
    format!("{mark}{number:08}{:91}", "")
}

/// Decodes a payload, if a worker can.
pub fn number_of(payload: &[u8]) -> Option<u32> {
    if payload.first() == Some(&b'#') { any_number_of(payload) } else { None }
}

/// Decodes a payload, also one that a worker cannot decode.
pub fn any_number_of(payload: &[u8]) -> Option<u32> {
    std::str::from_utf8(payload.get(1..9)?).ok()?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    Undecodable,
}

impl Outcome {
    const ALL: [(Self, &str); 3] = [(Self::Success, "S"), (Self::Failure, "F"), (Self::Undecodable, "U")];
}

/// The log of a worker's deliveries. The operating system has each written line, so a killed process loses none.
pub struct Log(File);

impl Log {
    pub fn append_to(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).expect("a file that can be made"))
    }

    pub fn note(&self, delivery: &Delivery, outcome: Outcome) {
        let number = any_number_of(&delivery.payload).expect("a payload of a producer's");
        let (_, letter) = Outcome::ALL.into_iter().find(|(other, _)| *other == outcome).expect("all are there");
        let line = format!("{number} {} {} {letter} {}\n", now(), delivery.attempt, delivery.id);
        (&self.0).write_all(line.as_bytes()).expect("a file that can be written");
    }
}

/// The end of one delivery.
#[derive(Clone, Debug)]
pub struct Ended {
    pub at: u64,
    /// The number of the worker's process.
    pub worker: usize,
    pub attempt: u32,
    pub outcome: Outcome,
    pub id: String,
}

/// All deliveries of each message, in the order of their ends.
pub fn read(logs: &[PathBuf]) -> BTreeMap<u32, Vec<Ended>> {
    let mut all: BTreeMap<u32, Vec<Ended>> = BTreeMap::new();
    for (worker, log) in logs.iter().enumerate() {
        // A worker without calls has no log.
        let text = fs::read_to_string(log).unwrap_or_default();
        for line in text.lines() {
            let (number, ended) = parse(line, worker).unwrap_or_else(|| panic!("no delivery: {line}"));
            all.entry(number).or_default().push(ended);
        }
    }
    all.values_mut().for_each(|ends| ends.sort_by_key(|ended| ended.at));
    all
}

fn parse(line: &str, worker: usize) -> Option<(u32, Ended)> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let (at, attempt) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let letter = words.next()?;
    let (outcome, _) = Outcome::ALL.into_iter().find(|(_, other)| *other == letter)?;
    Some((number, Ended { at, worker, attempt, outcome, id: words.next()?.to_owned() }))
}
