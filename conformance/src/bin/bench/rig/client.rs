//! Publishers and subscribers: what each sends, and what it may receive.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::link::Link;
use super::packet::{self, Delivery, Label, Template};
use super::share::ShareLedger;

/// How far one outgoing packet identifier is; its number is its place in the list, plus 1.
#[derive(Clone, Copy, PartialEq)]
enum Flight {
    Free,
    Published,
    Released,
}

pub(crate) struct Publisher {
    pub(crate) link: Link,
    pub(crate) group: usize,
    /// Its streams in the list of all, and which comes next.
    pub(crate) streams: Range<usize>,
    pub(crate) next_stream: usize,
    /// Messages that it has yet to send.
    pub(crate) left: u64,
    /// It stands in the list of those that may send, or of those that wait for room.
    pub(crate) is_ready: bool,
    flights: Vec<Flight>,
    pub(crate) in_flight: usize,
    /// Where the search for a free identifier begins, so that they are used in turn.
    next_flight: usize,
    pub(crate) times: Option<Times>,
}

/// How long acknowledgements took.
pub(crate) struct Times {
    /// When the packet of each identifier was prepared.
    began: Vec<Instant>,
    pub(crate) took: Vec<Duration>,
}

impl Publisher {
    pub(crate) fn new(
        link: Link,
        group: usize,
        streams: Range<usize>,
        in_flight_max: usize,
    ) -> Publisher {
        Publisher {
            link,
            group,
            next_stream: streams.start,
            streams,
            left: 0,
            is_ready: false,
            flights: vec![Flight::Free; in_flight_max],
            in_flight: 0,
            next_flight: 0,
            times: None,
        }
    }

    /// From now on the time of every acknowledgement is taken.
    pub(crate) fn time_acknowledgements(&mut self) {
        let began = vec![Instant::now(); self.flights.len()];
        self.times = Some(Times { began, took: Vec::new() });
    }

    /// Whether nothing more may be sent before an acknowledgement comes.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight == self.flights.len()
    }

    /// Prepares one message.
    pub(crate) fn publish(&mut self, template: &Template, qos: u8, label: Label, padding: &[u8]) {
        let id = (qos > 0).then(|| self.take_identifier());
        template.publish(&mut self.link.out, id, label, padding);
        self.left -= 1;
        self.next_stream += 1;
        if self.next_stream == self.streams.end {
            self.next_stream = self.streams.start;
        }
    }

    /// One of them is free.
    fn take_identifier(&mut self) -> u16 {
        let in_flight_max = self.flights.len();
        while self.flights[self.next_flight] != Flight::Free {
            self.next_flight = (self.next_flight + 1) % in_flight_max;
        }
        if let Some(times) = &mut self.times {
            times.began[self.next_flight] = Instant::now();
        }
        self.flights[self.next_flight] = Flight::Published;
        self.in_flight += 1;
        let id = self.next_flight as u16 + 1;
        self.next_flight = (self.next_flight + 1) % in_flight_max;
        id
    }

    /// Reads acknowledgements and answers them; whether each was due.
    pub(crate) fn serve(&mut self, qos: u8, buffer: &mut [u8]) -> bool {
        let mut is_well = true;
        let (flights, in_flight) = (&mut self.flights, &mut self.in_flight);
        let times = &mut self.times;
        self.link.read(buffer, |first, body, out| {
            let id = packet::accepted(body).unwrap_or(0);
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
        is_well && !self.link.is_closed
    }
}

/// Where a subscriber's deliveries are entered.
pub(crate) enum Account {
    Own(Ledger),
    /// As this member of the group's shared subscription.
    Member(usize),
}

pub(crate) struct Subscriber {
    pub(crate) id: String,
    pub(crate) link: Link,
    pub(crate) group: usize,
    pub(crate) account: Account,
    /// QoS 2 identifiers between PUBREC and PUBREL.
    pub(crate) held: u64,
    /// A SUBACK has to come.
    pub(crate) awaits_suback: bool,
}

/// What every delivery is compared with.
pub(crate) struct Expected<'a> {
    pub(crate) qos: u8,
    /// Whether deliveries have the RETAIN flag.
    pub(crate) is_retained: bool,
    pub(crate) padding: &'a [u8],
    /// By stream.
    pub(crate) templates: &'a [Template],
}

impl Subscriber {
    /// Messages that have come to it or can no longer come.
    pub(crate) fn passed(&self) -> u64 {
        match &self.account {
            Account::Own(ledger) => ledger.passed(),
            Account::Member(_) => 0,
        }
    }

    /// Reads and acknowledges deliveries; whether each packet was one to expect. `late` is told the
    /// time that each message carries.
    pub(crate) fn serve(
        &mut self,
        expected: &Expected<'_>,
        share: Option<&mut ShareLedger>,
        buffer: &mut [u8],
        mut late: impl FnMut(u64),
    ) -> bool {
        let mut is_well = true;
        let Subscriber { link, account, held, awaits_suback, .. } = self;
        let (version, qos, mut share) = (link.version, expected.qos, share);
        link.read(buffer, |first, body, out| match first & 0xF0 {
            packet::PUBLISH => {
                let delivery = packet::delivery(version, first, body, expected.padding);
                let Some(Delivery { id, label, .. }) = delivery
                    .filter(|delivery| expected.fits(first, delivery.topic, delivery.label.stream))
                else {
                    is_well = false;
                    return;
                };
                late(label.time);
                match (&mut *account, &mut share) {
                    (Account::Own(ledger), _) => ledger.enter(label.stream, label.sequence),
                    (Account::Member(member), Some(share)) => {
                        share.enter(*member, label.stream, label.sequence);
                    }
                    (Account::Member(_), None) => is_well = false,
                }
                match qos {
                    1 => packet::acknowledge(out, packet::PUBACK, id),
                    2 => {
                        *held += 1;
                        packet::acknowledge(out, packet::PUBREC, id);
                    }
                    _ => {}
                }
            }
            _ if first == packet::PUBREL && *held > 0 => {
                *held -= 1;
                packet::acknowledge(out, packet::PUBCOMP, packet::identifier(body).unwrap_or(0));
            }
            packet::SUBACK if *awaits_suback => {
                *awaits_suback = false;
                is_well &= packet::suback(version, body) == Some(&[qos][..]);
            }
            _ => is_well = false,
        });
        link.flush();
        is_well && !link.is_closed
    }
}

impl Expected<'_> {
    /// Whether a PUBLISH has the flags and the topic that it was published with.
    fn fits(&self, first: u8, topic: &[u8], stream: u32) -> bool {
        let flags = self.qos << 1 | u8::from(self.is_retained);
        // What was sent before may be marked as such after a connection that broke.
        let without_dup = if self.qos > 0 { first & 0x07 } else { first & 0x0F };
        without_dup == flags
            && self.templates.get(stream as usize).is_some_and(|sent| sent.topic() == topic)
    }
}
