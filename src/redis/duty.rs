use crate::sync::{Mutex, lock};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Background work that one task does at a time. A call that needs the work spawns the task.
///
/// A task whose runtime has ended gives up its duty. A task is seen when it begins and when it calls
/// [`goes_on`](OnDuty::goes_on). If a task was not seen within the patience of [`begin`](Duty::begin), its runtime is
/// taken to have stopped, and the next task takes over. If the former task runs again, `goes_on` returns `false`.
#[derive(Default)]
pub(crate) struct Duty(Mutex<Roster>);

#[derive(Default)]
struct Roster {
    /// The task on duty, and when it was last seen.
    on_duty: Option<(u64, Instant)>,
    /// The number of the task that took the duty last.
    last: u64,
}

/// Held by the task on duty, until it is done or dropped.
pub(crate) struct OnDuty {
    duty: Arc<Duty>,
    number: u64,
}

impl Duty {
    /// Takes the duty, unless another task has it and was seen within `patience`.
    pub(crate) fn begin(self: &Arc<Self>, patience: Duration, now: Instant) -> Option<OnDuty> {
        let mut roster = lock(&self.0);
        if roster.on_duty.is_some_and(|(_, seen)| now < seen + patience) {
            return None;
        }
        roster.last += 1;
        let number = roster.last;
        roster.on_duty = Some((number, now));
        Some(OnDuty { duty: self.clone(), number })
    }
}

impl OnDuty {
    /// Notes that the task still works. Returns `false` if another task has taken over.
    pub(crate) fn goes_on(&self, now: Instant) -> bool {
        match &mut lock(&self.duty.0).on_duty {
            Some((number, seen)) if *number == self.number => {
                *seen = now;
                true
            }
            _ => false,
        }
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        let mut roster = lock(&self.duty.0);
        if roster.on_duty.is_some_and(|(number, _)| number == self.number) {
            roster.on_duty = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_keeps_its_duty_until_it_is_dropped_or_not_seen_for_the_patience() {
        let (duty, patience, now) = (Arc::new(Duty::default()), Duration::from_secs(1), Instant::now());
        let first = duty.begin(patience, now).expect("no task has it");
        assert!(duty.begin(patience, now).is_none());
        drop(first);
        let second = duty.begin(patience, now).expect("the first was dropped");
        assert!(second.goes_on(now + patience));
        assert!(duty.begin(patience, now + patience).is_none(), "it was seen");
        let third = duty.begin(patience, now + 2 * patience).expect("the second was not seen");
        assert!(!second.goes_on(now + 2 * patience));
        drop(second);
        assert!(third.goes_on(now + 2 * patience), "the second does not take the duty along");
    }
}
