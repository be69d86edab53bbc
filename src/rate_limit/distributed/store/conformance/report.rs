use std::{error::Error, fmt};

/// The result of the suite for a store: each check, passed or failed.
///
/// `Display` and `Debug` print a line for each check, with its failure if there is one. The message of a failed
/// `unwrap` has these lines, too.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Report {
    checks: Vec<Check>,
}

/// A check and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    name: &'static str,
    failure: Option<Failure>,
}

/// A failed check: the expected answer of the store, and its real answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    what: String,
    expected: String,
    answered: String,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        Self { checks }
    }

    /// Returns whether every check passed.
    pub fn is_ok(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Returns all checks, passed ones too, always in the same order.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter()
    }

    /// Returns the checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.failure.is_some())
    }

    /// Returns the report as an error, unless every check passed.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }
}

impl Check {
    pub(super) fn new(name: &'static str, failure: Option<Failure>) -> Self {
        Self { name, failure }
    }

    /// Returns a sentence, with underscores, about a store that passes the check.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the first failure of the check, unless it passed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }
}

impl Failure {
    pub(super) fn new(what: impl fmt::Display, expected: impl fmt::Display, answered: impl fmt::Display) -> Self {
        Self { what: what.to_string(), expected: expected.to_string(), answered: answered.to_string() }
    }

    /// Returns what the check looked at, in words.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Returns what a store should have answered.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// Returns what this store answered.
    pub fn answered(&self) -> &str {
        &self.answered
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} checks of the store failed", self.failures().count(), self.checks.len())?;
        self.checks.iter().try_for_each(|check| writeln!(f, "{check}"))
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            None => write!(f, "ok      {}", self.name),
            Some(failure) => write!(f, "FAILED  {}: {failure}", self.name),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, answered {}", self.what, self.expected, self.answered)
    }
}

impl Error for Report {}
