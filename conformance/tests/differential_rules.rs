//! Each rule of the differential explains what it is about, and not a packet more.

use codec::{Properties, Property, ProtocolVersion, QoS, SubscribeFilter, SubscriptionOptions};
use conformance::{
    differential::{
        compare::{Comparison, compare},
        event::{Delivery, Event, Seen, Trace},
        play::play,
        rules::MOSQUITTO,
        script::{Act, Alias, Hello, Op, Publication, Script},
    },
    play::Names,
    sim::Sim,
};

fn script(ops: &[Op]) -> Script {
    Script { seed: 1, clients: 2, ops: ops.to_vec() }
}

fn connect(client: usize, will: Option<Publication>) -> Op {
    let properties: Properties = [Property::SessionExpiryInterval(3600)].into_iter().collect();
    let hello = Hello { version: ProtocolVersion::V5, clean: false, properties, will };
    Op { client, act: Act::Connect(hello) }
}

fn subscribe(client: usize, filters: &[(&str, QoS)]) -> Op {
    let filters = filters.iter().map(|(filter, qos)| SubscribeFilter {
        filter: (*filter).into(),
        options: SubscriptionOptions { qos: *qos, ..Default::default() },
    });
    Op { client, act: Act::Subscribe { filters: filters.collect(), identifier: None } }
}

fn message(label: u32, qos: QoS, retain: bool) -> Publication {
    let (topic, properties) = ("a".to_owned(), Properties::new());
    Publication { label, topic, qos, retain, empty: false, properties }
}

fn publish(client: usize, message: Publication) -> Op {
    Op { client, act: Act::Publish { message, alias: Alias::None, vanish: false } }
}

fn played(script: &Script) -> Trace {
    let mut sim = Sim::new(1, 1, &[]).expect("no settings");
    play(&mut sim, &Names::under("root"), script, 1).expect("it plays")
}

/// What is said if the peer did in the last step what `change` makes of what ours did.
fn compared(script: &Script, change: impl FnOnce(&mut Vec<Seen>)) -> Comparison {
    let ours = played(script);
    let mut theirs = ours.clone();
    change(theirs.steps.last_mut().expect("a step"));
    compare(script, &ours, &theirs, &MOSQUITTO).expect("they are whole")
}

fn delivery(seen: &mut Seen) -> Option<&mut Delivery> {
    match &mut seen.event {
        Event::Publish(delivery) => Some(delivery),
        _ => None,
    }
}

/// The place of the only message.
fn place(step: &mut [Seen]) -> usize {
    let places: Vec<_> = (0..step.len()).filter(|at| delivery(&mut step[*at]).is_some()).collect();
    assert_eq!(places.len(), 1);
    places[0]
}

fn explained(comparison: &Comparison) -> Vec<(&str, usize)> {
    assert_eq!(comparison.unexplained, None);
    comparison.explained.iter().map(|(name, count)| (*name, *count)).collect()
}

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;

#[test]
fn take_over_without_a_word() {
    let forgets = |step: &mut Vec<Seen>| step.retain(|s| !matches!(s.event, Event::Disconnect(_)));
    let taken_over = compared(&script(&[connect(0, None), connect(0, None)]), forgets);
    assert_eq!(explained(&taken_over), [("taken over without DISCONNECT 0x8E", 1)]);
    let stays = compared(&script(&[connect(0, None), connect(0, None)]), |step| {
        step.retain(|seen| seen.event != Event::Closed);
    });
    assert!(stays.unexplained.is_some());
}

#[test]
fn a_will_that_is_lost_at_take_over() {
    let will = Some(message(1, Q1, false));
    let ops = [connect(1, None), subscribe(1, &[("a", Q1)]), connect(0, will), connect(0, None)];
    let loses = |step: &mut Vec<Seen>| {
        let at = place(step);
        step.remove(at);
    };
    let lost = compared(&script(&ops), |step| {
        loses(step);
        step.retain(|seen| !matches!(seen.event, Event::Disconnect(_)));
    });
    assert_eq!(
        explained(&lost),
        [
            ("no Will at take-over when the session goes on", 1),
            ("taken over without DISCONNECT 0x8E", 1)
        ]
    );
    let [.., last] = &ops;
    let vanishes = Op { act: Act::Vanish, ..last.clone() };
    let ops = [&ops[..3], &[vanishes]].concat();
    assert!(compared(&script(&ops), loses).unexplained.is_some(), "it was not taken over");
}

#[test]
fn a_copy_for_each_subscription() {
    let filters = [("a", Q0), ("#", Q1), ("$share/g/a", Q0)];
    let ops = [connect(0, None), connect(1, None)];
    let ops = [&ops[..], &[subscribe(0, &filters), publish(1, message(1, Q1, false))]].concat();
    let script = script(&ops);
    // Ours sends one for the first two, and one for the shared subscription.
    let more = |copies: usize| {
        compared(&script, |step| {
            let is_lower = |seen: &mut Seen| delivery(seen).is_some_and(|copy| copy.qos == Q0);
            let at = (0..step.len()).find(|at| is_lower(&mut step[*at])).expect("a copy of QoS 0");
            (0..copies).for_each(|_| step.insert(at, step[at].clone()));
        })
    };
    assert_eq!(explained(&more(1)), [("a copy for each of several matching subscriptions", 1)]);
    assert!(more(2).unexplained.is_some(), "nobody subscribed a third time");
    let higher = compared(&script, |step| {
        let is_lower = |seen: &mut Seen| delivery(seen).is_some_and(|copy| copy.qos == Q0);
        step.retain(|seen| !is_lower(&mut seen.clone()));
        let at = place(step);
        (0..2).for_each(|_| step.insert(at, step[at].clone()));
        let copies = step.iter_mut().filter_map(delivery);
        copies.for_each(|copy| copy.qos = Q0);
    });
    assert!(higher.unexplained.is_some(), "no copy has the highest QoS");
}

#[test]
fn retained_messages_for_shared_subscriptions() {
    let ops = [connect(0, None), publish(0, message(1, Q1, true)), connect(1, None)];
    let asks = |filters: &[(&str, QoS)]| script(&[&ops[..], &[subscribe(1, filters)]].concat());
    let sends = |step: &mut Vec<Seen>, qos, retain| {
        let link = step[0].link;
        step.push(Seen {
            link,
            event: Event::Publish(Delivery {
                label: Some(1),
                topic: "a".to_owned(),
                published: Q1,
                qos,
                retain,
                dup: false,
                again: false,
                identifiers: Vec::new(),
                properties: Vec::new(),
                payload: None,
            }),
        });
    };
    let shared = asks(&[("$share/g/+", Q0)]);
    let right = compared(&shared, |step| sends(step, Q0, true));
    assert_eq!(explained(&right), [("retained messages for shared subscriptions", 1)]);
    assert!(compared(&shared, |step| sends(step, Q1, true)).unexplained.is_some(), "QoS");
    assert!(compared(&shared, |step| sends(step, Q0, false)).unexplained.is_some(), "RETAIN");
    let twice = compared(&shared, |step| {
        sends(step, Q0, true);
        sends(step, Q0, true);
    });
    assert!(twice.unexplained.is_some(), "one subscription, one copy");
    let other = asks(&[("$share/g/b", Q0)]);
    assert!(compared(&other, |step| sends(step, Q0, true)).unexplained.is_some(), "no match");
}
