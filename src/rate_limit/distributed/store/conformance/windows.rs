use super::{
    super::{Demand, Settled},
    probe::{Answer, Outcome, Probe, TICK, millis, same, within},
    report::Failure,
};
use crate::random::Random;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// The length of a window that a check waits for.
const WINDOW: Duration = millis(400);

/// A window that does not end before the suite does.
const LONG: Duration = millis(60_000);

/// How much longer than a window a spend may count: a fortieth of the window, and two ticks of the clock.
const LATE: Duration = millis(10 + 2);

/// A process as the store sees it: the tokens that it holds, and its spends with their times.
pub(super) struct Client<'a> {
    probe: &'a Probe<'a>,
    pub(super) key: Arc<[u8]>,
    id: u64,
    limit: u64,
    window: Duration,
    pub(super) held: u64,
    spent: u64,
    /// The latest first.
    spends: VecDeque<(Instant, u64)>,
    sequence: u64,
    total: u64,
}

impl<'a> Client<'a> {
    pub(super) fn new(probe: &'a Probe<'a>, id: u64, limit: u64, window: Duration) -> Self {
        let (key, spends) = (probe.key("key"), VecDeque::new());
        Self { probe, key, id, limit, window, held: 0, spent: 0, spends, sequence: 0, total: 0 }
    }

    fn spend(&mut self, tokens: u64) -> Instant {
        let now = Instant::now();
        self.held = self.held.saturating_sub(tokens);
        self.spent += tokens;
        self.spends.push_front((now, tokens));
        now
    }

    pub(super) fn demand(&mut self, want: u64) -> Demand {
        let now = Instant::now();
        self.spends.retain(|(at, _)| now.saturating_duration_since(*at) < self.window);
        self.sequence += 1;
        Demand {
            key: self.key.clone(),
            limit: self.limit,
            window: self.window,
            client: self.id,
            sequence: self.sequence,
            spent: self.spent,
            spends: self.spends.iter().map(|(at, tokens)| (now.saturating_duration_since(*at), *tokens)).collect(),
            held: self.held,
            want,
            total: self.total,
        }
    }

    /// Sends a demand, and takes the grant.
    pub(super) async fn ask(&mut self, want: u64) -> Result<Answer<Settled>, Failure> {
        let demand = self.demand(want);
        let settled = self.probe.settle(demand).await?;
        self.held += settled.granted;
        self.total = self.total.max(settled.total);
        Ok(settled)
    }

    /// Asks until the whole limit is free. Before that, each answer must state exactly `free` free tokens. The whole
    /// limit must not be free until `early.1` after `early.0`, and must be free by `late.1` after `late.0`.
    async fn ask_until_free(&mut self, free: u64, early: (Instant, Duration), late: (Instant, Duration)) -> Outcome {
        loop {
            let settled = self.ask(0).await?;
            let least = settled.asked.saturating_duration_since(late.0);
            let most = settled.answered.saturating_duration_since(early.0) + TICK;
            if settled.free == self.limit {
                return within("time until all was free again", early.1..=Duration::MAX, most);
            }
            same(&format!("free tokens after {most:?}"), free, settled.free)?;
            within("time for which it was counted", Duration::ZERO..=late.1, least)?;
            sleep(millis(2)).await;
        }
    }
}

pub(super) async fn held_tokens_are_not_granted_to_another_client(probe: Probe<'_>) -> Outcome {
    let (mut first, mut second) = (Client::new(&probe, 1, 100, LONG), Client::new(&probe, 2, 100, LONG));
    let settled = first.ask(60).await?;
    same(
        "grant, free, total when 60 are wanted and 100 are free",
        (60, 40, 0),
        (settled.granted, settled.free, settled.total),
    )?;
    let settled = second.ask(60).await?;
    same(
        "grant, free, total when 60 are wanted and 40 are free",
        (40, 0, 0),
        (settled.granted, settled.free, settled.total),
    )?;
    first.spend(50);
    let settled = first.ask(10).await?;
    same("grant, free, total after 50 were spent", (0, 0, 50), (settled.granted, settled.free, settled.total))?;
    let settled = second.ask(1).await?;
    same("grant, free, total for the other", (0, 0, 50), (settled.granted, settled.free, settled.total))
}

pub(super) async fn spends_count_until_a_window_later(probe: Probe<'_>) -> Outcome {
    let (mut first, mut second) = (Client::new(&probe, 1, 100, WINDOW), Client::new(&probe, 2, 100, WINDOW));
    first.ask(60).await?;
    let spent = first.spend(60);
    let reported = first.ask(0).await?;
    same("total", 60, reported.total)?;
    second.ask_until_free(40, (spent, WINDOW), (reported.answered, WINDOW + LATE)).await?;
    same("grant of all", 100, second.ask(100).await?.granted)
}

pub(super) async fn spends_count_from_the_time_at_which_they_were_spent(probe: Probe<'_>) -> Outcome {
    let (mut first, mut second) = (Client::new(&probe, 1, 100, WINDOW), Client::new(&probe, 2, 100, WINDOW));
    first.ask(60).await?;
    let spent = first.spend(60);
    sleep(WINDOW / 2).await;
    let reported = first.ask(0).await?;
    let travelled = reported.answered.saturating_duration_since(reported.asked);
    second.ask_until_free(40, (spent, WINDOW), (spent, WINDOW + LATE + travelled)).await
}

pub(super) async fn spends_count_once(probe: Probe<'_>) -> Outcome {
    let mut client = Client::new(&probe, 1, 100, LONG);
    client.ask(60).await?;
    let mut all = 0;
    for tokens in [5, 0, 7, 1, 0] {
        client.spend(tokens);
        all += tokens;
        let settled = client.ask(0).await?;
        same("free, total", (40, all), (settled.free, settled.total))?;
        sleep(millis(5)).await;
    }
    Ok(())
}

pub(super) async fn a_repeated_demand_grants_and_counts_nothing(probe: Probe<'_>) -> Outcome {
    let (mut first, mut second) = (Client::new(&probe, 1, 100, LONG), Client::new(&probe, 2, 100, LONG));
    first.ask(30).await?;
    first.spend(20);
    let demand = first.demand(15);
    let settled = probe.settle(demand.clone()).await?;
    same("grant, free, total", (15, 55, 20), (settled.granted, settled.free, settled.total))?;
    for _ in 0..3 {
        let again = probe.settle(demand.clone()).await?;
        same("grant, total of the repetition", (0, 20), (again.granted, again.total))?;
    }
    let settled = second.ask(0).await?;
    same("free, total for another", (55, 20), (settled.free, settled.total))?;
    // The answers were lost, so the process states that it holds 10.
    let settled = first.ask(0).await?;
    same("free when its answer was lost", 70, settled.free)
}

pub(super) async fn a_demand_that_was_overtaken_is_ignored(probe: Probe<'_>) -> Outcome {
    let (mut first, mut second) = (Client::new(&probe, 1, 100, LONG), Client::new(&probe, 2, 100, LONG));
    let overtaken = first.demand(90);
    first.ask(30).await?;
    same("grant of an overtaken demand", 0, probe.settle(overtaken).await?.granted)?;
    same("free for another", 70, second.ask(0).await?.free)?;
    // The sequence of each client is its own.
    same("grant for another", 70, second.ask(90).await?.granted)
}

pub(super) async fn returned_tokens_are_granted_to_others(probe: Probe<'_>) -> Outcome {
    let (mut first, mut second) = (Client::new(&probe, 1, 100, LONG), Client::new(&probe, 2, 100, LONG));
    first.ask(100).await?;
    same("grant when the other holds all", 0, second.ask(10).await?.granted)?;
    first.held = 25;
    let settled = first.ask(0).await?;
    same("free, total after 75 were returned", (75, 0), (settled.free, settled.total))?;
    same("grant of the returned tokens", 75, second.ask(100).await?.granted)
}

pub(super) async fn tokens_held_by_a_silent_client_count_as_spent(probe: Probe<'_>) -> Outcome {
    let (mut silent, mut second) = (Client::new(&probe, 1, 100, WINDOW), Client::new(&probe, 2, 100, WINDOW));
    let last = silent.ask(60).await?;
    let counted = loop {
        let settled = second.ask(0).await?;
        same("free while it is silent", 40, settled.free)?;
        let passed = settled.since(&last);
        if settled.total == 60 {
            within("time until it was counted", 2 * WINDOW..=Duration::MAX, passed.most)?;
            break settled;
        }
        same("total while it is silent", 0, settled.total)?;
        within("time for which it was not counted", Duration::ZERO..=2 * WINDOW + TICK, passed.least)?;
        sleep(millis(2)).await;
    };
    second.ask_until_free(40, (last.asked, 3 * WINDOW), (counted.answered, WINDOW + LATE)).await
}

pub(super) async fn lost_data_is_reported_as_lost(probe: Probe<'_>) -> Outcome {
    let mut fresh = Client::new(&probe, 2, 100, LONG);
    let settled = fresh.ask(0).await?;
    same("whether the answer for a fresh key reports a loss, free", (false, 100), (settled.lost, settled.free))?;
    // The client knows a total of a key for which the store has none. So the store must have lost it.
    let mut client = Client::new(&probe, 1, 100, LONG);
    client.key = probe.key("lost");
    (client.sequence, client.held, client.total) = (8, 80, 200);
    client.spend(70);
    let settled = client.ask(100).await?;
    let expected = (true, 0, 0, 270);
    same("lost, grant, free, total", expected, (settled.lost, settled.granted, settled.free, settled.total))?;
    client.total = settled.total;
    same("whether the next answer reports a loss", false, client.ask(0).await?.lost)
}

pub(super) async fn after_data_were_lost_nothing_is_granted_for_a_window(probe: Probe<'_>) -> Outcome {
    let mut knows = Client::new(&probe, 1, 100, WINDOW);
    knows.total = 200;
    let lost = knows.ask(10).await?;
    same("lost, grant", (true, 0), (lost.lost, lost.granted))?;
    let mut newcomer = Client::new(&probe, 2, 100, WINDOW);
    loop {
        // A demand of another client with the same total shows no further loss.
        let mut other = Client::new(&probe, 3, 100, WINDOW);
        other.total = 200;
        same("whether the answer to another reports a loss", false, other.ask(0).await?.lost)?;
        let settled = newcomer.ask(10).await?;
        let passed = settled.since(&lost);
        if settled.granted > 0 {
            same("grant", 10, settled.granted)?;
            return within("time until there was a grant", WINDOW..=Duration::MAX, passed.most);
        }
        within("time without a grant", Duration::ZERO..=WINDOW + TICK, passed.least)?;
        sleep(millis(3)).await;
    }
}

pub(super) async fn a_smaller_limit_still_counts_held_tokens(probe: Probe<'_>) -> Outcome {
    let (mut first, mut second) = (Client::new(&probe, 1, 100, LONG), Client::new(&probe, 2, 50, LONG));
    first.ask(60).await?;
    let settled = second.ask(10).await?;
    same("grant, free of a limit of 50", (0, 0), (settled.granted, settled.free))?;
    second.limit = 65;
    let settled = second.ask(10).await?;
    same("grant, free of a limit of 65", (5, 0), (settled.granted, settled.free))
}

pub(super) async fn no_number_is_too_large_for_a_window(probe: Probe<'_>) -> Outcome {
    let mut client = Client::new(&probe, 1, 1 << 52, LONG);
    let settled = client.ask(u64::MAX).await?;
    same("grant, free of 2^52", (1 << 52, 0), (settled.granted, settled.free))?;
    let most = Demand {
        client: u64::MAX,
        sequence: u64::MAX,
        spent: u64::MAX,
        spends: vec![(Duration::ZERO, u64::MAX), (Duration::MAX, u64::MAX)],
        held: u64::MAX,
        want: u64::MAX,
        total: u64::MAX,
        ..client.demand(0)
    };
    let settled = probe.settle(most.clone()).await?;
    same("grant, free of a window that is full", (0, 0), (settled.granted, settled.free))?;
    let settled = probe.settle(Demand { client: 3, sequence: 1, spent: 0, held: 0, ..most }).await?;
    same("grant, free for another", (0, 0), (settled.granted, settled.free))
}

/// Three clients spend, ask, lose answers and repeat demands at random. By a log of their spends, no window may have
/// more than the limit.
pub(super) async fn no_window_has_more_spends_than_the_limit(probe: Probe<'_>) -> Outcome {
    const LIMIT: u64 = 50;
    let (random, start) = (Random::seeded(7), Instant::now());
    let below = |most: u64| random.with(|generator| generator.next_u64() % most);
    let mut clients = [1, 2, 3].map(|id| Client::new(&probe, id, LIMIT, WINDOW / 2));
    let (mut heard, mut log, mut rounds) = ([start; 3], Vec::new(), 0);
    loop {
        let now = Instant::now();
        rounds += 1;
        if now.saturating_duration_since(start) > 8 * WINDOW / 2 {
            break;
        }
        // A client that was not heard for half of its window goes next. So no client counts as silent, which takes two
        // windows.
        let tardy = heard.iter().position(|heard| now.saturating_duration_since(*heard) > WINDOW / 4);
        let who = tardy.unwrap_or(below(3) as usize);
        let client = &mut clients[who];
        let tokens = client.held * below(101) / 100;
        if tokens > 0 {
            log.push((client.spend(tokens), tokens));
        }
        let demand = client.demand(below(LIMIT));
        let settled = probe.settle(demand.clone()).await?;
        heard[who] = now;
        if below(4) == 0 {
            same("grant of a repeated demand", 0, probe.settle(demand).await?.granted)?;
        }
        // The grant of a lost answer goes to no client.
        if below(4) > 0 {
            client.held += settled.granted;
            client.total = client.total.max(settled.total);
        }
        sleep(millis(below(8))).await;
    }
    let window = WINDOW / 2 - TICK;
    let ending =
        |end: Instant| log.iter().filter(move |(at, _)| *at <= end && end.saturating_duration_since(*at) < window);
    let sums = log.iter().map(|(end, _)| ending(*end).map(|(_, tokens)| tokens).sum());
    within("most in any window", LIMIT / 2..=LIMIT, sums.max().unwrap_or(0))?;
    // A store with a high latency has time for few rounds only.
    let least = if rounds > 250 { 4 * LIMIT } else { 2 * LIMIT };
    within("spent in 8 windows", least..=u64::MAX, log.iter().map(|(_, tokens)| tokens).sum())
}
