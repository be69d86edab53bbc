//! E7: sliding windows.

#[path = "../../examples/experiments/e7/mod.rs"]
mod experiment;

use crate::{
    confirm_figure,
    finding::{Figure, Finding},
    findings,
};
use std::sync::LazyLock;

static FINDINGS: LazyLock<Vec<Finding>> = LazyLock::new(|| findings(experiment::run));

fn figure(number: usize) -> &'static Figure {
    &FINDINGS[0].figures[number]
}

#[test]
fn a_strict_window_admits_its_limit_in_every_true_window_and_no_more() {
    confirm_figure(figure(0));
}

#[test]
fn a_strict_window_loses_nothing_of_a_small_limit_and_little_of_a_large_one() {
    confirm_figure(figure(1));
}

#[test]
fn a_strict_window_admits_exactly_its_limit_for_limits_of_all_sizes() {
    confirm_figure(figure(2));
}

#[test]
fn an_estimated_window_errs_by_the_published_amount() {
    confirm_figure(figure(3));
}

#[test]
fn a_token_bucket_admits_what_its_definition_admits() {
    confirm_figure(figure(4));
}

#[test]
fn a_refunded_token_returns_to_the_bucket() {
    confirm_figure(figure(5));
}
