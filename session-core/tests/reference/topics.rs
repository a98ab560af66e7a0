//! Every filter against every name of up to seven characters over six letters.
//!
//! The reference works the other way round from a matcher: it writes down which filters match a
//! name. [`the_reference_agrees_with_the_matcher`] compares it with the definition read aloud.

use std::collections::{BTreeMap, BTreeSet};

use codec::{Message, Packet, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions};
use session_core::{Command, Input, ShardConfig, Ticket};

use crate::{
    broker::Broker,
    packets::{connect, id, identifiers, matches, message, publish, subscribe, unsubscribe},
};

const LENGTH: usize = 7;

/// Every string of 1 to `length` letters.
fn strings(letters: &str, length: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..length {
        last = last
            .iter()
            .flat_map(|start| letters.chars().map(move |letter| format!("{start}{letter}")))
            .collect();
        all.extend_from_slice(&last);
    }
    all
}

fn names(length: usize) -> Vec<String> {
    strings("ab/$", length)
}

/// The filters of up to `length` characters that match a name.
fn filters_matching(name: &str, length: usize) -> BTreeSet<String> {
    let mut open: Vec<String> = vec![String::new()];
    // [MQTT-4.7.1-1]
    let mut done = vec!["#".to_owned()];
    for (depth, level) in name.split('/').enumerate() {
        let slash = if depth == 0 { "" } else { "/" };
        // [MQTT-4.7.1-2]
        let next = |start: &String| ["+", level].map(|next| format!("{start}{slash}{next}"));
        open = open.iter().flat_map(next).collect();
        done.extend(open.iter().map(|start| format!("{start}/#")));
    }
    done.extend(open);
    // [MQTT-4.7.2-1]
    let hidden = |filter: &String| name.starts_with('$') && filter.starts_with(['#', '+']);
    done.into_iter().filter(|filter| filter.len() <= length && !hidden(filter)).collect()
}

/// Whether a string is a filter, letter by letter.
fn is_filter(text: &str) -> bool {
    let letters: Vec<char> = text.chars().collect();
    let slash = |letter: Option<&char>| letter.is_none_or(|letter| *letter == '/');
    (0..letters.len()).all(|at| {
        let before = at.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(at + 1);
        match letters[at] {
            '#' => slash(before) && after.is_none(),
            '+' => slash(before) && slash(after),
            _ => true,
        }
    })
}

/// One subscriber, and every filter that matches some name: filter `n` has Subscription Identifier
/// `n + 1`.
struct World {
    broker: Broker,
    names: Vec<String>,
    filters: Vec<String>,
}

const SUBSCRIBER: usize = 0;
const PUBLISHER: usize = 1;

impl World {
    fn new(length: usize) -> Self {
        let mut broker = Broker::new(1, 2, |config: &mut ShardConfig| {
            config.limits.subscriptions_per_session_max = u32::MAX;
        });
        broker.checking = false;
        broker.connect(SUBSCRIBER, connect(SUBSCRIBER, 0));
        broker.connect(PUBLISHER, connect(PUBLISHER, 0));
        let names = names(length);
        let filters: BTreeSet<String> =
            names.iter().flat_map(|name| filters_matching(name, length)).collect();
        Self { broker, names, filters: filters.into_iter().collect() }
    }

    fn subscribe(&mut self, number: usize) {
        let identifier = u32::try_from(number).expect("few") + 1;
        let packet = subscribe(&self.filters[number], SubscriptionOptions::default(), identifier);
        self.broker.send(SUBSCRIBER, packet);
    }

    fn unsubscribe(&mut self, number: usize) {
        let packet = unsubscribe(&self.filters[number]);
        self.broker.send(SUBSCRIBER, packet);
        let answer = self.broker.take(SUBSCRIBER);
        let [Packet::UnsubAck(answer)] = &answer[..] else { panic!("{answer:?}") };
        assert_eq!(answer.reasons, [ReasonCode::Success]);
    }

    /// Clients may not publish to topics that begin with `$`: there the broker speaks itself.
    fn publish(&mut self, name: &str, payload: &[u8], retain: bool) {
        let message: Message = message(name, payload, None);
        if name.starts_with('$') {
            let command = Command::Publish { message, qos: QoS::AtMostOnce, retain };
            let command = Box::new(command);
            self.broker.input(0, Input::Command { ticket: Ticket(0), command });
        } else {
            self.broker.publish(PUBLISHER, publish(message, QoS::AtMostOnce, retain, 0));
        }
    }

    /// Publishes to every name, and compares who gets it with the filters for which `is_there`.
    fn publish_everywhere(&mut self, is_there: impl Fn(&str) -> bool) -> usize {
        let mut matched = 0;
        for name in self.names.clone() {
            self.broker.take(SUBSCRIBER);
            self.publish(&name, b"x", false);
            let got: Vec<u32> =
                self.broker.take_publishes(SUBSCRIBER).iter().flat_map(identifiers).collect();
            let got: Vec<&str> =
                got.iter().map(|number| &*self.filters[*number as usize - 1]).collect();
            let expected = filters_matching(&name, LENGTH);
            let expected: Vec<&str> =
                expected.iter().map(|filter| &**filter).filter(|f| is_there(f)).collect();
            // [MQTT-3.3.4-4]: one packet, with the identifiers of all that match, each once.
            assert_eq!(got, expected, "filters matching {name}");
            matched += got.len();
        }
        matched
    }
}

/// `[MQTT-4.7.0-1]` `[MQTT-4.7.1-1]` `[MQTT-4.7.1-2]` `[MQTT-4.7.2-1]`
/// `[MQTT-3.10.4-1]` `[MQTT-3.10.4-2]`
#[test]
fn every_name_goes_to_the_filters_that_match_it() {
    let mut world = World::new(LENGTH);
    let roots = world.broker.nodes();
    assert_eq!(roots, 2, "of subscriptions and of retained messages");
    let filters = world.filters.len();
    assert_eq!((world.names.len(), filters), (21_844, 28_250));
    (0..filters).for_each(|number| world.subscribe(number));
    world.broker.shards[0].check().expect("invariants");
    assert_eq!(world.publish_everywhere(|_| true), 276_622, "pairs that match");

    // Every second goes, in an order of its own, and takes none of the others along.
    let gone: BTreeSet<usize> = (0..filters).filter(|number| number % 2 == 0).collect();
    let order = |number: &usize| number * 7919 % filters;
    let mut numbers: Vec<usize> = (0..filters).collect();
    numbers.sort_by_key(order);
    numbers.iter().filter(|n| gone.contains(n)).for_each(|number| world.unsubscribe(*number));
    let left: BTreeSet<String> = world.filters.iter().skip(1).step_by(2).cloned().collect();
    world.publish_everywhere(|filter| left.contains(filter));

    // When all are gone, so is everything that led to them.
    numbers.iter().filter(|n| !gone.contains(n)).for_each(|number| world.unsubscribe(*number));
    world.broker.shards[0].check().expect("invariants");
    assert_eq!(world.broker.shards[0].view().subscriptions(), 0);
    assert_eq!(world.broker.nodes(), roots, "nothing is left of what was");
}

/// `[MQTT-3.3.1-9]` `[MQTT-4.7.2-1]`
#[test]
fn every_filter_gets_the_retained_messages_that_it_matches() {
    assert_eq!(retain_everywhere(6), 52_519, "pairs that match");
}

/// The same one letter further, which takes some seven seconds in a debug build:
/// `cargo test -p session-core --test reference -- --ignored`.
#[test]
#[ignore = "takes long"]
fn every_longer_filter_gets_the_retained_messages_that_it_matches() {
    assert_eq!(retain_everywhere(LENGTH), 276_622, "pairs that match");
}

/// Retains a message under every name, and subscribes to every filter; returns what came.
fn retain_everywhere(length: usize) -> usize {
    let mut world = World::new(length);
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in world.names.clone() {
        world.publish(&name, b"x", true);
        for filter in filters_matching(&name, length) {
            expected.entry(filter).or_default().insert(name.clone());
        }
    }
    world.broker.shards[0].check().expect("invariants");
    let mut matched = 0;
    for number in 0..world.filters.len() {
        world.broker.take(SUBSCRIBER);
        world.subscribe(number);
        let got = world.broker.take_publishes(SUBSCRIBER);
        let topics: BTreeSet<String> =
            got.iter().map(|publish| publish.message.topic_str().to_owned()).collect();
        let filter = &world.filters[number];
        assert_eq!(topics, expected[filter], "names matched by {filter}");
        assert_eq!(topics.len(), got.len(), "each comes once");
        matched += got.len();
    }
    for name in world.names.clone() {
        world.publish(&name, b"", true);
    }
    world.broker.shards[0].check().expect("invariants");
    assert_eq!(world.broker.shards[0].view().retained(), 0);
    matched
}

/// `[MQTT-4.7.1-1]` `[MQTT-4.7.1-2]` Of all strings, the valid filters are granted and no others.
#[test]
fn every_string_is_granted_if_it_is_a_filter() {
    let mut world = World::new(1);
    let mut granted = 0;
    for strings in strings("ab/+#$", LENGTH).chunks(512) {
        let options = SubscriptionOptions::default();
        let filters = strings
            .iter()
            .map(|filter| SubscribeFilter { filter: filter.as_str().into(), options })
            .collect();
        let packet = Subscribe { packet_id: id(1), properties: [].into_iter().collect(), filters };
        // A session of its own for each lot: the list of one session is not what this is about.
        world.broker.connect(SUBSCRIBER, connect(SUBSCRIBER, 0));
        world.broker.take(SUBSCRIBER);
        world.broker.send(SUBSCRIBER, Packet::Subscribe(Box::new(packet)));
        let answer = world.broker.take(SUBSCRIBER);
        let [Packet::SubAck(answer)] = &answer[..] else { panic!("{answer:?}") };
        for (string, reason) in strings.iter().zip(&answer.reasons) {
            let expected = match is_filter(string) {
                true => ReasonCode::Success,
                false => ReasonCode::TopicFilterInvalid,
            };
            assert_eq!(*reason, expected, "{string}");
            granted += usize::from(!reason.is_error());
        }
    }
    assert_eq!(granted, 28_250);
}

/// Both references say the same of every pair up to length 4.
#[test]
fn the_reference_agrees_with_the_matcher() {
    let filters: Vec<String> =
        strings("ab/+#$", 4).into_iter().filter(|filter| is_filter(filter)).collect();
    for name in names(4) {
        let written = filters_matching(&name, 4);
        let matched: BTreeSet<String> =
            filters.iter().filter(|filter| matches(filter, &name)).cloned().collect();
        assert_eq!(written, matched, "filters matching {name}");
    }
}
