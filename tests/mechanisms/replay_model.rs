//! The retry's decision, compared with a plain model.

use crate::{
    replay::{Verdicts, as_it_says},
    support::{Stopwatch, cases, ms},
};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, prop_oneof},
    prop_assert_eq, proptest,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::{
    CallContext, Outcome,
    retry::{Backoff, Jitter, Repeat, Retry, RetryBudget},
    shell::{Begin, Denied, End, Observed, Observer, Retries},
};
use tokio::time::Instant;
use tower::ServiceExt;

/// One call, and all inputs of its retry's decision.
#[derive(Clone, Debug)]
struct Case {
    answers: Vec<Outcome>,
    attempts: u32,
    backoff: Duration,
    max_hint: Duration,
    repeat: Option<Repeat>,
    balance: u32,
    deadline: Option<Duration>,
}

/// The result of the call.
#[derive(Debug, PartialEq)]
struct Decided {
    attempts: u32,
    waited: Duration,
    denied: Option<Denied>,
    answer: Outcome,
}

fn decide(case: &Case) -> Decided {
    let (mut waited, mut balance) = (Duration::ZERO, case.balance);
    for attempts in 1.. {
        let answer = case.answers[attempts as usize - 1];
        let ends = |denied| Decided { attempts, waited, denied, answer };
        let (hint, is_unprocessed) = match answer {
            Outcome::Failure => (Some(Duration::ZERO), false),
            Outcome::Unprocessed { retry_after } => (Some(retry_after.unwrap_or_default()), true),
            Outcome::Overloaded { retry_after } => (retry_after, false),
            _ => return ends(None),
        };
        let Some(hint) = hint else { return ends(Some(Denied::NoHint)) };
        if hint > case.max_hint {
            return ends(Some(Denied::HintTooLong));
        }
        if attempts == case.attempts {
            return ends(Some(Denied::Exhausted));
        }
        let may = match case.repeat {
            Some(Repeat::Always) => true,
            Some(Repeat::IfUnprocessed) => is_unprocessed,
            None => false,
        };
        if !may {
            return ends(Some(Denied::NotRepeatable));
        }
        // The attempts take no time.
        let due = waited + hint + case.backoff;
        if case.deadline.is_some_and(|deadline| due >= deadline) {
            return ends(Some(Denied::Deadline));
        }
        if balance == 0 {
            return ends(Some(Denied::Budget));
        }
        balance -= 1;
        waited = due;
    }
    unreachable!("the attempts have an end")
}

/// An observer that records the end of the call.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Option<Retries>>>);

impl Observer for Ends {
    type Watch = Observed;

    fn begin(&self, begin: &Begin) -> Observed {
        begin.observed()
    }

    fn end(&self, observed: Observed, end: &End<'_>) {
        match observed {
            Observed::Call => assert_eq!(self.0.lock().unwrap().replace(end.retries()), None),
            Observed::Attempt => assert_eq!(end.retries(), Retries::default()),
        }
    }
}

async fn run(case: &Case) -> (Decided, usize, Duration) {
    let budget = RetryBudget::builder().ratio(0.001).no_floor().initial(case.balance).cap(8).build().unwrap();
    let backoff = Backoff::exponential(case.backoff, case.backoff).jitter(Jitter::None);
    let (ends, repeat) = (Ends::default(), case.repeat);
    let retry = Retry::new(case.attempts).backoff(backoff).max_hint(case.max_hint).budget(budget);
    let service = Verdicts::new(case.answers.clone(), Outcome::Ignored);
    let client = steadfast::client()
        .observe("model", ends.clone())
        .retry(retry.replay_if(move |_: &u32| repeat))
        .classify(as_it_says)
        .service(service.clone())
        .unwrap();
    let stopwatch = Stopwatch::start();
    let context = CallContext::new();
    let context = case.deadline.map_or(context, |deadline| context.with_deadline(Instant::now() + deadline));
    let answer = context.scope(client.oneshot(1)).await.unwrap();
    let retries = ends.0.lock().unwrap().unwrap();
    let (attempts, waited, denied) = (retries.attempts(), retries.waited(), retries.denied());
    (Decided { attempts, waited, denied, answer }, service.calls(), stopwatch.read())
}

fn an_outcome() -> impl Strategy<Value = Outcome> {
    let hint = prop_oneof![Just(None), (0..6_u64).prop_map(|hint| Some(ms(hint * 10)))];
    prop_oneof![
        4 => Just(Outcome::Failure),
        1 => Just(Outcome::Success),
        1 => Just(Outcome::Permanent),
        1 => Just(Outcome::Ignored),
        3 => hint.clone().prop_map(|retry_after| Outcome::Overloaded { retry_after }),
        4 => hint.prop_map(|retry_after| Outcome::Unprocessed { retry_after }),
    ]
}

fn a_case() -> impl Strategy<Value = Case> {
    let repeat = prop_oneof![3 => Just(Some(Repeat::Always)), 3 => Just(Some(Repeat::IfUnprocessed)), 1 => Just(None)];
    let deadline = prop_oneof![Just(None), (1..20_u64).prop_map(|deadline| Some(ms(deadline * 10)))];
    (vec(an_outcome(), 5), 1..6_u32, 1..4_u64, 0..6_u64, repeat, 0..5_u32, deadline).prop_map(
        |(answers, attempts, backoff, max_hint, repeat, balance, deadline)| Case {
            answers,
            attempts,
            backoff: ms(backoff * 10),
            max_hint: ms(max_hint * 10),
            repeat,
            balance,
            deadline,
        },
    )
}

proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn a_retry_decides_as_the_model_does(case in a_case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (decided, calls, took) = runtime.block_on(run(&case));
        let expected = decide(&case);
        prop_assert_eq!(calls as u32, expected.attempts);
        prop_assert_eq!(took, expected.waited);
        prop_assert_eq!(decided, expected);
    }
}
