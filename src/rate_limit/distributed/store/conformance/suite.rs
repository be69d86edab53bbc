use super::{
    buckets, debts, keys,
    probe::{Outcome, Probe},
    quotas,
    report::{Check, Report},
    together::{Running, all},
    windows,
};
use crate::{random::Random, rate_limit::distributed::store::Store};

/// Runs all checks at the same time, each to its end.
///
/// Dropping the future ends the suite. Its keys stay in the store until they expire there.
pub async fn check(store: &dyn Store) -> Report {
    let run = Random::new().with(|generator| generator.next_u64());
    let probe = |name| Probe::new(store, format!("conformance:{run:016x}:{name}:"));
    let outcomes = all(CHECKS.iter().map(|(name, check)| check(probe(name))).collect()).await;
    Report::new(CHECKS.iter().zip(outcomes).map(|((name, _), outcome)| Check::new(name, outcome.err())).collect())
}

type Run = for<'a> fn(Probe<'a>) -> Running<'a, Outcome>;

macro_rules! checks {
    ($($group:ident { $($name:ident),+ $(,)? })+) => {
        &[$($((stringify!($name), |probe| Box::pin($group::$name(probe)))),+),+]
    };
}

const CHECKS: &[(&str, Run)] = checks! {
    buckets {
        a_fresh_key_grants_up_to_the_burst,
        less_than_the_least_is_not_granted,
        a_charge_that_wants_nothing_changes_nothing,
        retry_after_is_the_time_until_there_is_room,
        a_process_that_waits_for_retry_after_is_granted,
        a_bucket_drains_at_its_rate,
        an_idle_bucket_saves_up_no_more_than_the_burst,
        asking_every_millisecond_loses_no_token,
        the_total_counts_grants_and_spends,
        concurrent_charges_share_the_burst,
    }
    debts {
        spends_raise_the_level_up_to_the_burst_plus_max_debt,
        a_level_above_the_burst_drains_before_anything_is_granted,
        late_spends_take_room_up_to_the_burst_and_are_owed_beyond,
        a_debt_is_repaid_with_two_fifths_of_the_rate,
        a_debt_takes_the_whole_rate_of_an_empty_bucket,
        a_refund_makes_room,
        an_old_refund_gives_back_what_has_not_drained,
        a_refund_that_has_drained_returns_nothing,
        a_repeated_charge_is_counted_once,
        a_charge_that_was_overtaken_is_not_counted,
        the_same_sequence_of_another_client_is_counted,
        a_hint_repairs_lost_data,
        a_late_hint_counts_what_has_not_drained,
        a_hint_that_is_not_ahead_of_the_store_is_ignored,
        a_hint_of_an_expired_bucket_does_no_harm,
    }
    quotas {
        a_changed_quota_does_not_reprice_spent_tokens,
        a_bucket_drains_by_the_old_quota_until_the_new_one_comes,
        a_smaller_burst_forgives_nothing,
        alternating_quotas_grant_between_their_two_rates,
        the_largest_burst_is_granted_and_counted,
        the_slowest_rate_is_kept,
        no_number_is_too_large_for_a_bucket,
    }
    keys {
        keys_are_independent,
        the_largest_batch_is_answered_in_order,
        a_key_is_any_bytes,
        the_empty_key_is_a_key,
        a_batch_of_windows_is_answered_in_order,
        a_bucket_and_a_window_of_one_key_are_independent,
    }
    windows {
        held_tokens_are_not_granted_to_another_client,
        spends_count_until_a_window_later,
        spends_count_from_the_time_at_which_they_were_spent,
        spends_count_once,
        a_repeated_demand_grants_and_counts_nothing,
        a_demand_that_was_overtaken_is_ignored,
        returned_tokens_are_granted_to_others,
        tokens_held_by_a_silent_client_count_as_spent,
        lost_data_is_reported_as_lost,
        after_data_were_lost_nothing_is_granted_for_a_window,
        a_smaller_limit_still_counts_held_tokens,
        no_number_is_too_large_for_a_window,
        no_window_has_more_spends_than_the_limit,
    }
};
