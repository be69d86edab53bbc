//! E1: backoff under contention.

#[path = "../../examples/experiments/e1.rs"]
mod experiment;

use crate::{
    confirm_figure,
    finding::{Figure, Finding},
    findings,
};
use std::sync::LazyLock;

static FINDINGS: LazyLock<Vec<Finding>> = LazyLock::new(|| findings(experiment::run));

fn backoff(name: &str) -> &'static Figure {
    FINDINGS.iter().flat_map(|finding| &finding.figures).find(|figure| figure.name == name).unwrap()
}

#[track_caller]
fn confirm_backoff(name: &str) {
    confirm_figure(backoff(name));
}

#[test]
fn retries_at_once_write_the_most() {
    confirm_backoff("none");
}

#[test]
fn backoff_without_jitter_takes_the_longest() {
    confirm_backoff("exponential");
}

#[test]
fn equal_jitter_takes_what_was_published() {
    confirm_backoff("equal");
}

#[test]
fn full_jitter_takes_what_was_published() {
    confirm_backoff("full");
}

#[test]
fn decorrelated_jitter_takes_what_was_published() {
    confirm_backoff("decorrelated");
}
