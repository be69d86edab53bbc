//! Retry budgets: one deposit and one withdrawal, which succeeds.

use crate::harness::{Contestant, Role, Row};
use std::{hint::black_box, sync::Arc, time::Duration};
use steadfast::retry::RetryBudget;
use tokio::time::Instant;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower_resilience_retry::{RetryBudget as ResilienceBudget, RetryBudgetBuilder};

pub fn rows() -> Vec<Row> {
    vec![both(), both_at()]
}

/// Earns a retry with each call, so that no retry is refused.
fn budget() -> RetryBudget {
    RetryBudget::builder().ratio(1.0).build().expect("a valid budget")
}

fn tower() -> Arc<TpsBudget> {
    Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 1.0))
}

fn token_bucket() -> Arc<dyn ResilienceBudget> {
    RetryBudgetBuilder::new().token_bucket().build().expect("a valid budget")
}

/// The faster of its budgets, without a clock.
pub fn aimd() -> Arc<dyn ResilienceBudget> {
    RetryBudgetBuilder::new().aimd().build().expect("a valid budget")
}

fn both() -> Row {
    Row::new(
        "retry budget: deposit and withdraw",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", budget, |budget| {
                budget.deposit();
                black_box(&budget.withdraw()).is_some()
            }),
            Contestant::on_threads(Role::Peer, "tower TpsBudget", tower, |budget| {
                budget.deposit();
                black_box(budget.withdraw())
            }),
            Contestant::on_threads(Role::Peer, "tower-resilience (bucket)", token_bucket, |budget| {
                budget.deposit();
                black_box(budget.try_withdraw())
            }),
            Contestant::on_threads(Role::Peer, "tower-resilience (AIMD)", aimd, |budget| {
                budget.deposit();
                black_box(budget.try_withdraw())
            })
            .other_work("reads no clock"),
        ],
    )
}

/// Without the clock, which a retry has already read for its backoff. The AIMD budget has no clock.
fn both_at() -> Row {
    Row::new(
        "retry budget: deposit and withdraw, clock already read",
        vec![
            Contestant::on_threads(
                Role::Ours,
                "steadfast",
                || (budget(), Instant::now()),
                |(budget, now)| {
                    budget.deposit();
                    black_box(&budget.withdraw_at(black_box(*now))).is_some()
                },
            ),
            Contestant::on_threads(Role::Peer, "tower-resilience (AIMD)", aimd, |budget| {
                budget.deposit();
                black_box(budget.try_withdraw())
            }),
        ],
    )
}
