//! The load: groups of publishers and subscribers on one thread, with everything checked.

use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::ledger::{Faults, Ledger};
use crate::link::{Link, Session};
use crate::packet::{self, Template};

/// Without any progress for so long, what has not come counts as lost.
const STALL: Duration = Duration::from_secs(10);
/// So long, a subscriber that leaves waits for the broker to have read everything.
const PATIENCE: Duration = Duration::from_secs(60);
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
    /// Of every message; at least 12.
    pub(crate) payload_bytes: usize,
    /// Publishes of one publisher that are not acknowledged.
    pub(crate) in_flight_max: usize,
    /// The sessions of subscribers outlive their connections.
    pub(crate) is_durable: bool,
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
    template: Template,
    flights: Vec<Flight>,
    in_flight: usize,
    /// Where the search for a free identifier begins, so that they are used in turn.
    next_flight: usize,
    times: Option<Times>,
}

/// How long acknowledgements took.
struct Times {
    /// When the packet of each identifier was prepared.
    began: Vec<Instant>,
    took: Vec<Duration>,
}

struct Subscriber {
    id: String,
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
    payload_bytes: usize,
    poll: Poll,
    groups: Vec<Group>,
    subscribers: Vec<Subscriber>,
    /// The token of the first publisher.
    first_publisher: usize,
    publishers: Vec<Publisher>,
    broken: u64,
}

/// Subscribers that have gone without an end of their sessions.
pub(crate) struct Absent(Vec<Subscriber>);

impl Load {
    /// Connects all of `shape`, subscribers first, each confirmed by the broker.
    pub(crate) fn connect(broker: SocketAddr, shape: &Shape, qos: u8, window: u64) -> Result<Load> {
        let poll = Poll::new()?;
        let (mut groups, mut subscribers, mut publishers) = (Vec::new(), Vec::new(), Vec::new());
        let session = if shape.is_durable { Session::Kept } else { Session::Clean };
        let Shape { payload_bytes, in_flight_max, .. } = *shape;
        for group in 0..shape.groups {
            let first = subscribers.len();
            for number in 0..shape.subscribers {
                let id = format!("s-{group}-{number}");
                // One topic is named in full; only several need a wildcard.
                let topic = if shape.publishers == 1 { "0" } else { "+" };
                let filter = format!("bench/{group}/{topic}");
                let link = Link::open(broker, &id, session, Some((&filter, qos)))?;
                let ledger = Ledger::new(shape.publishers);
                subscribers.push(Subscriber { id, link, group, ledger, held: 0 });
            }
            for number in 0..shape.publishers {
                let id = format!("p-{group}-{number}");
                let link = Link::open(broker, &id, Session::Clean, None)?;
                let topic = format!("bench/{group}/{number}");
                let template = Template::new(&topic, qos, payload_bytes);
                let flights = vec![Flight::Free; in_flight_max];
                let (in_flight, next_flight) = (0, 0);
                publishers.push(Publisher {
                    link,
                    group,
                    number,
                    template,
                    flights,
                    in_flight,
                    next_flight,
                    times: None,
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
        let mut load = Load {
            qos,
            window,
            payload_bytes,
            poll,
            groups,
            first_publisher: subscribers.len(),
            subscribers,
            publishers,
            broken: 0,
        };
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

    /// From now on the time of every acknowledgement is taken.
    pub(crate) fn time_acknowledgements(&mut self) {
        for publisher in &mut self.publishers {
            let began = vec![Instant::now(); publisher.flights.len()];
            publisher.times = Some(Times { began, took: Vec::new() });
        }
    }

    /// The times that were taken, of all publishers together.
    pub(crate) fn times(&self) -> impl Iterator<Item = Duration> {
        let times = self.publishers.iter().filter_map(|publisher| publisher.times.as_ref());
        times.flat_map(|times| &times.took).copied()
    }

    /// Has all subscribers leave, once the broker has read their acknowledgements: what is published
    /// from now on waits for them.
    pub(crate) fn leave(&mut self) -> Absent {
        self.groups.iter_mut().for_each(|group| group.subscribers = 0..0);
        let mut absent = Absent(self.subscribers.drain(..).collect());
        for subscriber in &mut absent.0 {
            // mosquitto is thousands of them behind, and would deliver those messages again.
            if !subscriber.link.ping(PATIENCE) {
                self.broken += 1;
            }
            subscriber.link.is_closed = true;
            // If the broker has closed it meanwhile, that is all the same.
            let _ = subscriber.link.stream.shutdown(Shutdown::Both);
        }
        absent
    }

    /// Has subscribers return, and publishers leave for good, as after a restart of the broker. What
    /// waits for the subscribers comes with the next [`Load::run`].
    pub(crate) fn resume(&mut self, broker: SocketAddr, absent: Absent) -> Result<()> {
        self.publishers.clear();
        for (token, mut subscriber) in absent.0.into_iter().enumerate() {
            subscriber.link = Link::open(broker, &subscriber.id, Session::Resumed, None)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut subscriber.link.stream, Token(token), interest)?;
            let range = &mut self.groups[subscriber.group].subscribers;
            if range.start == range.end {
                *range = token..token;
            }
            range.end = token + 1;
            self.subscribers.push(subscriber);
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
        let (is_well, is_closed) = if token < self.first_publisher {
            let Some(subscriber) = self.subscribers.get_mut(token) else { return };
            let is_well = subscriber.serve(self.qos, self.payload_bytes, buffer);
            (is_well, subscriber.link.is_closed)
        } else {
            let at = token - self.first_publisher;
            let Some(publisher) = self.publishers.get_mut(at) else { return };
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
            let in_flight_max = self.flights.len();
            if self.in_flight == in_flight_max {
                return false;
            }
            while self.flights[self.next_flight] != Flight::Free {
                self.next_flight = (self.next_flight + 1) % in_flight_max;
            }
            if let Some(times) = &mut self.times {
                times.began[self.next_flight] = Instant::now();
            }
            self.flights[self.next_flight] = Flight::Published;
            self.in_flight += 1;
            id = Some(self.next_flight as u16 + 1);
            self.next_flight = (self.next_flight + 1) % in_flight_max;
        }
        self.template.publish(&mut self.link.out, id, self.number as u32, sequence);
        true
    }

    /// Reads acknowledgements and answers them; whether each was due.
    fn serve(&mut self, buffer: &mut [u8]) -> bool {
        let mut is_well = true;
        let (flights, in_flight) = (&mut self.flights, &mut self.in_flight);
        let (qos, times) = (self.template.qos, &mut self.times);
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
                    if let Some(times) = times {
                        times.took.push(times.began[usize::from(id) - 1].elapsed());
                    }
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
    fn serve(&mut self, qos: u8, payload_bytes: usize, buffer: &mut [u8]) -> bool {
        let mut is_well = true;
        let (ledger, held) = (&mut self.ledger, &mut self.held);
        self.link.read(buffer, |first, body, out| match first & 0xF0 {
            packet::PUBLISH => match packet::delivery(first, body, payload_bytes) {
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
