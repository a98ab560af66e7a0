//! What became of each message: with its publisher, and with each receiver.

use codec::QoS;

use crate::{
    findings::Findings,
    message::{Name, TOPICS},
};

/// How a publish ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It did not end yet.
    #[default]
    Open,
    /// PUBACK or PUBCOMP came.
    Acknowledged,
    /// The broker did not want it, and said so.
    Refused,
    /// Its session was lost, so that nobody will hear of it.
    Abandoned,
}

/// What a publisher knows of one of its messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) fate: Fate,
    /// How many PUBLISH packets there were.
    pub(crate) times: u8,
}

/// What is demanded of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Everything, in order, at QoS 2 once.
    All,
    /// At QoS 2 nothing twice: a member of a share group.
    Share,
    /// Everything: the members of a share group together.
    Group,
}

/// What came of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    /// Without DUP.
    fresh: u8,
    again: u8,
}

/// What one subscriber has received.
pub(crate) struct Receiver {
    pub(crate) name: String,
    pub(crate) claim: Claim,
    /// By publisher and number.
    copies: Vec<Vec<Copies>>,
    /// By publisher and topic: all messages with a lesser number have come.
    next: Vec<[usize; TOPICS]>,
    /// Messages that came, each counted once.
    pub(crate) distinct: u64,
    /// Deliveries beyond the first; of a share group only those at QoS 2, which went to another member.
    pub(crate) repeated: u64,
}

/// One delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) name: Name,
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    /// At which it was published.
    pub(crate) published: QoS,
}

impl Receiver {
    pub(crate) fn new(name: &str, claim: Claim, publishers: usize) -> Self {
        Self {
            name: name.to_owned(),
            claim,
            copies: vec![Vec::new(); publishers],
            next: vec![[0; TOPICS]; publishers],
            distinct: 0,
            repeated: 0,
        }
    }

    /// Enters a delivery.
    pub(crate) fn enter(&mut self, delivery: Delivery, findings: &Findings) {
        let Name { publisher, number } = delivery.name;
        let of_publisher = &mut self.copies[publisher];
        if of_publisher.len() <= number {
            of_publisher.resize(number + 1, Copies::default());
        }
        let copies = &mut of_publisher[number];
        let is_first = copies.fresh == 0 && copies.again == 0;
        let count = if delivery.dup { &mut copies.again } else { &mut copies.fresh };
        *count = count.saturating_add(1);
        if is_first {
            self.distinct += 1;
        } else if self.claim != Claim::Group || delivery.qos == QoS::ExactlyOnce {
            self.repeated += 1;
        }
        if self.claim == Claim::Group {
            return;
        }
        let what = || format!("{} got {delivery:?}", self.name);
        if !is_first && delivery.qos == QoS::ExactlyOnce {
            findings.add("QoS 2 message twice", what);
        } else if !is_first && delivery.published == QoS::ExactlyOnce && !delivery.dup {
            // Routed once, it is sent again only as what it is.
            findings.add("QoS 2 message twice to a QoS 1 subscriber, without DUP", what);
        }
        if is_first && self.claim == Claim::All {
            let next = &mut self.next[publisher][delivery.name.topic()];
            if number < *next {
                let after = *next - 1;
                findings.add("out of order", || format!("{} after number {after}", what()));
            }
            *next = (*next).max(number + 1);
        }
    }

    fn copies(&self, publisher: usize, number: usize) -> Copies {
        self.copies[publisher].get(number).copied().unwrap_or_default()
    }
}

/// Judges what has come when nothing more is on its way.
pub(crate) fn judge<'a>(
    publishers: impl Iterator<Item = (usize, &'a [Sent])>,
    receivers: &[&Receiver],
    findings: &Findings,
) {
    for (publisher, messages) in publishers {
        for (number, sent) in messages.iter().enumerate() {
            if sent.fate == Fate::Open {
                findings.add("never acknowledged", || format!("publisher {publisher}: {number}"));
            }
            for receiver in receivers {
                judge_one(Name { publisher, number }, sent, receiver, findings);
            }
        }
    }
}

fn judge_one(name: Name, sent: &Sent, receiver: &Receiver, findings: &Findings) {
    let Copies { fresh, again } = receiver.copies(name.publisher, name.number);
    let who = &receiver.name;
    match sent.fate {
        Fate::Acknowledged if receiver.claim != Claim::Share && fresh == 0 && again == 0 => {
            findings.add("acknowledged message lost", || format!("{who} did not get {name:?}"));
        }
        Fate::Refused if fresh > 0 || again > 0 => {
            findings.add("refused message delivered", || format!("{who} got {name:?}"));
        }
        _ => {}
    }
    if receiver.claim != Claim::Group && fresh > sent.times {
        findings.add("more copies than were sent", || {
            format!("{who} got {name:?} {fresh} times, and it was sent {} times", sent.times)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE: QoS = QoS::ExactlyOnce;
    const LEAST: QoS = QoS::AtLeastOnce;

    fn delivery(number: usize, qos: QoS, published: QoS, dup: bool) -> Delivery {
        Delivery { name: Name { publisher: 0, number }, qos, dup, published }
    }

    /// The kinds of findings after these deliveries, with so many messages sent `times` times.
    fn kinds(claim: Claim, fate: Fate, times: u8, deliveries: &[Delivery]) -> Vec<&'static str> {
        let findings = Findings::default();
        let mut receiver = Receiver::new("s", claim, 1);
        for delivery in deliveries {
            receiver.enter(*delivery, &findings);
        }
        let sent = [Sent { fate, times }];
        judge([(0, &sent[..])].into_iter(), &[&receiver], &findings);
        findings.kinds()
    }

    #[test]
    fn a_message_that_came_is_not_missed() {
        for claim in [Claim::All, Claim::Share, Claim::Group] {
            let came = [delivery(0, ONCE, ONCE, false)];
            assert!(kinds(claim, Fate::Acknowledged, 1, &came).is_empty());
        }
        assert!(kinds(Claim::All, Fate::Refused, 1, &[]).is_empty());
        assert!(kinds(Claim::All, Fate::Abandoned, 1, &[]).is_empty());
        assert!(kinds(Claim::Share, Fate::Acknowledged, 1, &[]).is_empty());
    }

    #[test]
    fn what_is_missing_is_found() {
        for claim in [Claim::All, Claim::Group] {
            let found = kinds(claim, Fate::Acknowledged, 1, &[]);
            assert_eq!(found, ["acknowledged message lost"]);
        }
        assert_eq!(kinds(Claim::All, Fate::Open, 1, &[]), ["never acknowledged"]);
        let came = [delivery(0, ONCE, ONCE, false)];
        assert_eq!(kinds(Claim::All, Fate::Refused, 1, &came), ["refused message delivered"]);
    }

    #[test]
    fn copies_are_found_where_none_may_be() {
        let twice = |qos, published, dup| {
            let came = [delivery(0, qos, published, false), delivery(0, qos, published, dup)];
            kinds(Claim::All, Fate::Acknowledged, 1, &came)
        };
        assert_eq!(twice(ONCE, ONCE, true), ["QoS 2 message twice"]);
        assert_eq!(
            twice(LEAST, ONCE, false),
            [
                "QoS 2 message twice to a QoS 1 subscriber, without DUP",
                "more copies than were sent"
            ]
        );
        assert_eq!(twice(LEAST, LEAST, false), ["more copies than were sent"]);
        assert!(twice(LEAST, ONCE, true).is_empty());
        assert!(twice(LEAST, LEAST, true).is_empty());
        let came = [delivery(0, LEAST, LEAST, false); 2];
        assert!(kinds(Claim::All, Fate::Acknowledged, 2, &came).is_empty());
    }

    #[test]
    fn the_order_of_first_copies_is_kept_within_a_topic() {
        let topic_of = |number| Name { publisher: 0, number }.topic();
        let later = (1..).find(|&number| topic_of(number) == topic_of(0)).unwrap();
        let came = [delivery(later, LEAST, LEAST, false), delivery(0, LEAST, LEAST, false)];
        assert_eq!(kinds(Claim::All, Fate::Acknowledged, 1, &came), ["out of order"]);
        assert!(kinds(Claim::Share, Fate::Acknowledged, 1, &came).is_empty());
        let other = (1..).find(|&number| topic_of(number) != topic_of(0)).unwrap();
        let came = [delivery(other, LEAST, LEAST, false), delivery(0, LEAST, LEAST, false)];
        assert!(kinds(Claim::All, Fate::Acknowledged, 1, &came).is_empty());
    }
}
