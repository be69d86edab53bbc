//! The contract of all layers, as one set of tests. They run for each layer used alone, for the client stack and for
//! the server stack.
//!
//! A test is an `async fn` that takes a [`subject::Make`]. The lists below say for which subjects it runs. To bring a
//! new layer under the contract, add a function to `subject.rs` and a line to `contract!` at the end of this file.

mod any_layer;
mod below;
mod capacity;
mod clock;
mod controls;
mod errors;
mod evidence;
mod fixture;
mod panics;
mod polling;
mod readiness;
mod reading;
mod rejections;
mod resources;
mod sharing;
mod subject;
mod task;
mod turns;
mod types;
mod under_way;

/// Makes a test from each function, for one subject.
macro_rules! tests {
    ($make:path: $($room:ident { $($test:ident),* $(,)? })*) => {
        $($(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                crate::task::in_finite_time(crate::$room::$test($make)).await;
            }
        )*)*
    };
}

/// The contract of every layer.
macro_rules! any_layer {
    ($make:path) => {
        tests! { $make:
            readiness {
                a_handle_is_always_ready_and_holds_nothing,
                poll_ready_never_rejects,
                nothing_happens_before_the_first_poll,
                a_service_that_is_not_ready_wakes_the_call_once_when_it_is,
                a_readiness_error_comes_out_of_the_future,
                the_instance_that_was_polled_ready_is_the_one_that_is_called,
                a_call_costs_one_clone_of_the_service,
                an_idle_ready_handle_takes_no_capacity,
            }
            capacity {
                a_dropped_handle_leaves_full_capacity,
                a_future_dropped_before_its_first_poll_leaves_full_capacity,
                a_future_dropped_after_any_of_its_polls_leaves_full_capacity,
                a_resolved_future_that_is_kept_leaves_full_capacity,
                a_future_kept_after_a_readiness_error_leaves_full_capacity,
                a_resolved_future_keeps_no_clone_of_the_service,
                the_services_future_is_dropped_before_the_permits_are_returned,
                polling_a_resolved_future_panics_and_takes_nothing,
            }
            panics {
                a_panic_in_poll_ready_leaves_full_capacity,
                a_panic_in_call_leaves_full_capacity,
                a_panic_in_a_poll_of_the_services_future_leaves_full_capacity,
                a_panic_in_the_drop_of_an_answered_future_leaves_full_capacity,
                a_panic_in_the_drop_of_a_cancelled_future_leaves_full_capacity,
            }
            sharing {
                all_handles_of_a_layer_share_one_state,
            }
            reading {
                reading_at_any_instant_changes_nothing,
                wakers_and_drops_may_read_every_handle,
            }
            polling {
                a_pending_call_is_polled_only_when_the_service_wakes_it,
                an_answer_wakes_the_call_once,
                only_the_waker_of_the_latest_poll_is_woken,
                a_thousand_calls_in_one_poll_are_all_admitted,
                a_thousand_calls_in_one_poll_are_all_admitted_over_a_concurrency_limit,
                a_thousand_calls_in_one_poll_are_all_admitted_over_a_buffer,
            }
            clock {
                after_user_code_the_clock_is_read_again,
                time_before_the_first_poll_does_not_count,
                a_call_that_is_answered_takes_no_time,
                a_call_of_a_hanging_service_ends_at_the_configured_instant,
            }
            errors {
                the_services_error_keeps_its_type_and_its_source,
                with_keep_error_the_services_error_is_unchanged,
                with_respond_with_the_services_error_is_unchanged,
                a_box_error_of_the_service_is_shown_and_converted,
            }
            types {
                a_service_that_is_neither_send_nor_static_works,
                a_service_that_is_not_send_works_on_a_local_set,
            }
        }
    };
}

/// The contract of layers that reject calls.
macro_rules! rejects {
    ($make:path) => {
        tests! { $make:
            errors {
                a_rejection_comes_out_as_a_typed_error_with_its_source,
                a_rejection_is_found_in_a_box_error,
                a_rejection_is_converted_into_the_services_own_error,
                a_rejection_becomes_a_response,
                with_boxed_error_each_error_keeps_its_type,
            }
        }
    };
}

/// The contract of layers that refuse calls before they reach the service.
macro_rules! refuses {
    ($make:path) => {
        tests! { $make:
            readiness {
                a_refusal_does_not_touch_the_service,
            }
            capacity {
                a_refused_call_that_is_kept_leaves_full_capacity,
            }
        }
    };
}

/// The contract of layers that admit or refuse calls at once.
macro_rules! admits {
    ($make:path) => {
        refuses! { $make }
        tests! { $make:
            sharing {
                a_place_returned_on_one_handle_is_free_on_another,
            }
        }
    };
}

/// The contract of layers that let calls wait for their turn.
macro_rules! waits {
    ($make:path) => {
        tests! { $make:
            turns {
                a_call_that_waits_leaves_the_service_alone,
                a_call_whose_turn_has_come_is_woken_once,
                a_call_that_waited_and_was_dropped_after_any_of_its_polls_leaves_full_capacity,
                a_panic_of_the_service_after_a_wait_leaves_full_capacity,
                a_place_given_back_on_one_handle_goes_to_a_waiter_on_another,
            }
        }
    };
}

/// The contract of layers that end calls at a deadline.
macro_rules! times_out {
    ($make:path) => {
        tests! { $make:
            capacity {
                a_call_whose_deadline_has_passed_leaves_the_service_alone,
                a_kept_future_that_timed_out_in_the_service_leaves_full_capacity,
                a_kept_future_that_timed_out_in_a_queue_leaves_full_capacity,
                a_timeout_drops_the_services_future_before_it_returns_the_permits,
            }
            panics {
                a_panic_in_the_drop_of_a_timed_out_future_leaves_full_capacity,
            }
            polling {
                the_timer_wakes_the_call_once_and_by_its_latest_waker,
            }
            clock {
                an_answer_that_is_ready_at_the_deadline_is_returned,
            }
            evidence {
                a_timeout_says_whether_the_call_had_half_of_its_patience,
            }
        }
    };
}

/// The contract of layers that repeat calls.
macro_rules! retries {
    ($make:path) => {
        tests! { $make:
            readiness {
                each_attempt_has_an_instance_of_its_own,
            }
            capacity {
                a_call_between_two_attempts_holds_nothing,
            }
            panics {
                a_retry_that_panics_is_not_refunded,
            }
            sharing {
                all_handles_of_a_layer_spend_one_budget,
            }
            evidence {
                no_attempt_begins_after_the_callers_deadline,
            }
        }
    };
}

/// The contract of a retry around gates and inside a timeout.
macro_rules! judges_each_attempt {
    ($make:path) => {
        tests! { $make:
            evidence {
                a_retry_cut_off_before_it_reached_the_service_is_no_evidence,
                a_refused_retry_says_that_an_earlier_attempt_reached_the_service,
                no_attempt_begins_after_the_limit,
                an_attempt_with_less_than_half_of_its_patience_is_no_evidence,
                the_retry_does_not_wait_for_a_refusal_of_its_own_stack,
                the_retry_does_not_wait_before_an_attempt_that_the_stack_would_refuse,
            }
        }
    };
}

/// Runs each subject with the lists that apply to it.
macro_rules! contract {
    ($($subject:ident: $($list:ident),+;)*) => {
        $(
            mod $subject {
                $($list! { crate::subject::$subject })+
            }
        )*
    };
}

contract! {
    timeout: any_layer, rejects, times_out;
    timeout_that_learns: any_layer, rejects, times_out;
    retry: any_layer, retries;
    circuit_breaker: any_layer, rejects, admits;
    circuit_breaker_that_times: any_layer, rejects, admits;
    circuit_breaker_of_one_key: any_layer, rejects, admits;
    load_shed: any_layer, rejects, admits;
    load_level: any_layer, rejects, refuses;
    load_level_that_waits: any_layer, waits;
    rate_limit: any_layer, rejects, admits;
    rate_limit_that_waits: any_layer, waits;
    rate_limit_that_waits_a_little: any_layer, rejects, admits;
    rate_limit_of_two: any_layer, rejects, admits;
    client: any_layer, rejects, admits, times_out, retries, judges_each_attempt;
    client_without_attempt_timeout: any_layer, rejects, admits, times_out, retries, judges_each_attempt;
    client_that_is_observed: any_layer, rejects, admits, times_out, retries, judges_each_attempt;
    client_of_own_stages: any_layer, rejects, admits, retries;
    server: any_layer, rejects, admits, times_out;
    server_that_is_observed: any_layer, rejects, admits, times_out;
    server_that_levels: any_layer, rejects, admits, times_out;
    server_that_waits: any_layer, waits, times_out;
}
