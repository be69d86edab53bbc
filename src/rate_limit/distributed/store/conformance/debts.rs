use super::{
    super::{Charge, Hint},
    probe::{Outcome, Passed, Probe, TICK, millis, same, slow, within},
};
use crate::rate_limit::Quota;
use std::time::Duration;
use tokio::time::sleep;

pub(super) async fn spends_raise_the_level_up_to_the_burst_plus_max_debt(probe: Probe<'_>) -> Outcome {
    // Spends that are not late raise the level above the burst. Only late ones become a debt beside the level.
    let bucket = Charge { want: 1, max_debt: 5, ..probe.charge_of(slow(10)) };
    let owed = probe.charge(Charge { sequence: 1, spent: 12, ..bucket.clone() }).await?;
    same("grant, level of 12 spent", (0, 12), (owed.granted, owed.level))?;
    let most = probe.charge(Charge { sequence: 2, spent: 20, ..bucket.clone() }).await?;
    same("grant, level of 32 spent", (0, 15), (most.granted, most.level))?;
    // A charge with a smaller `max_debt` does not lower a level that is already above it.
    let less = probe.charge(Charge { sequence: 3, spent: 1, max_debt: 0, ..bucket }).await?;
    same("grant, level with no debt allowed", (0, 15), (less.granted, less.level))
}

pub(super) async fn a_level_above_the_burst_drains_before_anything_is_granted(probe: Probe<'_>) -> Outcome {
    let bucket = Charge { max_debt: 10, want: 1, ..probe.charge_of(Quota::new(10, millis(100))) };
    let owed = probe.charge(Charge { sequence: 1, spent: 20, ..bucket.clone() }).await?;
    same("grant, level of 20 spent", (0, 20), (owed.granted, owed.level))?;
    // 11 tokens have to drain.
    let needs = millis(110);
    within("retry-after", needs.saturating_sub(TICK)..=needs + TICK, owed.retry_after)?;
    loop {
        let later = probe.charge(bucket.clone()).await?;
        let Passed { least, most } = later.since(&owed);
        match later.granted {
            0 if least > needs => return same("grant of 1 after 11 tokens have drained", 1, 0),
            0 => sleep(TICK).await,
            granted => {
                same("grant of 1", 1, granted)?;
                return within("time until it was granted", needs..=Duration::MAX, most);
            }
        }
    }
}

pub(super) async fn late_spends_take_room_up_to_the_burst_and_are_owed_beyond(probe: Probe<'_>) -> Outcome {
    let bucket = Charge { max_debt: 8, ..probe.charge_of(slow(10)) };
    let fits = probe.charge(Charge { sequence: 1, spent: 7, late: 4, ..bucket.clone() }).await?;
    same("level, debt of 3 spent and 4 late", (7, 0), (fits.level, fits.debt))?;
    let owed = probe.charge(Charge { sequence: 2, spent: 8, late: 8, want: 1, ..bucket.clone() }).await?;
    same("grant, level, debt, total of 8 more", (0, 10, 5, 15), (owed.granted, owed.level, owed.debt, owed.total))?;
    // Level and debt share one bound.
    let most = probe.charge(Charge { sequence: 3, spent: 20, late: 19, ..bucket.clone() }).await?;
    same("level, total of 1 and 19 more", (11, 35), (most.level, most.total))?;
    // A little of the level has drained, and made room for debt. The debt is rounded up.
    within("debt of 1 and 19 more", 7..=8, most.debt)?;
    let again = probe.charge(Charge { sequence: 3, spent: 20, late: 19, ..bucket }).await?;
    same("level, total of the repetition", (11, 35), (again.level, again.total))?;
    within("debt of the repetition", 7..=8, again.debt)
}

pub(super) async fn a_debt_is_repaid_with_two_fifths_of_the_rate(probe: Probe<'_>) -> Outcome {
    let quota = Quota::new(500, millis(1000));
    let bucket = Charge { max_debt: 500, ..probe.charge_of(quota) };
    let owed = probe.charge(Charge { sequence: 1, spent: 520, late: 520, ..bucket.clone() }).await?;
    same("level, debt of 520 spent late", (500, 20), (owed.level, owed.debt))?;
    // 20 tokens are repaid in 100 ms, in which 30 of the level drain.
    let refused = probe.charge(Charge { want: 60, least: 60, ..bucket.clone() }).await?;
    let (needs, passed) = (millis(160), refused.since(&owed));
    within(
        "retry-after",
        needs.saturating_sub(passed.most)..=needs.saturating_sub(passed.least) + TICK,
        refused.retry_after,
    )?;
    loop {
        let later = probe.charge(bucket.clone()).await?;
        let (least, most) = later.since(&owed).drains(quota);
        let of_debt = |drained: u64| (drained * 2).div_ceil(5).min(20);
        within("debt", 20 - of_debt(most)..=20 - (least * 2 / 5).min(20), later.debt)?;
        let left = |drained: u64| 500u64.saturating_sub(drained - of_debt(drained));
        within("level", left(most + 1)..=left(least) + 1, later.level)?;
        if least > 150 {
            return same("debt after it was repaid", 0, later.debt);
        }
        sleep(millis(10)).await;
    }
}

pub(super) async fn a_debt_takes_the_whole_rate_of_an_empty_bucket(probe: Probe<'_>) -> Outcome {
    let quota = Quota::new(500, millis(1000)).with_burst(10);
    let bucket = Charge { max_debt: 100, want: 10, ..probe.charge_of(quota) };
    let owed = probe.charge(Charge { sequence: 1, spent: 60, late: 60, ..bucket.clone() }).await?;
    same("grant, level, debt of 60 spent late", (0, 10, 50), (owed.granted, owed.level, owed.debt))?;
    sleep(millis(130)).await;
    let later = probe.charge(bucket).await?;
    same("grant, debt when 60 have drained", (10, 0), (later.granted, later.debt))
}

pub(super) async fn a_refund_makes_room(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    let granted = probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    let refund = Charge { refund: 4, refund_of: granted.at, ..bucket.clone() };
    let refunded = probe.charge(refund.clone()).await?;
    same("grant, total after 4 of 10 were given back", (0, 10), (refunded.granted, refunded.total))?;
    // A little of the 4 has drained since, and the level is rounded up.
    within("level after 4 of 10 were given back", 6..=7, refunded.level)?;
    // One charge first takes back, then grants.
    let again = probe.charge(Charge { want: 10, refund: 6, ..refund }).await?;
    within("grant after the other 6 were given back", 9..=10, again.granted)
}

pub(super) async fn an_old_refund_gives_back_what_has_not_drained(probe: Probe<'_>) -> Outcome {
    let quota = Quota::new(500, millis(1000));
    let bucket = Charge { max_debt: 500, ..probe.charge_of(quota) };
    let granted = probe.charge(Charge { want: 100, ..bucket.clone() }).await?;
    sleep(millis(50)).await;
    let spent = probe.charge(Charge { client: 2, sequence: 1, spent: 400, ..bucket.clone() }).await?;
    sleep(millis(50)).await;
    let refunded = probe.charge(Charge { refund: 100, refund_of: granted.at, ..bucket }).await?;
    // The refund lowers the level by 100, less what drained in its age.
    let ((least_aged, most_aged), (least, most)) =
        (refunded.since(&granted).drains(quota), refunded.since(&spent).drains(quota));
    let without = |drained: u64| spent.level.saturating_sub(drained);
    let taken = |aged: u64| 100u64.saturating_sub(aged);
    let expected =
        without(most + 1).saturating_sub(taken(least_aged))..=without(least).saturating_sub(taken(most_aged));
    within("level after a refund of 100", expected, refunded.level)
}

pub(super) async fn a_refund_that_has_drained_returns_nothing(probe: Probe<'_>) -> Outcome {
    let quota = Quota::new(10, millis(50));
    let bucket = probe.charge_of(quota);
    let granted = probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    sleep(millis(100)).await;
    let slow = slow(10);
    let other = probe.charge(Charge { client: 2, want: 10, quota: slow, ..bucket.clone() }).await?;
    same("grant of a drained bucket", 10, other.granted)?;
    let late = Charge { refund: 10, refund_of: granted.at, want: 1, ..bucket };
    let late = probe.charge(late).await?;
    same("grant after a refund of what had drained", 0, late.granted)?;
    same("level after a refund of what had drained", 10, late.level)
}

pub(super) async fn a_repeated_charge_is_counted_once(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(100));
    let charge = Charge { sequence: 1, spent: 10, ..bucket.clone() };
    for time in ["the first", "the second", "the third"] {
        let answer = probe.charge(charge.clone()).await?;
        same(&format!("level, total when sent {time} time"), (10, 10), (answer.level, answer.total))?;
    }
    let next = probe.charge(Charge { sequence: 2, ..charge.clone() }).await?;
    same("level, total of the next charge", (20, 20), (next.level, next.total))?;
    // A repeated charge is granted what it wants each time. The process repeats it since the earlier answer, with its
    // grant, was lost.
    let again = probe.charge(Charge { sequence: 2, want: 5, ..charge }).await?;
    same("grant, level, total of one that wants", (5, 25, 25), (again.granted, again.level, again.total))
}

pub(super) async fn a_charge_that_was_overtaken_is_not_counted(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(100));
    for (sequence, spent, level) in [(5, 10, 10), (3, 20, 10), (5, 20, 10), (4, 20, 10), (9, 7, 17), (6, 20, 17)] {
        let answer = probe.charge(Charge { sequence, spent, ..bucket.clone() }).await?;
        same(&format!("level, total after sequence {sequence}"), (level, level), (answer.level, answer.total))?;
    }
    Ok(())
}

pub(super) async fn the_same_sequence_of_another_client_is_counted(probe: Probe<'_>) -> Outcome {
    let bucket = Charge { sequence: 1, spent: 1, ..probe.charge_of(slow(100)) };
    for client in 1..=16 {
        let answer = probe.charge(Charge { client: client * 0x0101_0101_0101_0101, ..bucket.clone() }).await?;
        same(&format!("level, total of {client} clients"), (client, client), (answer.level, answer.total))?;
    }
    // The store still knows the sequence of each of the 16 clients.
    let again = probe.charge(Charge { client: 0x0101_0101_0101_0101, ..bucket }).await?;
    same("level, total when the first repeats its charge", (16, 16), (again.level, again.total))
}

pub(super) async fn a_hint_repairs_lost_data(probe: Probe<'_>) -> Outcome {
    // A time in the future, so that nothing has drained since the hint.
    let at = Duration::MAX;
    let hint = Hint { level: 8, at, total: 100 };
    let bucket = probe.charge_of(slow(10));
    let answer = probe.charge(Charge { want: 5, hint, ..bucket.clone() }).await?;
    same("grant, level, total", (2, 10, 102), (answer.granted, answer.level, answer.total))?;
    // A hint with a level above the burst, and spends that the hint does not include.
    let bucket = Charge { key: probe.key("owed"), max_debt: 20, ..bucket };
    let hint = Hint { level: 15, at, total: 50 };
    let answer = probe.charge(Charge { want: 5, sequence: 7, spent: 3, hint, ..bucket.clone() }).await?;
    same("grant, level, total of a level above the burst", (0, 18, 53), (answer.granted, answer.level, answer.total))?;
    // A hint never lowers the level.
    let answer = probe.charge(Charge { hint: Hint { level: 1, at, total: 60 }, ..bucket }).await?;
    same("level, total of a lower level", (18, 60), (answer.level, answer.total))
}

pub(super) async fn a_late_hint_counts_what_has_not_drained(probe: Probe<'_>) -> Outcome {
    let quota = Quota::new(100, millis(1000));
    let bucket = probe.charge_of(quota);
    let now = probe.charge(bucket.clone()).await?;
    sleep(millis(200)).await;
    let hint = Hint { level: 80, at: now.at, total: 100 };
    let answer = probe.charge(Charge { hint, ..bucket }).await?;
    let (least, most) = answer.since(&now).drains(quota);
    within("level", 80u64.saturating_sub(most)..=80u64.saturating_sub(least) + 1, answer.level)?;
    same("total", 100, answer.total)
}

pub(super) async fn a_hint_that_is_not_ahead_of_the_store_is_ignored(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    probe.charge(Charge { want: 5, ..bucket.clone() }).await?;
    for total in [0, 3, 5] {
        let answer =
            probe.charge(Charge { hint: Hint { level: 9, at: Duration::MAX, total }, ..bucket.clone() }).await?;
        same(&format!("level, total with a hint of {total}"), (5, 5), (answer.level, answer.total))?;
    }
    Ok(())
}

pub(super) async fn a_hint_of_an_expired_bucket_does_no_harm(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(Quota::new(10, millis(20)));
    probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    // Long enough for a store to forget the key.
    sleep(millis(1500)).await;
    let hint = Hint { level: 0, at: Duration::MAX, total: 10 };
    let answer = probe.charge(Charge { want: 10, hint, ..bucket }).await?;
    same("grant, level, total", (10, 10, 20), (answer.granted, answer.level, answer.total))
}
