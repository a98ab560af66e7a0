//! The load: groups of publishers and subscribers on one thread, with everything checked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::ledger::{Faults, Ledger};
use crate::link::Link;
use crate::{Result, packet};

/// Without any progress for so long, what has not come counts as lost.
const STALL: Duration = Duration::from_secs(10);
/// Publishes of one publisher that are not acknowledged. With 100 of QoS 2 mosquitto closed the
/// connection; 20 is its `max_inflight_messages` as installed.
const IN_FLIGHT_MAX: usize = 20;
/// Bytes that a publisher prepares for one write.
const BATCH_BYTES: usize = 32 * 1024;

/// Who talks to whom: in each group every publisher to every subscriber.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) groups: usize,
    /// In each group.
    pub(crate) publishers: usize,
    /// In each group.
    pub(crate) subscribers: usize,
}

impl Shape {
    /// Deliveries when every publisher sends one message.
    pub(crate) fn deliveries_per_round(&self) -> u64 {
        (self.groups * self.publishers * self.subscribers) as u64
    }
}

/// How far one outgoing packet identifier is; its number is its place in the list, plus 1.
#[derive(Clone, Copy, PartialEq)]
enum Flight {
    Free,
    Published,
    Released,
}

struct Publisher {
    link: Link,
    group: usize,
    /// Its number within the group.
    number: usize,
    template: Vec<u8>,
    flights: [Flight; IN_FLIGHT_MAX],
    in_flight: usize,
    /// Where the search for a free identifier begins, so that they are used in turn.
    next_flight: usize,
}

struct Subscriber {
    link: Link,
    group: usize,
    ledger: Ledger,
    /// QoS 2 identifiers between PUBREC and PUBREL.
    held: u64,
}

struct Group {
    /// Messages sent, by publisher.
    sent: Vec<u64>,
    total: u64,
    /// Its subscribers in the list of all.
    subscribers: std::ops::Range<usize>,
    /// The most that any subscriber has outstanding, as of the last time it was looked up.
    outstanding: u64,
}

/// Connected publishers and subscribers.
pub(crate) struct Load {
    qos: u8,
    window: u64,
    poll: Poll,
    groups: Vec<Group>,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    broken: u64,
}

impl Load {
    /// Connects all of `shape`, subscribers first, each confirmed by the broker.
    pub(crate) fn connect(broker: SocketAddr, shape: &Shape, qos: u8, window: u64) -> Result<Load> {
        let poll = Poll::new()?;
        let (mut groups, mut subscribers, mut publishers) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..shape.groups {
            let first = subscribers.len();
            for number in 0..shape.subscribers {
                let id = format!("s-{group}-{number}");
                // One topic is named in full; only several need a wildcard.
                let topic = if shape.publishers == 1 { "0" } else { "+" };
                let link = Link::open(broker, &id, Some((&format!("bench/{group}/{topic}"), qos)))?;
                let ledger = Ledger::new(shape.publishers);
                subscribers.push(Subscriber { link, group, ledger, held: 0 });
            }
            for number in 0..shape.publishers {
                let link = Link::open(broker, &format!("p-{group}-{number}"), None)?;
                let template = packet::publish_template(&format!("bench/{group}/{number}"), qos);
                let flights = [Flight::Free; IN_FLIGHT_MAX];
                let (in_flight, next_flight) = (0, 0);
                publishers.push(Publisher {
                    link,
                    group,
                    number,
                    template,
                    flights,
                    in_flight,
                    next_flight,
                });
            }
            let sent = vec![0; shape.publishers];
            groups.push(Group {
                sent,
                total: 0,
                subscribers: first..subscribers.len(),
                outstanding: 0,
            });
        }
        let mut load = Load { qos, window, poll, groups, subscribers, publishers, broken: 0 };
        load.register()?;
        Ok(load)
    }

    /// Subscribers have the first tokens, publishers those after.
    fn register(&mut self) -> Result<()> {
        let subscribers = self.subscribers.iter_mut().map(|subscriber| &mut subscriber.link);
        let publishers = self.publishers.iter_mut().map(|publisher| &mut publisher.link);
        for (token, link) in subscribers.chain(publishers).enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut link.stream, Token(token), interest)?;
        }
        Ok(())
    }

    /// Has every publisher send `count` messages and returns how long it took until all had come
    /// and every acknowledgement was made. Ends early, with faults, when nothing happens any more.
    pub(crate) fn run(&mut self, count: u64) -> Duration {
        let goal = self.groups[0].sent[0] + count;
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        let began = Instant::now();
        let mut last_progress = (began, self.progress());
        loop {
            self.publish(goal);
            if self.is_done(goal) || self.broken > 0 {
                return began.elapsed();
            }
            if let Err(error) = self.poll.poll(&mut events, Some(Duration::from_millis(500)))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                self.broken += 1;
            }
            for event in &events {
                self.serve(event.token().0, &mut buffer);
            }
            let (since, progress) = last_progress;
            let progress_now = self.progress();
            if progress_now != progress {
                last_progress = (Instant::now(), progress_now);
            } else if since.elapsed() > STALL {
                self.broken += 1;
            }
        }
    }

    /// What has gone wrong so far.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults { broken: self.broken, ..Faults::default() };
        for subscriber in &self.subscribers {
            faults.add(subscriber.ledger.faults(&self.groups[subscriber.group].sent));
        }
        faults
    }

    /// A number that changes whenever anything was delivered or acknowledged.
    fn progress(&self) -> (u64, u64) {
        let received = self.subscribers.iter().map(|subscriber| subscriber.ledger.received).sum();
        let open: u64 = self.publishers.iter().map(|publisher| publisher.in_flight as u64).sum();
        let held: u64 = self.subscribers.iter().map(|subscriber| subscriber.held).sum();
        (received, open + held)
    }

    fn is_done(&self, goal: u64) -> bool {
        self.groups.iter().all(|group| group.sent.iter().all(|&sent| sent == goal))
            && self.publishers.iter().all(|publisher| publisher.in_flight == 0)
            && self.subscribers.iter().all(|subscriber| {
                subscriber.held == 0
                    && subscriber.link.out.is_empty()
                    && subscriber.ledger.is_complete(&self.groups[subscriber.group].sent)
            })
    }

    /// Sends what the windows allow: a broker that bounds its queues is not made to drop.
    fn publish(&mut self, goal: u64) {
        for group in &mut self.groups {
            let waiting = &self.subscribers[group.subscribers.clone()];
            let outstanding = waiting.iter().map(|waits| waits.ledger.outstanding(group.total));
            group.outstanding = outstanding.max().unwrap_or(0);
        }
        for publisher in &mut self.publishers {
            let group = &mut self.groups[publisher.group];
            // Equal shares, so that the first publishers do not take the whole window.
            let left = self.window.saturating_sub(group.outstanding);
            let mut share = left.div_ceil(group.sent.len() as u64);
            if !publisher.link.out.is_empty() {
                continue;
            }
            while share > 0
                && group.outstanding < self.window
                && group.sent[publisher.number] < goal
                && publisher.link.out.len() < BATCH_BYTES
                && publisher.publish(self.qos, group.sent[publisher.number])
            {
                group.sent[publisher.number] += 1;
                group.total += 1;
                group.outstanding += 1;
                share -= 1;
            }
            publisher.link.flush();
        }
    }

    fn serve(&mut self, token: usize, buffer: &mut [u8]) {
        let first_publisher = self.subscribers.len();
        let (is_well, is_closed) = if token < first_publisher {
            let subscriber = &mut self.subscribers[token];
            (subscriber.serve(self.qos, buffer), subscriber.link.is_closed)
        } else {
            let publisher = &mut self.publishers[token - first_publisher];
            (publisher.serve(buffer), publisher.link.is_closed)
        };
        if !is_well || is_closed {
            self.broken += 1;
        }
    }
}

impl Publisher {
    /// Prepares one message; whether its window had room.
    fn publish(&mut self, qos: u8, sequence: u64) -> bool {
        let mut id = None;
        if qos > 0 {
            if self.in_flight == IN_FLIGHT_MAX {
                return false;
            }
            while self.flights[self.next_flight] != Flight::Free {
                self.next_flight = (self.next_flight + 1) % IN_FLIGHT_MAX;
            }
            self.flights[self.next_flight] = Flight::Published;
            self.in_flight += 1;
            id = Some(self.next_flight as u16 + 1);
            self.next_flight = (self.next_flight + 1) % IN_FLIGHT_MAX;
        }
        packet::publish(&mut self.link.out, &self.template, id, self.number as u32, sequence);
        true
    }

    /// Reads acknowledgements and answers them; whether each was due.
    fn serve(&mut self, buffer: &mut [u8]) -> bool {
        let mut is_well = true;
        let (flights, in_flight) = (&mut self.flights, &mut self.in_flight);
        let qos = self.template[0] >> 1 & 3;
        self.link.read(buffer, |first, body, out| {
            let id = packet::identifier(body).unwrap_or(0);
            let flight = flights.get_mut(usize::from(id).wrapping_sub(1));
            match (first, flight, qos) {
                (packet::PUBREC, Some(flight @ Flight::Published), 2) => {
                    *flight = Flight::Released;
                    packet::acknowledge(out, packet::PUBREL, id);
                }
                (packet::PUBACK, Some(flight @ Flight::Published), 1)
                | (packet::PUBCOMP, Some(flight @ Flight::Released), 2) => {
                    *flight = Flight::Free;
                    *in_flight -= 1;
                }
                _ => is_well = false,
            }
        });
        self.link.flush();
        is_well
    }
}

impl Subscriber {
    /// Reads and acknowledges deliveries; whether each packet was one to expect.
    fn serve(&mut self, qos: u8, buffer: &mut [u8]) -> bool {
        let mut is_well = true;
        let (ledger, held) = (&mut self.ledger, &mut self.held);
        self.link.read(buffer, |first, body, out| match first & 0xF0 {
            packet::PUBLISH => match packet::delivery(first, body) {
                Some(delivery) if delivery.qos == qos => {
                    ledger.enter(delivery.publisher as usize, delivery.sequence);
                    match qos {
                        1 => packet::acknowledge(out, packet::PUBACK, delivery.id),
                        2 => {
                            *held += 1;
                            packet::acknowledge(out, packet::PUBREC, delivery.id);
                        }
                        _ => {}
                    }
                }
                _ => is_well = false,
            },
            _ if first == packet::PUBREL && *held > 0 => {
                *held -= 1;
                packet::acknowledge(out, packet::PUBCOMP, packet::identifier(body).unwrap_or(0));
            }
            _ => is_well = false,
        });
        self.link.flush();
        is_well
    }
}
