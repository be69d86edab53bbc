use super::{
    buckets, debts, keys,
    probe::{Outcome, Probe},
    quotas,
    report::{Check, Report},
    together::{Running, all},
    windows,
};
use crate::{random::Random, rate_limit::distributed::store::Store};

/// Runs every check, all at the same time, whatever the others say.
///
/// Dropping the future ends the suite. What it has written stays in the store until it expires there.
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
        whoever_waits_for_retry_after_is_granted,
        a_bucket_drains_at_its_rate,
        an_idle_bucket_saves_up_no_more_than_the_burst,
        asking_every_millisecond_loses_no_token,
        the_total_counts_what_was_granted_and_what_was_spent,
        concurrent_charges_share_the_burst,
    }
    debts {
        what_was_spent_is_owed_up_to_the_most_debt,
        debt_is_repaid_before_anything_is_granted,
        what_was_spent_late_takes_room_up_to_the_burst_and_is_owed_beyond,
        a_debt_is_repaid_with_two_fifths_of_the_rate,
        a_debt_takes_the_whole_rate_of_an_empty_bucket,
        a_refund_makes_room,
        an_old_refund_gives_back_what_has_not_drained,
        of_a_refund_that_has_drained_nothing_comes_back,
        a_charge_that_comes_again_is_counted_once,
        a_charge_that_was_overtaken_is_not_counted,
        the_same_sequence_of_another_client_is_counted,
        a_hint_repairs_lost_data,
        of_a_hint_that_arrives_late_counts_what_has_not_drained,
        a_hint_of_what_the_store_knows_is_ignored,
        a_hint_of_an_expired_bucket_does_no_harm,
    }
    quotas {
        a_changed_quota_does_not_reprice_what_was_spent,
        a_bucket_drains_by_the_old_quota_until_the_new_one_comes,
        a_smaller_burst_forgives_nothing,
        alternating_quotas_starve_nobody,
        the_largest_burst_is_granted_and_counted,
        the_slowest_rate_is_kept,
        no_number_is_too_large_for_a_bucket,
    }
    keys {
        keys_have_nothing_to_do_with_each_other,
        the_largest_batch_is_answered_in_order,
        a_key_is_any_bytes,
        the_empty_key_is_a_key,
        a_batch_of_windows_is_answered_in_order,
        a_bucket_and_a_window_of_one_key_are_two_things,
    }
    windows {
        what_one_client_holds_another_does_not_get,
        what_was_spent_is_counted_for_a_window,
        what_was_spent_before_is_counted_from_then,
        what_was_spent_is_counted_once,
        a_demand_that_comes_again_grants_and_counts_nothing,
        a_demand_that_was_overtaken_is_ignored,
        what_is_given_back_others_get,
        what_a_silent_client_holds_is_counted_as_spent,
        lost_data_is_said_to_be_lost,
        after_data_were_lost_nothing_is_granted_for_a_window,
        a_smaller_limit_still_counts_what_is_held,
        no_number_is_too_large_for_a_window,
        in_no_window_is_more_spent_than_the_limit,
    }
};
