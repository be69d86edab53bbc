use super::*;
use crate::sync::{Mutex, lock};
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

type List = Waiters<u64, &'static str, 2>;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn waker(self: &Arc<Self>) -> Option<Waker> {
        Some(Waker::from(self.clone()))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether a list or its wakers still hold a waker.
    fn are_held(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}

fn joined(list: &mut List, waiter: u64, wakes: &Arc<Wakes>) -> WaiterId {
    let id = list.join(0, 1, Nanos(100), waiter).unwrap();
    list.wait_on(id, Nanos(100), &mut wakes.waker());
    id
}

#[test]
fn a_waiter_is_woken_by_its_answer_after_the_lock_is_released() {
    let (list, wakes) = (Mutex::new(List::new()), Arc::new(Wakes::default()));
    let mut guard = lock(&list);
    let id = joined(&mut guard, 7, &wakes);
    guard.answer(id, "yes");
    assert_eq!(guard.get(id), None);
    let wakers = guard.take_wakers();
    assert_eq!(wakes.count(), 0);
    wakers.wake_after(guard);
    assert_eq!((wakes.count(), wakes.are_held()), (1, false));
    assert_eq!(lock(&list).take_answer(id), Some(("yes", 7)));
    assert_eq!(lock(&list).take_answer(id), None);
}

#[test]
fn a_task_that_polls_gets_its_answer_without_a_wake_up_and_a_later_task_in_its_slot_is_woken() {
    let (list, wakes) = (Mutex::new(List::new()), Arc::new(Wakes::default()));
    let one = joined(&mut lock(&list), 1, &wakes);
    let other = joined(&mut lock(&list), 2, &wakes);
    let answered = |asking, answered| {
        let mut guard = lock(&list);
        guard.announce(asking);
        guard.answer(answered, "yes");
        guard.take_wakers().wake_after(guard);
        wakes.count()
    };
    assert_eq!(answered(one, one), 0);
    assert_eq!(lock(&list).take_answer(one), Some(("yes", 1)));
    // Another waiter joins in the freed slot. The announcement of the former task ended with the lock, so the next
    // answer to this slot wakes the task of the new waiter.
    assert_eq!(joined(&mut lock(&list), 3, &wakes), one);
    assert_eq!(answered(other, one), 1);
    assert_eq!(answered(one, other), 2);
    assert!(!wakes.are_held());
}

#[test]
fn a_task_is_woken_once_if_its_turn_may_come_before_it_polls() {
    let (list, wakes) = (Mutex::new(List::new()), Arc::new(Wakes::default()));
    let id = joined(&mut lock(&list), 1, &wakes);
    for (due, wakes_by_then) in [(100, 0), (200, 0), (150, 1), (50, 1)] {
        let mut guard = lock(&list);
        guard.expect(id, Nanos(due));
        assert_eq!(guard.next_poll_at(id), Some(Nanos(due)));
        guard.take_wakers().wake_after(guard);
        assert_eq!(wakes.count(), wakes_by_then, "{due}");
    }
    lock(&list).leave(id);
    assert_eq!(lock(&list).next_poll_at(id), None);
}

proptest! {
    #[test]
    fn it_keeps_the_order_and_the_sums_of_each_class_like_a_simple_list(
        steps in prop::collection::vec((0..5_u8, 0..2_usize, any::<prop::sample::Index>(), any::<u64>()), 1..200),
    ) {
        let mut list = List::new();
        let mut lines: [VecDeque<(WaiterId, u64)>; 2] = Default::default();
        let (mut answered, mut most) = (Vec::new(), 0);
        for (step, class, index, weight) in steps {
            let line = &mut lines[class];
            match step {
                0 | 1 => line.push_back((list.join(class, weight, Nanos::MAX, weight).unwrap(), weight)),
                2 if !line.is_empty() => list.leave(line.remove(index.index(line.len())).unwrap().0),
                3 if !line.is_empty() => {
                    let (id, weight) = line.remove(index.index(line.len())).unwrap();
                    list.answer(id, "yes");
                    answered.push((id, weight));
                }
                4 if !answered.is_empty() => {
                    let (id, weight) = answered.swap_remove(index.index(answered.len()));
                    prop_assert_eq!(list.take_answer(id), Some(("yes", weight)));
                }
                _ => {}
            }
            most = most.max(lines[0].len() + lines[1].len() + answered.len());
            for (class, line) in lines.iter().enumerate() {
                let weight = line.iter().map(|(_, weight)| u128::from(*weight)).sum();
                prop_assert_eq!(list.of_class(class), Backlog { calls: line.len(), weight });
                prop_assert_eq!(list.oldest(class), line.front().map(|(id, _)| *id));
                prop_assert_eq!(list.newest(class), line.back().map(|(id, _)| *id));
                prop_assert!(line.iter().all(|(id, weight)| list.get(*id) == Some(*weight)));
                prop_assert!(list.in_order(class).eq(line.iter().copied()));
            }
            prop_assert_eq!(list.all(), list.of_class(0).plus(list.of_class(1)));
            prop_assert_eq!(list.slots.len(), most);
        }
    }
}
