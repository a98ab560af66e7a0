//! The differential without another broker: scripts are legal and ours takes them, with one shard
//! as with three, and a mistake in a trace is found.

use std::collections::BTreeMap;

use codec::QoS;
use conformance::{
    differential::{
        compare::{compare, side_by_side},
        draw::draw,
        event::{Delivery, Event, Seen, Trace},
        model::{Model, legal_part},
        play::play,
        rules::{MOSQUITTO, SHARDS},
        script::{Act, Script},
    },
    play::Names,
    sim::Sim,
};

const OPERATIONS: usize = 60;

/// What a broker of so many shards, in memory, does with a script.
fn played(script: &Script, shards: u16) -> Trace {
    let mut sim = Sim::new(shards, script.seed, &[]).expect("no settings");
    play(&mut sim, &Names::under("root"), script, 1).expect("it plays")
}

#[test]
fn a_seed_names_its_script() {
    assert_eq!(draw(7, OPERATIONS), draw(7, OPERATIONS));
    assert_ne!(draw(7, OPERATIONS).ops, draw(8, OPERATIONS).ops);
}

#[test]
fn every_script_is_legal_and_all_that_can_be_done_is_done() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 1..=300 {
        let script = draw(seed, OPERATIONS);
        let history = Model::history(&script).expect("it is legal");
        assert_eq!(history.len(), script.ops.len() + 1);
        for op in &script.ops {
            let name = match &op.act {
                Act::Connect(hello) => format!("CONNECT {:?} {}", hello.version, hello.clean),
                Act::Publish { alias, vanish, .. } => {
                    let alias = format!("{alias:?}");
                    let alias = alias.split('(').next().unwrap_or_default();
                    format!("PUBLISH {alias} {vanish}")
                }
                Act::Subscribe { identifier, .. } => format!("SUBSCRIBE {}", identifier.is_some()),
                Act::Goodbye(reason, expiry_s) => format!("{reason:?} {}", expiry_s.is_some()),
                Act::Unsubscribe(_) => "UNSUBSCRIBE".to_owned(),
                other => other.to_string(),
            };
            *kinds.entry(name).or_default() += 1;
        }
    }
    assert!(kinds.values().all(|count| *count > 10), "{kinds:#?}");
    assert_eq!(kinds.len(), 23, "{kinds:#?}");
}

#[test]
fn what_is_left_of_a_script_is_legal() {
    for seed in 1..=50 {
        let mut script = draw(seed, OPERATIONS);
        script.ops.retain({
            let mut number = 0;
            move |_| {
                number += 1;
                number % 3 > 0
            }
        });
        let legal = legal_part(&script);
        Model::history(&legal).expect("it is legal");
        assert!(legal.ops.len() > script.ops.len() / 4);
    }
}

#[test]
fn our_broker_takes_every_script_and_its_shards_do_not_show() {
    let mut packets = 0;
    for seed in 1..=80 {
        let script = draw(seed, OPERATIONS);
        let (one, three) = (played(&script, 1), played(&script, 3));
        for Seen { event, .. } in one.steps.iter().flatten() {
            match event {
                Event::ConnAck { code, .. } => assert_eq!(*code, 0, "seed {seed}"),
                Event::Disconnect(code) => assert_eq!(*code, 0x8E, "seed {seed}"),
                Event::Broken(why) => panic!("seed {seed}: {why}"),
                Event::Answer { codes, .. } => {
                    assert!(codes.iter().all(|code| *code < 0x80), "seed {seed}: {event}");
                }
                Event::Publish(_) | Event::Closed => {}
            }
        }
        let comparison = compare(&script, &one, &three, &SHARDS).expect("both are whole");
        let shown = || side_by_side(&script, &one, &three);
        assert_eq!(comparison.unexplained, None, "seed {seed}: {}", shown());
        packets += comparison.packets;
    }
    assert!(packets > 5_000, "{packets}");
}

/// A mistake in what the peer sent, and the only rules that may take it for something known.
struct Mistake {
    name: &'static str,
    make: fn(&mut Vec<Seen>, usize),
    applies: fn(&[Seen], usize) -> bool,
    excused_by: &'static [&'static str],
}

const MISTAKES: [Mistake; 9] = [
    Mistake {
        name: "lost",
        make: |step, at| drop(step.remove(at)),
        applies: |step, at| delivery(&step[at]).is_some(),
        excused_by: &["no Will at take-over when the session goes on"],
    },
    Mistake {
        name: "twice",
        make: |step, at| step.insert(at, step[at].clone()),
        applies: |step, at| delivery(&step[at]).is_some(),
        excused_by: &[
            "a copy for each of several matching subscriptions",
            "no Will at take-over when the session goes on",
            "retained messages for shared subscriptions",
            "what follows from copies that were explained",
        ],
    },
    Mistake {
        name: "other QoS",
        make: |step, at| {
            change(&mut step[at], |copy| {
                copy.qos =
                    if copy.qos == QoS::AtMostOnce { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            });
        },
        applies: |step, at| delivery(&step[at]).is_some(),
        excused_by: &[],
    },
    Mistake {
        name: "other RETAIN",
        make: |step, at| change(&mut step[at], |copy| copy.retain = !copy.retain),
        applies: |step, at| delivery(&step[at]).is_some(),
        excused_by: &["subscribing again does not change Retain As Published"],
    },
    Mistake {
        name: "other DUP",
        make: |step, at| change(&mut step[at], |copy| copy.dup = !copy.dup),
        applies: |step, at| delivery(&step[at]).is_some(),
        excused_by: &[],
    },
    Mistake {
        name: "other identifiers",
        make: |step, at| change(&mut step[at], |copy| copy.identifiers.push(77)),
        applies: |step, at| delivery(&step[at]).is_some(),
        excused_by: &[],
    },
    Mistake {
        name: "without properties",
        make: |step, at| change(&mut step[at], |copy| copy.properties.clear()),
        applies: |step, at| delivery(&step[at]).is_some_and(|copy| !copy.properties.is_empty()),
        excused_by: &[],
    },
    Mistake {
        name: "out of order",
        make: |step, at| {
            let later = next_in_lane(step, at).expect("it applies");
            step.swap(at, later);
        },
        applies: |step, at| delivery(&step[at]).is_some() && next_in_lane(step, at).is_some(),
        excused_by: &[],
    },
    Mistake {
        name: "no answer",
        make: |step, at| drop(step.remove(at)),
        applies: |step, at| delivery(&step[at]).is_none(),
        excused_by: &["taken over without DISCONNECT 0x8E"],
    },
];

fn delivery(seen: &Seen) -> Option<&Delivery> {
    match &seen.event {
        Event::Publish(delivery) => Some(delivery),
        _ => None,
    }
}

fn change(seen: &mut Seen, change: fn(&mut Delivery)) {
    if let Event::Publish(delivery) = &mut seen.event {
        change(delivery);
    }
}

/// The next message of the same topic and QoS to the same client.
fn next_in_lane(step: &[Seen], at: usize) -> Option<usize> {
    let is_next = |seen: &Seen| {
        seen.link == step[at].link
            && seen.event.lane() == step[at].event.lane()
            && seen.event.label() != step[at].event.label()
    };
    (at + 1..step.len()).find(|later| is_next(&step[*later]))
}

#[test]
fn every_mistake_is_found_wherever_it_is() {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=200 {
        let script = draw(seed, OPERATIONS);
        let right = played(&script, 1);
        // What lies behind the end of the comparison is not looked at.
        let compared = compare(&script, &right, &right, &MOSQUITTO).expect("it is whole").steps;
        for step in 0..compared {
            for at in 0..right.steps[step].len() {
                for mistake in &MISTAKES {
                    // Two messages of one topic seldom come together; the rest is in every script.
                    if seed > 20 && mistake.name != "out of order" {
                        continue;
                    }
                    if !(mistake.applies)(&right.steps[step], at) {
                        continue;
                    }
                    let mut wrong = right.clone();
                    (mistake.make)(&mut wrong.steps[step], at);
                    let comparison = compare(&script, &right, &wrong, &MOSQUITTO).expect("whole");
                    let is_excused = || {
                        let mut names = comparison.explained.keys();
                        names.any(|name| mistake.excused_by.contains(name))
                    };
                    assert!(
                        comparison.unexplained.is_some() || is_excused(),
                        "seed {seed}, step {step}: {} {} is explained by {:?}",
                        right.steps[step][at].event,
                        mistake.name,
                        comparison.explained
                    );
                    let is_found = comparison.unexplained.is_some();
                    *found.entry(mistake.name).or_default() += usize::from(is_found);
                }
            }
        }
    }
    assert_eq!(found.len(), MISTAKES.len(), "{found:?}");
    assert!(found.values().all(|count| *count >= 10), "{found:?}");
}
