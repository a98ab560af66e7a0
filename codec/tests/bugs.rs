//! Grades the layers of tests: each mistake that can be switched on must be found by one of them. The
//! table says by which, and how long that took:
//!
//!     cargo test --release -p codec --features bugs --test bugs -- --nocapture
#![allow(clippy::duplicate_mod, reason = "each file of tests brings what they share")]
#![allow(clippy::print_stdout, reason = "the table")]

#[path = "allocations.rs"]
mod allocations;
#[path = "enumeration.rs"]
mod enumeration;
#[path = "packets.rs"]
mod packets;
#[path = "round_trip.rs"]
mod round_trip;
#[path = "rules.rs"]
mod rules;
#[path = "tables.rs"]
mod tables;
#[path = "../../fuzz/src/packets.rs"]
#[allow(unreachable_pub, reason = "in its own crate it is reached")]
mod targets;

use std::{fs, panic, path::Path, time::Instant};

use codec::bugs::{self, Bug};

/// A fuzz target's name and its function.
type Target = (&'static str, fn(&[u8]));

/// A layer's name and its tests.
type Layer = (&'static str, &'static [fn()]);

const LAYERS: [Layer; 6] = [
    ("examples", &EXAMPLES),
    ("rules", &RULES),
    ("enumeration", &ENUMERATION),
    ("round trip", &ROUND_TRIP),
    ("costs", &COSTS),
    ("corpora", &[corpora]),
];

const EXAMPLES: [fn(); 7] = [
    packets::connect_with_little,
    packets::connect_with_everything,
    packets::publish_in_each_version,
    packets::publish_with_properties,
    packets::control_characters_and_the_byte_order_mark_are_kept,
    packets::acknowledgements_in_their_short_forms,
    packets::subscribe_and_suback,
];

const RULES: [fn(); 5] = [
    rules::a_broken_rule_is_named,
    rules::a_broken_rule_of_connect_is_named,
    rules::every_wrong_flag_of_the_fixed_header_is_refused,
    tables::every_reason_code_in_every_packet,
    tables::every_property_in_every_packet,
];

const ENUMERATION: [fn(); 5] = [
    enumeration::a_remaining_length_is_read_as_it_is_written,
    enumeration::a_value_is_written_in_the_fewest_bytes,
    enumeration::a_packet_says_how_long_it_is,
    enumeration::a_string_is_utf8_without_null,
    enumeration::topics_are_valid_by_sections_4_7_and_4_8,
];

const ROUND_TRIP: [fn(); 4] = [
    round_trip::decoding_inverts_encoding,
    round_trip::every_strict_prefix_is_incomplete,
    round_trip::any_split_gives_the_same_packets,
    round_trip::encoding_inverts_decoding,
];

const COSTS: [fn(); 5] = [
    allocations::a_publish_makes_one_allocation_of_its_size,
    allocations::acknowledgements_and_pings_make_none,
    allocations::a_declared_length_costs_nothing,
    allocations::a_list_grows_with_its_entries,
    allocations::user_properties_cost_in_proportion_to_their_number,
];

/// Every input that the fuzzers keep, through its target.
fn corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let targets: [Target; 3] =
        [("decode", targets::decode), ("roundtrip", targets::roundtrip), ("split", targets::split)];
    for (name, target) in targets {
        let files = fs::read_dir(corpora.join(name)).expect("a corpus");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        assert!(files.len() > 300, "a corpus");
        for file in files {
            target(&fs::read(file).expect("a file"));
        }
    }
}

/// Whether one of the tests fails.
fn finds(tests: &[fn()]) -> bool {
    tests.iter().any(|test| panic::catch_unwind(test).is_err())
}

#[test]
fn every_mistake_is_found() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let calm: Vec<bool> = LAYERS.iter().map(|(_, tests)| !finds(tests)).collect();
    let mut table = String::new();
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        bugs::seed(Some(bug));
        let mut line = format!("| {bug:?} |");
        let mut found = false;
        for (_, tests) in LAYERS {
            let began = Instant::now();
            let finds = finds(tests);
            found |= finds;
            line += &match finds {
                true => format!(" {:.3} s |", began.elapsed().as_secs_f64()),
                false => " - |".into(),
            };
        }
        table += &format!("{line}\n");
        if !found {
            missed.push(bug);
        }
    }
    bugs::seed(None);
    panic::set_hook(hook);
    let names = LAYERS.map(|(name, _)| name);
    println!("| mistake | {} |\n|---|{}\n{table}", names.join(" | "), "--:|".repeat(names.len()));
    assert!(calm.iter().all(|calm| *calm), "without a mistake none is found: {calm:?}");
    assert_eq!(missed, [], "what no layer finds");
}
