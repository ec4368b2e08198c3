//! The conformance suite: what every client of the protocol must do, tried on the SDKs of this repository.
//!
//! A client takes part through an adapter, a program that reads commands from standard input and writes answers and events to
//! standard output, one JSON object a line: `crates/device/examples/conformance.rs` for the Rust SDK,
//! `clients/python/conformance.py` for the Python client. Every case runs against each. The servers are real ones where a
//! healthy server is enough, and otherwise the server of the Rust SDK's own tests, which misbehaves on demand.
//!
//! | command (`do`) | with | does |
//! |---|---|---|
//! | `connect` | `server`, `identity` (a directory), `max_rows`, `max_bytes`, `backoff_min_ms`, `backoff_max_ms` | starts to connect, in the background; batches are cut by rows and bytes only, never by age |
//! | `attach` | `device`, `epoch` (hexadecimal, or null: a new one) | adds a device; for the identity of a device it is that one |
//! | `schema` | `schema` (a key), `name`, `version`, `fields` (`name`, `type`, `kind`, `unit`, `nullable`) | makes a schema known to the adapter |
//! | `record` | `device`, `schema` (the key), `rows` (lists: time, then a value per field) | records events |
//! | `flush` | `timeout_ms` | cuts what is open, waits until all is settled; the answer is `pending` if that takes longer |
//! | `close` | | closes the client and ends the adapter |
//!
//! Every command is answered, in order, by `{"answer": "ok"}`, `{"answer": "pending"}` or `{"answer": "error", "message": …}`.
//! In values, floats are the hexadecimal digits of their bits and byte strings are hexadecimal. Events come whenever they
//! happen: `{"event": …, "device": … or null}`, namely `connected`, `attached` (`epoch_number`), `acked` (`start`, `end`, `level`),
//! `rejected` (`start`, `end`, `code`), `refused` (`code`), `renewed`, `not_renewed`, `disconnected` (`reason`); others are
//! passed over.
//!
//! The Python half runs where `ICECORE_PYTHON` names an interpreter with `clients/python/requirements.txt` installed, as
//! `.ci/run` makes one, and says that it was skipped elsewhere.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

mod bench;
mod client;
mod data;
mod faults;
mod pressure;
mod refusals;
mod renewal;
mod restarts;
mod stored;
mod takeover;

#[path = "../../../device/tests/fake/mod.rs"]
#[allow(dead_code, reason = "the SDK's own tests use more of it")]
mod fake;
#[path = "../scenarios/harness.rs"]
#[allow(dead_code, reason = "the scenarios use more of it")]
mod harness;

use client::Sdk;

/// Each case as one test per client.
macro_rules! conformance {
    ($($file:ident: $($case:ident),+;)+) => {
        mod rust {
            $($(#[test] fn $case() { super::$file::$case(super::Sdk::Rust); })+)+
        }
        mod python {
            $($(#[test] fn $case() {
                match super::client::python() {
                    Some(_) => super::$file::$case(super::Sdk::Python),
                    None => eprintln!("skipped: ICECORE_PYTHON names no Python with aioquic; .ci/run makes one"),
                }
            })+)+
        }
    };
}

conformance! {
    data:
        every_type_comes_back_to_the_bit,
        the_largest_batches_are_taken,
        a_forgotten_schema_is_announced_again,
        a_gateway_keeps_its_devices_apart;
    restarts:
        a_killed_server_is_found_again_and_nothing_is_lost,
        a_restarted_device_begins_an_epoch,
        the_same_rows_again_are_stored_once;
    refusals:
        an_identity_that_is_not_enrolled_hears_that,
        a_device_that_is_not_granted_harms_no_other,
        a_server_of_another_authority_is_left_alone,
        a_conflicting_batch_is_given_up_and_the_next_goes_on,
        a_schema_conflict_is_given_up_and_the_next_goes_on,
        who_is_revoked_is_turned_out_and_kept_out;
    takeover:
        the_newer_session_wins_and_the_older_comes_back_when_it_may,
        taking_over_again_and_again_is_called_a_conflict;
    renewal:
        an_old_certificate_is_renewed_and_the_new_one_shown_next,
        who_gets_no_new_certificate_goes_on_and_does_not_ask_at_every_connection,
        a_certificate_of_another_key_is_not_taken,
        a_real_server_renews_what_it_issued;
    pressure:
        who_is_beyond_a_limit_loses_nothing,
        of_a_gateways_devices_only_the_greedy_one_waits,
        a_backlog_that_is_not_read_holds_nothing_up;
    faults:
        batches_without_an_ack_are_sent_again_as_they_were,
        a_refused_batch_is_given_up_and_the_next_goes_on,
        a_deferred_batch_comes_again_when_it_may,
        a_standstill_is_kept,
        a_slow_pace_spreads_batches_out,
        who_is_told_to_go_comes_back_when_it_may,
        half_a_frame_ends_a_connection_and_nothing_else,
        aliases_are_never_used_again,
        who_is_refused_asks_again_when_it_may_whatever_the_code;
}
