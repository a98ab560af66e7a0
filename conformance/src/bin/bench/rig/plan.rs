//! Who talks to whom.

use super::link::Session;
use super::packet::Version;

/// A whole load: groups that do not talk to each other.
pub(crate) struct Plan {
    pub(crate) qos: u8,
    /// Of every message; at least [`LABEL_BYTES`](super::packet::LABEL_BYTES).
    pub(crate) payload_bytes: usize,
    /// Publishes of one publisher that are not acknowledged.
    pub(crate) in_flight_max: usize,
    /// Messages that may be on their way to one subscriber.
    pub(crate) window: u64,
    /// Messages that a publisher prepares for one write, at most.
    pub(crate) batch: usize,
    /// Publishers set the RETAIN flag, and whoever subscribes later gets it.
    pub(crate) is_retained: bool,
    /// Of subscribers.
    pub(crate) session: Session,
    pub(crate) groups: Vec<GroupPlan>,
}

/// Publishers, and subscribers to what they publish.
pub(crate) struct GroupPlan {
    pub(crate) routing: Routing,
    pub(crate) publishers: Vec<PublisherPlan>,
    pub(crate) subscribers: Vec<SubscriberPlan>,
}

/// Who gets a message of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routing {
    /// Every subscriber.
    Each,
    /// Those subscribers that say so.
    Some,
    /// One of the subscribers.
    Share,
}

pub(crate) struct PublisherPlan {
    pub(crate) version: Version,
    /// It publishes to these in turn.
    pub(crate) topics: Vec<String>,
}

pub(crate) struct SubscriberPlan {
    pub(crate) version: Version,
    pub(crate) filters: Vec<String>,
    /// With [`Routing::Some`], the topics that it gets: numbers that count the topics of the group's
    /// publishers.
    pub(crate) expects: Vec<u32>,
}

impl Plan {
    /// Groups in which every publisher has one topic and talks to every subscriber, 3.1.1 and QoS 0.
    pub(crate) fn uniform(groups: usize, publishers: usize, subscribers: usize) -> Plan {
        let v3 = |count| vec![Version::V3; count];
        let groups =
            (0..groups).map(|group| GroupPlan::each(group, &v3(publishers), &v3(subscribers)));
        Plan::of(groups.collect())
    }

    /// These groups with QoS 0 and what is usual otherwise.
    pub(crate) fn of(groups: Vec<GroupPlan>) -> Plan {
        Plan {
            qos: 0,
            payload_bytes: 64,
            // With 100 of QoS 2 mosquitto closed the connection; 20 is its `max_inflight_messages` as
            // installed.
            in_flight_max: 20,
            window: 500,
            batch: usize::MAX,
            is_retained: false,
            session: Session::Clean,
            groups,
        }
    }

    /// Deliveries when every publisher sends one message to each of its topics.
    pub(crate) fn deliveries_per_round(&self) -> u64 {
        self.groups.iter().map(GroupPlan::deliveries_per_round).sum()
    }

    /// The most topics that a publisher has.
    pub(crate) fn topics_max(&self) -> u64 {
        let publishers = self.groups.iter().flat_map(|group| &group.publishers);
        publishers.map(|publisher| publisher.topics.len()).max().unwrap_or(1) as u64
    }
}

impl GroupPlan {
    /// Publishers and subscribers of these versions, all to all.
    pub(crate) fn each(
        number: usize,
        publishers: &[Version],
        subscribers: &[Version],
    ) -> GroupPlan {
        // One topic is named in full; only several need a wildcard.
        let level = if publishers.len() == 1 { "0" } else { "+" };
        let filter = format!("bench/{number}/{level}");
        let publishers = publishers.iter().enumerate().map(|(publisher, &version)| {
            let topics = vec![format!("bench/{number}/{publisher}")];
            PublisherPlan { version, topics }
        });
        let subscribers = subscribers.iter().map(|&version| {
            let filters = vec![filter.clone()];
            SubscriberPlan { version, filters, expects: Vec::new() }
        });
        GroupPlan {
            routing: Routing::Each,
            publishers: publishers.collect(),
            subscribers: subscribers.collect(),
        }
    }

    /// How many topics its publishers have.
    pub(crate) fn topics(&self) -> usize {
        self.publishers.iter().map(|publisher| publisher.topics.len()).sum()
    }

    /// How many subscribers get a message, by topic.
    pub(crate) fn receivers(&self) -> Vec<u32> {
        let topics = self.topics();
        match self.routing {
            Routing::Each => vec![self.subscribers.len() as u32; topics],
            Routing::Share => vec![1; topics],
            Routing::Some => {
                let mut receivers = vec![0; topics];
                for &topic in self.subscribers.iter().flat_map(|subscriber| &subscriber.expects) {
                    receivers[topic as usize] += 1;
                }
                receivers
            }
        }
    }

    fn deliveries_per_round(&self) -> u64 {
        self.receivers().into_iter().map(u64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_counted_by_routing() {
        assert_eq!(Plan::uniform(3, 2, 5).deliveries_per_round(), 30);
        let mut plan = Plan::uniform(1, 2, 3);
        plan.groups[0].routing = Routing::Share;
        assert_eq!(plan.deliveries_per_round(), 2);
        plan.groups[0].routing = Routing::Some;
        plan.groups[0].subscribers[2].expects = vec![0, 1];
        plan.groups[0].subscribers[1].expects = vec![1];
        assert_eq!(plan.groups[0].receivers(), [1, 2]);
        assert_eq!(plan.deliveries_per_round(), 3);
    }

    #[test]
    fn a_wildcard_is_there_for_several_topics_only() {
        assert_eq!(Plan::uniform(1, 1, 1).groups[0].subscribers[0].filters, ["bench/0/0"]);
        assert_eq!(Plan::uniform(1, 2, 1).groups[0].subscribers[0].filters, ["bench/0/+"]);
    }
}
