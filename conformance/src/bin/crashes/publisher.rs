//! A publisher that behaves as the standard says when its session is resumed.

use std::{collections::VecDeque, sync::atomic::Ordering::SeqCst};

use codec::{AckKind, Packet, QoS, ReasonCode};
use conformance::sim::Rng;

use crate::{
    ledger::{Fate, Sent},
    link::{Identity, Link, parts},
    message::Name,
    world::{Client, Common, Part, World},
};

/// Messages that one publisher begins on one connection.
const MESSAGES_MAX: u32 = 2000;

/// An exchange that has not ended.
struct Flight {
    id: u16,
    number: usize,
    /// PUBREC came.
    is_released: bool,
    /// PUBREL was sent on an earlier connection, too.
    is_again: bool,
}

pub(crate) struct Publisher {
    common: Common,
    index: usize,
    qos: QoS,
    window: usize,
    /// Uses the identifier again that was free a moment ago, instead of the one that was not used
    /// for longest.
    reuses: bool,
    next_id: u16,
    /// In the order of the first PUBLISH of each.
    flights: VecDeque<Flight>,
    /// By number.
    pub(crate) sent: Vec<Sent>,
    left: u32,
    rng: Rng,
}

impl Publisher {
    pub(crate) fn new(identity: Identity, index: usize, qos: QoS, window: usize, rng: Rng) -> Self {
        Self {
            common: Common::new(identity),
            index,
            qos,
            window,
            reuses: index % 2 == 1,
            next_id: 1,
            flights: VecDeque::new(),
            sent: Vec::new(),
            left: 0,
            rng,
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    fn free_id(&mut self) -> u16 {
        if self.reuses {
            self.next_id = 1;
        }
        loop {
            let id = self.next_id;
            self.next_id = if id == u16::MAX { 1 } else { id + 1 };
            if self.flights.iter().all(|flight| flight.id != id) {
                return id;
            }
        }
    }

    fn publish(&mut self, id: u16, number: usize, dup: bool, link: &mut Link) {
        let sent = &mut self.sent[number];
        sent.times = sent.times.saturating_add(1);
        let message = Name { publisher: self.index, number }.message();
        link.publish(message, self.qos, id, dup, false);
    }

    fn end(&mut self, at: usize, fate: Fate, world: &World) {
        if let Some(flight) = self.flights.remove(at) {
            self.sent[flight.number].fate = fate;
            if fate != Fate::Acknowledged {
                world.gone.fetch_add(1, SeqCst);
            }
        }
    }
}

impl Client for Publisher {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }

    fn begin(&mut self, link: &mut Link, is_resumed: bool, world: &World) {
        self.left = MESSAGES_MAX;
        if !is_resumed {
            while !self.flights.is_empty() {
                self.end(0, Fate::Abandoned, world);
            }
        }
        let mut flights = std::mem::take(&mut self.flights);
        for flight in &mut flights {
            if flight.is_released {
                flight.is_again = true;
                link.acknowledge(AckKind::PubRel, flight.id);
            } else {
                self.publish(flight.id, flight.number, true, link);
            }
        }
        self.flights = flights;
    }

    fn turn(&mut self, link: &mut Link, world: &World) {
        if world.part != Part::Load || !world.has_room() {
            return;
        }
        // Not always as many as there may be.
        let window = 1 + self.rng.below(self.window);
        while self.left > 0 && self.flights.len() < window {
            let (id, number) = (self.free_id(), self.sent.len());
            self.left -= 1;
            self.sent.push(Sent::default());
            self.flights.push_back(Flight { id, number, is_released: false, is_again: false });
            world.begun[self.index].store(number as u64 + 1, SeqCst);
            self.publish(id, number, false, link);
        }
    }

    fn packet(&mut self, packet: &Packet, link: &mut Link, world: &World) -> bool {
        let (Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack)) = packet else {
            return false;
        };
        let (id, reason) = parts(ack);
        let Some(at) = self.flights.iter().position(|flight| flight.id == id) else {
            return false;
        };
        let flight = &mut self.flights[at];
        match (packet, self.qos) {
            (Packet::PubAck(_), QoS::AtLeastOnce) => {
                let fate = if reason.is_error() { Fate::Refused } else { Fate::Acknowledged };
                self.end(at, fate, world);
            }
            (Packet::PubRec(_), QoS::ExactlyOnce) if !flight.is_released => {
                if reason.is_error() {
                    self.end(at, Fate::Refused, world);
                } else {
                    flight.is_released = true;
                    link.acknowledge(AckKind::PubRel, id);
                }
            }
            (Packet::PubComp(_), QoS::ExactlyOnce) if flight.is_released => {
                // The broker may have ended the exchange before it was killed, and told nobody.
                let may_be_unknown = flight.is_again;
                if reason.is_error()
                    && !(may_be_unknown && reason == ReasonCode::PacketIdentifierNotFound)
                {
                    return false;
                }
                self.end(at, Fate::Acknowledged, world);
            }
            _ => return false,
        }
        true
    }

    fn is_settled(&self, _world: &World) -> bool {
        self.flights.is_empty()
    }
}
