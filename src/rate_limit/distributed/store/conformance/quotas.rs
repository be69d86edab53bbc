use super::{
    super::{Charge, Hint},
    probe::{Outcome, Passed, Probe, TICK, millis, same, slow, within},
};
use crate::rate_limit::Quota;
use std::time::Duration;
use tokio::time::sleep;

/// The longest period of a quota.
const LEAP_YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(super) async fn a_changed_quota_does_not_reprice_spent_tokens(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    // Other periods and bursts, at rates of at most one a day, so that nothing drains.
    for (days, burst) in [(1, 20), (7, 30), (30, 25), (366, 40)] {
        let quota = Quota::new(1, Duration::from_secs(days * 86_400)).with_burst(burst);
        let answer = probe.charge(Charge { quota, ..bucket.clone() }).await?;
        same(&format!("level at {quota}"), 10, answer.level)?;
    }
    let answer = probe.charge(Charge { want: 100, quota: slow(16), ..bucket }).await?;
    same("grant, level of a burst of 16", (6, 16), (answer.granted, answer.level))
}

pub(super) async fn a_bucket_drains_by_the_old_quota_until_the_new_one_comes(probe: Probe<'_>) -> Outcome {
    let (fast, slow) = (Quota::new(1000, millis(1000)), slow(1000));
    let bucket = Charge { want: 1000, ..probe.charge_of(fast) };
    let all = probe.charge(bucket.clone()).await?;
    sleep(millis(150)).await;
    let changed = probe.charge(Charge { want: 0, quota: slow, ..bucket.clone() }).await?;
    let (least, most) = changed.since(&all).drains(fast);
    within("level by the fast quota", 1000u64.saturating_sub(most)..=1000 - least.min(1000), changed.level)?;
    sleep(millis(150)).await;
    let back = probe.charge(Charge { want: 0, ..bucket.clone() }).await?;
    // Less than a token drains.
    within("level by the slow quota", changed.level.saturating_sub(1)..=changed.level, back.level)?;
    sleep(millis(150)).await;
    let end = probe.charge(Charge { want: 0, quota: slow, ..bucket }).await?;
    let (least, most) = end.since(&back).drains(fast);
    within(
        "level by the fast quota again",
        back.level.saturating_sub(most + 1)..=back.level.saturating_sub(least),
        end.level,
    )
}

pub(super) async fn a_smaller_burst_forgives_nothing(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    let smaller = probe.charge(Charge { want: 1, quota: slow(4), ..bucket.clone() }).await?;
    same("grant, level of a burst of 4", (0, 10), (smaller.granted, smaller.level))?;
    let larger = probe.charge(Charge { want: 10, quota: slow(12), ..bucket }).await?;
    same("grant, level of a burst of 12", (2, 12), (larger.granted, larger.level))
}

pub(super) async fn alternating_quotas_grant_between_their_two_rates(probe: Probe<'_>) -> Outcome {
    // As in a rolling deployment: half of the processes send the one quota, half the other.
    let (old, new) = (Quota::new(7, millis(30)).with_burst(50), Quota::new(300, millis(1000)).with_burst(50));
    let bucket = Charge { want: 50, ..probe.charge_of(old) };
    let first = probe.charge(bucket.clone()).await?;
    same("grant of a fresh key", 50, first.granted)?;
    let mut granted = 0;
    for turn in 1u64.. {
        sleep(TICK).await;
        let quota = if turn % 2 == 0 { old } else { new };
        let answer = probe.charge(Charge { client: turn % 4, quota, ..bucket.clone() }).await?;
        granted += answer.granted;
        let passed = answer.since(&first);
        if passed.most >= millis(500) {
            let (least, most) = (passed.drains(old).0, passed.drains(new).1);
            // A change of the quota may round the level up, so one token less may be granted.
            return within(&format!("granted in {:?}", passed.most), least.saturating_sub(1)..=most, granted);
        }
    }
    Ok(())
}

pub(super) async fn the_largest_burst_is_granted_and_counted(probe: Probe<'_>) -> Outcome {
    let quota = Quota::new(1 << 52, LEAP_YEAR);
    let bucket = probe.charge_of(quota);
    let all = probe.charge(Charge { want: u64::MAX, ..bucket.clone() }).await?;
    same("grant, level, total of 2^52", (1 << 52, 1 << 52, 1 << 52), (all.granted, all.level, all.total))?;
    sleep(millis(20)).await;
    let later = probe.charge(bucket.clone()).await?;
    let (least, most) = later.since(&all).drains(quota);
    within("level", (1u64 << 52) - most..=(1 << 52) - least, later.level)?;
    let refused = probe.charge(Charge { want: 1 << 52, least: 1 << 52, ..bucket }).await?;
    same("grant of all when little has drained", 0, refused.granted)?;
    let Passed { least, most } = refused.since(&all);
    within("retry-after", LEAP_YEAR - most..=LEAP_YEAR - least + TICK, refused.retry_after)
}

pub(super) async fn the_slowest_rate_is_kept(probe: Probe<'_>) -> Outcome {
    let bucket = Charge { want: 1, ..probe.charge_of(Quota::new(1, LEAP_YEAR)) };
    let one = probe.charge(bucket.clone()).await?;
    same("grant of a fresh key", 1, one.granted)?;
    let refused = probe.charge(bucket).await?;
    same("grant, level after one", (0, 1), (refused.granted, refused.level))?;
    let Passed { least, most } = refused.since(&one);
    within("retry-after", LEAP_YEAR - most..=LEAP_YEAR - least + TICK, refused.retry_after)
}

pub(super) async fn no_number_is_too_large_for_a_bucket(probe: Probe<'_>) -> Outcome {
    let most = Hint { level: u64::MAX, at: Duration::MAX, total: u64::MAX };
    let quotas = [Quota::new(1, LEAP_YEAR), Quota::new(1 << 52, LEAP_YEAR), Quota::new(1, Duration::from_nanos(1))];
    for (number, quota) in quotas.into_iter().enumerate() {
        let bucket = Charge { key: probe.key([number as u8]), ..probe.charge_of(quota) };
        let charges = [
            Charge { want: u64::MAX, least: u64::MAX, ..bucket.clone() },
            Charge { sequence: u64::MAX - 1, spent: u64::MAX, ..bucket.clone() },
            Charge { client: u64::MAX, sequence: u64::MAX, spent: u64::MAX, max_debt: u64::MAX, ..bucket.clone() },
            Charge { refund: u64::MAX, refund_of: Duration::MAX, ..bucket.clone() },
            Charge { want: u64::MAX, hint: most, max_debt: u64::MAX, ..bucket.clone() },
            Charge { hint: most, want: 1, ..bucket.clone() },
        ];
        let mut total = 0;
        for charge in charges {
            let answer = probe.charge(charge.clone()).await?;
            within(&format!("total after {charge:?}"), total..=u64::MAX, answer.total)?;
            within(&format!("grant of {charge:?}"), 0..=quota.burst(), answer.granted)?;
            total = answer.total;
        }
    }
    // The debt is bounded, and nothing wrapped around.
    let bucket = Charge { key: probe.key("owed"), max_debt: 10, ..probe.charge_of(Quota::new(1, LEAP_YEAR)) };
    let owed = probe.charge(Charge { sequence: 1, spent: u64::MAX, want: u64::MAX, ..bucket.clone() }).await?;
    same("grant, level when everything was spent", (0, 11), (owed.granted, owed.level))?;
    within("retry-after when 11 are owed", LEAP_YEAR * 10..=Duration::MAX, owed.retry_after)?;
    let again = probe.charge(Charge { sequence: 2, spent: u64::MAX, ..bucket }).await?;
    same("level when everything was spent again", 11, again.level)
}
