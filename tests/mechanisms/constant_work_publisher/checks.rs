//! Rules that are valid alone but not together.

use super::fixture::{Limit, Memory, SLOTS, rules, shape};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use steadfast::{
    ConfigError,
    constant_work::{Build, FixedSource, Poller, PublishError, Publisher, Refusal, Shape, StackRule, Stacks, Version},
    error::chain,
    stack::live::StackConfig,
};

fn version(epoch: u64, version: u64) -> Version {
    Version { epoch, version }
}

/// Refuses two neighbouring rules with one tenant. Records how many rules `check` last received.
#[derive(Clone, Default)]
struct Tenants(Arc<AtomicUsize>);

impl Build<Limit> for Tenants {
    type Value = ();

    fn check(&mut self, rules: &[Limit]) -> Result<(), ConfigError> {
        self.0.store(rules.len(), Ordering::Relaxed);
        assert_ne!(rules[0].rate, 666, "as a test asked for");
        let is_same = |pair: &[Limit]| pair[0].tenant == pair[1].tenant && pair[0].tenant != u64::MAX;
        match rules.windows(2).find(|pair| is_same(pair)) {
            Some(pair) => Err(ConfigError::new("limit.tenant", pair[0].tenant, "must be in one rule only")),
            None => Ok(()),
        }
    }

    fn build(&mut self, _: &[Limit]) {}
}

#[tokio::test(start_paused = true)]
async fn a_publisher_refuses_what_every_poller_would_refuse() {
    let twice = vec![Limit { tenant: 7, rate: 1 }, Limit { tenant: 7, rate: 2 }];
    // Without the check, the rules are published and the readers refuse them.
    let unchecked = Memory::default();
    let mut publisher = Publisher::<Limit, _>::builder(unchecked.clone(), shape()).build().expect("settings that work");
    publisher.publish(&twice).await.expect("each of them works");
    let source = FixedSource::new(unchecked.bytes());
    let mut poller = Poller::builder(source, shape()).build(Tenants::default()).expect("settings that work");
    let refusal = poller.tick().await.expect_err("a tenant with two limits");

    let (sink, target) = (Memory::default(), Tenants::default());
    let publisher = Publisher::<Limit, _>::builder(sink.clone(), shape()).check(target.clone());
    let mut publisher = publisher.build().expect("settings that work");
    publisher.publish(&rules(2, 5)).await.expect("rules that work together");
    assert_eq!(target.0.load(Ordering::Relaxed), SLOTS as usize, "as in a poller, of all slots");
    let before = sink.bytes();
    let error = publisher.publish(&twice).await.expect_err("a tenant with two limits");
    assert!(matches!(&error, PublishError::Unreadable(Refusal::Check(_))), "{error:?}");
    assert_eq!(chain(&error), format!("a reader would refuse the snapshot: {}", chain(&refusal)));
    assert_eq!(publisher.readings().last_error(), Some(chain(&error)));
    assert_eq!(sink.bytes(), before, "what was published before stays");
    let published = publisher.publish(&rules(3, 5)).await.expect("rules that work together");
    assert_eq!(published.version, version(1, 2), "no version was used up");
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_check_without_publishing() {
    let sink = Memory::default();
    let publisher = Publisher::<Limit, _>::builder(sink.clone(), shape()).check(Tenants::default());
    let mut publisher = publisher.build().expect("settings that work");
    publisher.check(&rules(2, 5)).expect("rules that work together");
    let twice = vec![Limit { tenant: 7, rate: 1 }; 2];
    assert!(matches!(publisher.check(&twice), Err(PublishError::Unreadable(Refusal::Check(_)))));
    assert!(matches!(publisher.check(&rules(9, 5)), Err(PublishError::Encode(_))));
    let panics = publisher.check(&rules(1, 666)).expect_err("the check panics");
    assert!(matches!(panics, PublishError::Unreadable(Refusal::Panicked { during: "check" })), "{panics:?}");
    assert_eq!((sink.calls(), publisher.readings().publications()), ((vec![], 0), 0), "nothing was read or written");
    assert_eq!(publisher.readings().last_error(), None);
    assert_eq!(publisher.publish(&rules(2, 5)).await.expect("rules that work").version, version(1, 1));
}

#[tokio::test(start_paused = true)]
async fn two_rules_for_one_stack_are_found_without_the_stack() {
    let shape = Shape::for_rules::<StackRule>(4).expect("a rule like any");
    let publisher = Publisher::<StackRule, _>::builder(Memory::default(), shape);
    let mut publisher = publisher.check(Stacks::new().ignore_unknown()).build().expect("settings that work");
    let rule = |name| StackRule::new(name, StackConfig::default()).expect("a rule that works");
    publisher.publish(&[rule("one"), rule("another")]).await.expect("two stacks");
    let error = publisher.publish(&[rule("one"), rule("one")]).await.expect_err("one stack, two rules");
    assert!(chain(&error).ends_with("stacks.name = \"one\": must appear in one rule only"), "{}", chain(&error));
}
