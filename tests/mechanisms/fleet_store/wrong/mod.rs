//! Stores with one defect each, and the checks that find it.

mod buckets;
mod windows;

use super::*;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use steadfast::rate_limit::Quota;
use tokio::time::Instant;

type Change<Question, Answer> = Box<dyn Fn(&Embedded, &[Question]) -> Vec<Answer> + Send + Sync>;

/// An embedded store whose requests or answers are changed.
pub struct Wrong {
    inner: Embedded,
    charge: Change<Charge, Charged>,
    settle: Change<Demand, Settled>,
}

impl Store for Wrong {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        Box::pin(async { Ok((self.charge)(&self.inner, charges)) })
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        Box::pin(async { Ok((self.settle)(&self.inner, demands)) })
    }
}

impl Wrong {
    pub async fn check(&self) -> Report {
        conformance::check(self).await
    }

    /// Asserts that the store fails these checks. It may fail others, too.
    async fn fails(&self, checks: &[&str]) {
        let report = self.check().await;
        let failed: Vec<&str> = report.failures().map(|check| check.name()).collect();
        for check in checks {
            assert!(report.checks().any(|other| other.name() == *check), "there is no check {check}");
            assert!(failed.contains(check), "{check} passed; failed: {failed:#?}");
        }
    }

    /// Asserts that the store fails exactly these checks.
    async fn fails_only(&self, checks: &[&str]) {
        let report = self.check().await;
        let failed: Vec<&str> = report.failures().map(|check| check.name()).collect();
        assert_eq!(failed, checks, "{report}");
    }
}

fn charged(change: impl Fn(&Embedded, &[Charge]) -> Vec<Charged> + Send + Sync + 'static) -> Wrong {
    let settle = |inner: &Embedded, demands: &[Demand]| inner.settle_at(demands, Instant::now());
    Wrong { inner: Embedded::new(), charge: Box::new(change), settle: Box::new(settle) }
}

fn settled(change: impl Fn(&Embedded, &[Demand]) -> Vec<Settled> + Send + Sync + 'static) -> Wrong {
    let charge = |inner: &Embedded, charges: &[Charge]| inner.charge_at(charges, Instant::now());
    Wrong { inner: Embedded::new(), charge: Box::new(charge), settle: Box::new(change) }
}

/// Changes the charges.
fn asks(change: impl Fn(&mut Charge) + Send + Sync + 'static) -> Wrong {
    charged(move |inner, charges| {
        let mut charges = charges.to_vec();
        charges.iter_mut().for_each(&change);
        inner.charge_at(&charges, Instant::now())
    })
}

/// Changes the answers to charges.
fn answers(change: impl Fn(&Charge, &mut Charged) + Send + Sync + 'static) -> Wrong {
    charged(move |inner, charges| {
        let mut answers = inner.charge_at(charges, Instant::now());
        charges.iter().zip(&mut answers).for_each(|(charge, answer)| change(charge, answer));
        answers
    })
}

/// Changes the demands.
fn demands(change: impl Fn(&mut Demand) + Send + Sync + 'static) -> Wrong {
    settled(move |inner, demands| {
        let mut demands = demands.to_vec();
        demands.iter_mut().for_each(&change);
        inner.settle_at(&demands, Instant::now())
    })
}

/// Counts calls for each key and client.
#[derive(Default)]
struct Counter(Mutex<HashMap<(Arc<[u8]>, u64), u64>>);

impl Counter {
    fn next(&self, key: &Arc<[u8]>, client: u64) -> u64 {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry((key.clone(), client)).or_default();
        *count += 1;
        *count
    }
}

pub fn one_too_many() -> Wrong {
    answers(|charge, answer| answer.granted += u64::from(answer.granted > 0 && answer.granted < charge.want))
}
