//! Many filters, few of which match a topic: who gets what is known beforehand, so that a message
//! too many is seen as well as one too few.

use crate::rig::packet::Version;
use crate::rig::plan::{GroupPlan, Plan, PublisherPlan, Routing, SubscriberPlan};

/// Subscribers. Those of one kind of filter hold no other, so that none gets a message twice.
const CLIENTS: usize = 100;
const KINDS: usize = 4;
const PUBLISHERS: usize = 10;
const TOPICS_PER_PUBLISHER: usize = 400;

/// `filters` filters of three levels: a quarter each without a wildcard, and with `+` as the first,
/// the second and the third level. A topic matches one of each kind with a `+`, and some topics
/// one without.
pub(crate) fn plan(filters: u32) -> Plan {
    let per_kind = filters as usize / KINDS;
    // As many values on a level that filters of one kind can all be different, and topics too.
    let is_enough = |values: &usize| {
        values.pow(2) >= per_kind && values.pow(3) >= PUBLISHERS * TOPICS_PER_PUBLISHER
    };
    let values = (1..).find(is_enough).unwrap_or(1);
    let topics: Vec<[usize; 3]> =
        (0..PUBLISHERS * TOPICS_PER_PUBLISHER).map(|number| topic(number, values)).collect();
    let mut subscribers: Vec<SubscriberPlan> = (0..CLIENTS)
        .map(|_| SubscriberPlan { version: Version::V3, filters: vec![], expects: vec![] })
        .collect();
    let of_kind = CLIENTS / KINDS;
    let client = |kind: usize, number: usize| kind * of_kind + number % of_kind;
    for number in 0..per_kind {
        let (x, y) = (number / values, number % values);
        for kind in 0..KINDS - 1 {
            let filter = match kind {
                0 => format!("bench/+/{x}/{y}"),
                1 => format!("bench/{x}/+/{y}"),
                _ => format!("bench/{x}/{y}/+"),
            };
            subscribers[client(kind, number)].filters.push(filter);
        }
        // Every other one names a topic that is published to, as long as there are any.
        let topic = match topics.get(number / 2) {
            Some(&topic) if number % 2 == 0 => topic,
            _ => [x, y, values + number],
        };
        let filter = format!("bench/{}/{}/{}", topic[0], topic[1], topic[2]);
        subscribers[client(KINDS - 1, number)].filters.push(filter);
    }
    for (number, &[a, b, c]) in topics.iter().enumerate() {
        for (kind, (x, y)) in [(b, c), (a, c), (a, b)].into_iter().enumerate() {
            let filter = x * values + y;
            if filter < per_kind {
                subscribers[client(kind, filter)].expects.push(number as u32);
            }
        }
        if number * 2 < per_kind {
            subscribers[client(KINDS - 1, number * 2)].expects.push(number as u32);
        }
    }
    let publishers = topics.chunks(TOPICS_PER_PUBLISHER).map(|topics| PublisherPlan {
        version: Version::V3,
        topics: topics.iter().map(|[a, b, c]| format!("bench/{a}/{b}/{c}")).collect(),
    });
    let publishers = publishers.collect();
    Plan::of(vec![GroupPlan { routing: Routing::Some, publishers, subscribers }])
}

/// Spreads topics over all values of all levels; no two are the same, as the step is a prime.
fn topic(number: usize, values: usize) -> [usize; 3] {
    let at = number * 15_485_863 % values.pow(3);
    [at / values.pow(2), at / values % values, at % values]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        let mut topic = topic.split('/');
        let all = filter
            .split('/')
            .all(|level| topic.next().is_some_and(|of_topic| level == "+" || level == of_topic));
        all && topic.next().is_none()
    }

    #[test]
    fn what_is_expected_is_what_matches() {
        let plan = plan(1_000);
        let group = &plan.groups[0];
        let topics: Vec<&String> =
            group.publishers.iter().flat_map(|publisher| &publisher.topics).collect();
        for subscriber in &group.subscribers {
            let expects: HashSet<u32> = subscriber.expects.iter().copied().collect();
            assert_eq!(expects.len(), subscriber.expects.len(), "none matches twice");
            for (number, topic) in topics.iter().enumerate() {
                let matching =
                    subscriber.filters.iter().filter(|filter| matches(filter, topic)).count();
                assert_eq!(matching, usize::from(expects.contains(&(number as u32))), "{topic}");
            }
        }
    }

    #[test]
    fn filters_and_topics_are_many_and_different() {
        let plan = plan(100_000);
        let group = &plan.groups[0];
        let filters: Vec<&String> =
            group.subscribers.iter().flat_map(|subscriber| &subscriber.filters).collect();
        assert_eq!(filters.len(), 100_000);
        assert_eq!(filters.iter().collect::<HashSet<_>>().len(), 100_000);
        let topics = group.publishers.iter().flat_map(|publisher| &publisher.topics);
        assert_eq!(topics.collect::<HashSet<_>>().len(), PUBLISHERS * TOPICS_PER_PUBLISHER);
        let receivers = group.receivers();
        assert!(receivers.iter().all(|&count| (2..=4).contains(&count)));
    }
}
