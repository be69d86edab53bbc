use super::{
    super::{Charge, Demand, LARGEST_BATCH, LONGEST_KEY},
    probe::{Outcome, Probe, millis, same, slow},
    windows::Client,
};
use crate::rate_limit::Quota;
use std::sync::Arc;

pub(super) async fn keys_are_independent(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    probe.charge(Charge { want: 10, ..bucket.clone() }).await?;
    probe.charge(Charge { sequence: 9, spent: 10, ..bucket.clone() }).await?;
    // Names that a store might confuse.
    for name in ["key ", "Key", "ke", "key:", "key\0", "{key}", "key\n", "k\u{e9}y", "key*", "ke?"] {
        let other = Charge { key: probe.key(name), want: 4, sequence: 1, spent: 5, ..bucket.clone() };
        let answer = probe.charge(other).await?;
        let expected = (4, 9, 9);
        same(&format!("grant, level, total of {name:?}"), expected, (answer.granted, answer.level, answer.total))?;
    }
    same("level of the first key", 10, probe.charge(bucket).await?.level)
}

pub(super) async fn the_largest_batch_is_answered_in_order(probe: Probe<'_>) -> Outcome {
    let most = LARGEST_BATCH as u64;
    let charge =
        |number: u64| Charge { key: probe.key(number.to_le_bytes()), want: number, ..probe.charge_of(slow(100)) };
    let charges: Vec<Charge> = (1..=most).map(charge).collect();
    let granted = probe.charge_all(&charges).await?.iter().map(|answer| answer.granted).collect();
    same("grants of 1, 2, .. of 64 keys", (1..=most).collect::<Vec<u64>>(), granted)?;
    let backwards: Vec<Charge> = charges.into_iter().rev().map(|charge| Charge { want: 0, ..charge }).collect();
    let levels = probe.charge_all(&backwards).await?.iter().map(|answer| answer.level).collect();
    same("levels of the 64 keys, from the last", (1..=most).rev().collect::<Vec<u64>>(), levels)?;
    same("answers to no charge at all", 0, probe.charge_all(&[]).await?.len())
}

pub(super) async fn a_key_is_any_bytes(probe: Probe<'_>) -> Outcome {
    let own = probe.key("").len();
    let every_byte: Vec<u8> = (0..=255).collect();
    let longest = vec![0xff; LONGEST_KEY - own];
    let mut nearly = longest.clone();
    *nearly.last_mut().unwrap_or(&mut 0) = 0xfe;
    let names = [every_byte, longest, nearly, vec![], vec![0], vec![0, 0], b"\r\n".to_vec(), vec![0xc3, 0x28]];
    for turn in 1..=2 {
        for name in &names {
            let charge = Charge { key: probe.key(name), want: 3, ..probe.charge_of(slow(10)) };
            let answer = probe.charge(charge).await?;
            let what = format!("grant, level of a key of {} bytes, time {turn}", own + name.len());
            same(&what, (3, 3 * turn), (answer.granted, answer.level))?;
        }
    }
    Ok(())
}

pub(super) async fn the_empty_key_is_a_key(probe: Probe<'_>) -> Outcome {
    let empty: Arc<[u8]> = Arc::from([]);
    // An earlier run may have used this key. With this quota its bucket drains at once, so nothing is left of that run.
    let quota = Quota::new(1000, millis(1)).with_burst(1_000_000);
    let answer = probe.charge(Charge { key: empty.clone(), want: 2, ..probe.charge_of(quota) }).await?;
    same("grant of the empty key", 2, answer.granted)?;
    let mut client = Client::new(&probe, 1, u64::MAX >> 12, millis(10));
    client.key = empty;
    let answer = client.ask(2).await?;
    same("grant of the window of the empty key", 2, answer.granted)?;
    client.held = 0;
    client.ask(0).await.map(|_| ())
}

pub(super) async fn a_batch_of_windows_is_answered_in_order(probe: Probe<'_>) -> Outcome {
    let most = LARGEST_BATCH as u64;
    let demand = |number: u64| {
        let mut client = Client::new(&probe, 1, 100, millis(60_000));
        client.key = probe.key(number.to_le_bytes());
        client.demand(number)
    };
    let demands: Vec<Demand> = (1..=most).map(demand).collect();
    let settled = probe.settle_all(&demands).await?;
    let granted = settled.iter().map(|answer| answer.granted).collect();
    same("grants of 1, 2, .. of 64 windows", (1..=most).collect::<Vec<u64>>(), granted)?;
    let other = |demand: &Demand| Demand { client: 2, want: 0, ..demand.clone() };
    let backwards: Vec<Demand> = demands.iter().rev().map(other).collect();
    let free = probe.settle_all(&backwards).await?.iter().map(|answer| answer.free).collect();
    same("free tokens of the 64 windows, from the last", (36..=99).collect::<Vec<u64>>(), free)
}

pub(super) async fn a_bucket_and_a_window_of_one_key_are_independent(probe: Probe<'_>) -> Outcome {
    let bucket = probe.charge_of(slow(10));
    let mut client = Client::new(&probe, 1, 20, millis(60_000));
    client.key = bucket.key.clone();
    for turn in 1..=2 {
        let charged = probe.charge(Charge { want: 5, ..bucket.clone() }).await?;
        let expected = (5, 5 * turn, 5 * turn);
        same("grant, level, total of the bucket", expected, (charged.granted, charged.level, charged.total))?;
        let settled = client.ask(7).await?;
        same("grant, total of the window", (7, 0), (settled.granted, settled.total))?;
        same("free tokens of the window", 20 - 7 * turn, settled.free)?;
    }
    Ok(())
}
