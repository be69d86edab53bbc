use super::{
    super::Charge,
    probe::{Outcome, Passed, Probe, TICK, millis, same, slow, within},
    together::{Running, all},
};
use crate::rate_limit::Quota;
use std::time::Duration;
use tokio::time::sleep;

pub(super) async fn a_fresh_key_grants_up_to_the_burst(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    let some = probe.charge(Charge { want: 3, ..bucket.clone() }).await?;
    same("grant, level, total when 3 are wanted and 10 are free", (3, 3, 3), (some.granted, some.level, some.total))?;
    let rest = probe.charge(Charge { want: 100, ..bucket.clone() }).await?;
    same(
        "grant, level, total when 100 are wanted and 7 are free",
        (7, 10, 10),
        (rest.granted, rest.level, rest.total),
    )?;
    same("retry-after of a grant", Duration::ZERO, rest.retry_after)?;
    let none = probe.charge(Charge { want: 1, ..bucket }).await?;
    same("grant, level, total of a bucket without room", (0, 10, 10), (none.granted, none.level, none.total))
}

pub(super) async fn less_than_the_least_is_not_granted(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    probe.charge(Charge { want: 7, ..bucket.clone() }).await?;
    let refused = probe.charge(Charge { want: 5, least: 4, ..bucket.clone() }).await?;
    same(
        "grant, level, total when at least 4 are wanted and 3 are free",
        (0, 7, 7),
        (refused.granted, refused.level, refused.total),
    )?;
    let granted = probe.charge(Charge { want: 5, least: 3, ..bucket }).await?;
    same(
        "grant, level, total when at least 3 are wanted and 3 are free",
        (3, 10, 10),
        (granted.granted, granted.level, granted.total),
    )
}

pub(super) async fn a_charge_that_wants_nothing_changes_nothing(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    let nothing = probe.charge(Charge { least: 0, ..bucket.clone() }).await?;
    same("grant, level, total of a fresh key", (0, 0, 0), (nothing.granted, nothing.level, nothing.total))?;
    probe.charge(Charge { want: 4, ..bucket.clone() }).await?;
    for least in [0, 1, 6, 10] {
        let nothing = probe.charge(Charge { least, ..bucket.clone() }).await?;
        same("grant, level, total after a grant of 4", (0, 4, 4), (nothing.granted, nothing.level, nothing.total))?;
    }
    same("grant of the rest", 6, probe.charge(Charge { want: 10, ..bucket }).await?.granted)
}

pub(super) async fn retry_after_is_the_time_until_there_is_room(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(Quota::new(10, millis(1000)));
    let all = probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    for (least, needs) in [(1, millis(100)), (3, millis(300)), (10, millis(1000))] {
        let refused = probe.charge(Charge { want: 10, least, ..bucket.clone() }).await?;
        let Passed { least: passed, most } = refused.since(&all);
        if most < needs {
            same("grant of a bucket without room", 0, refused.granted)?;
            within("retry-after", needs.saturating_sub(most)..=needs - passed + TICK, refused.retry_after)?;
        }
    }
    Ok(())
}

pub(super) async fn a_process_that_waits_for_retry_after_is_granted(probe: Probe<'_>) -> Outcome {
    // The time of a token is not a whole number of nanoseconds.
    let bucket = probe.charge_of(Quota::new(7, millis(200)));
    probe.charge(Charge { want: 7, ..bucket.clone() }).await?;
    for least in [1, 3, 2, 7] {
        let asks = Charge { want: least, least, ..bucket.clone() };
        let refused = probe.charge(asks.clone()).await?;
        sleep(refused.retry_after).await;
        // A store that answers late, when there is room again, is right, too.
        if refused.granted == 0 {
            same("grant after retry-after", least, probe.charge(asks).await?.granted)?;
        }
    }
    Ok(())
}

pub(super) async fn a_bucket_drains_at_its_rate(probe: Probe<'_>) -> Outcome {
    let quota = Quota::new(1000, millis(1000)).with_burst(2000);
    let bucket = probe.charge_of(quota);
    let all = probe.charge(Charge { want: 2000, ..bucket.clone() }).await?;
    for _ in 0..5 {
        sleep(millis(70)).await;
        let later = probe.charge(bucket.clone()).await?;
        let (least, most) = later.since(&all).drains(quota);
        within("level", 2000u64.saturating_sub(most)..=2000 - least.min(2000), later.level)?;
        let Passed { least, most } = later.since(&all);
        within("time by the store's clock", least..=most + TICK, later.at.saturating_sub(all.at))?;
    }
    Ok(())
}

pub(super) async fn an_idle_bucket_saves_up_no_more_than_the_burst(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(Quota::new(10, millis(20)));
    probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    sleep(millis(100)).await;
    let again = probe.charge(Charge { want: 100, ..bucket.clone() }).await?;
    same("grant, level, total of a drained bucket", (10, 10, 20), (again.granted, again.level, again.total))?;
    // Long enough for a store to forget the key.
    sleep(millis(1500)).await;
    let again = probe.charge(Charge { want: 100, ..bucket }).await?;
    same("grant, level of a forgotten bucket", (10, 10), (again.granted, again.level))
}

pub(super) async fn asking_every_millisecond_loses_no_token(probe: Probe<'_>) -> Outcome {
    let quotas = [Quota::new(7, millis(30)), Quota::new(3, millis(1000)), Quota::new(1, millis(90))];
    let ask = |(number, quota): (usize, &Quota)| Charge {
        key: probe.key([number as u8]),
        want: 100,
        ..probe.charge_of(quota.with_burst(100))
    };
    let charges: Vec<Charge> = quotas.iter().enumerate().map(ask).collect();
    let first = probe.charge_all(&charges).await?;
    let mut granted = [0; 3];
    loop {
        sleep(TICK).await;
        let answers = probe.charge_all(&charges).await?;
        granted.iter_mut().zip(answers.iter()).for_each(|(sum, answer)| *sum += answer.granted);
        let passed = answers.since(&first);
        if passed.most < Duration::from_secs(1) {
            continue;
        }
        for (quota, granted) in quotas.iter().zip(granted) {
            let (least, most) = passed.drains(*quota);
            within(&format!("granted of {quota} in {:?}", passed.most), least..=most, granted)?;
        }
        return Ok(());
    }
}

pub(super) async fn the_total_counts_grants_and_spends(probe: Probe<'_>) -> Outcome {
    let bucket = Charge { max_debt: 100, ..probe.charge_of(slow(20)) };
    let mut total = 0;
    for sequence in 1..=8 {
        let charge = Charge { sequence, spent: sequence, want: 3, least: 1, ..bucket.clone() };
        let answer = probe.charge(charge).await?;
        total += sequence + answer.granted;
        same("total", total, answer.total)?;
    }
    same("total of 36 spent and 10 granted", 46, total)?;
    // Refunded tokens were granted once, so the total keeps them.
    let at = probe.charge(bucket.clone()).await?.at;
    let refunded = probe.charge(Charge { refund: 6, refund_of: at, ..bucket }).await?;
    same("total after a refund", total, refunded.total)
}

pub(super) async fn concurrent_charges_share_the_burst(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(100));
    let probe = &probe;
    let asks = |client| -> Running<'_, _> { Box::pin(probe.charge(Charge { client, want: 3, ..bucket.clone() })) };
    let mut granted = 0;
    for answer in all((1..=50).map(asks).collect()).await {
        granted += answer?.granted;
    }
    same("granted in all", 100, granted)
}
