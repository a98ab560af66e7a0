//! What the player knows of one client: its connection, what has come and not been looked at, and
//! the promises that a broker keeps to every client.

use std::collections::{BTreeSet, HashMap, VecDeque};

use codec::{Framer, Packet, ProtocolVersion, QoS, Role};

use super::facts::connack_code;
use crate::world::Connection;

/// A client of a scenario.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    /// The version it speaks, or spoke last.
    pub(super) version: ProtocolVersion,
    pub(super) link: Option<Link>,
}

/// The connection of a client, until the scenario has seen it end.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    /// Bytes that came and belong to no packet that was looked at.
    pub(super) inbox: Vec<u8>,
    /// The broker has closed; what is in the inbox is the last.
    pub(super) ended: bool,
    /// The client said CONNECT.
    pub(super) has_connected: bool,
    /// A CONNACK was seen.
    is_answered: bool,
    /// A CONNACK with success was seen.
    pub(super) is_accepted: bool,
    /// A packet was seen or sent after which the broker closes, so that no scenario needs to say so.
    pub(super) is_over: bool,
    /// PINGREQs that are not answered yet, oldest first.
    pub(super) pings: VecDeque<Ping>,
    keep_alive_s: u16,
    receive_maximum: usize,
    packet_bytes_max: u64,
    topic_alias_maximum: u16,
    in_flight: BTreeSet<u16>,
    aliases: HashMap<u16, Vec<u8>>,
}

/// Who sent a PINGREQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    /// The scenario, which sees the answer.
    Scenario,
    /// The player, to know that all is quiet; the scenario sees nothing of it.
    Fence,
}

/// The next thing that a client gets.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A packet of so many bytes, with its topic after the alias was looked up.
    Packet { packet: Packet, bytes: usize, topic: Vec<u8> },
    /// The end of the connection.
    Closed,
    /// Bytes that break a rule.
    Broken(String),
}

impl Link {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            inbox: Vec::new(),
            ended: false,
            has_connected: false,
            is_answered: false,
            is_accepted: false,
            is_over: false,
            pings: VecDeque::new(),
            keep_alive_s: 0,
            receive_maximum: 65_535,
            packet_bytes_max: u64::MAX,
            topic_alias_maximum: 0,
            in_flight: BTreeSet::new(),
            aliases: HashMap::new(),
        }
    }

    /// Takes note of what the client sends.
    pub(super) fn sends(&mut self, packet: &Packet) {
        match packet {
            Packet::Connect(connect) if !self.has_connected => {
                self.has_connected = true;
                self.keep_alive_s = connect.keep_alive_s;
                let properties = &connect.properties;
                // 0 is no limit but an error, which the broker has to tell.
                let receive_maximum = properties.receive_maximum().filter(|max| *max > 0);
                self.receive_maximum = receive_maximum.unwrap_or(65_535).into();
                let packet_bytes_max = properties.maximum_packet_size().filter(|max| *max > 0);
                self.packet_bytes_max = packet_bytes_max.map_or(u64::MAX, u64::from);
                self.topic_alias_maximum = properties.topic_alias_maximum().unwrap_or(0);
            }
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                self.in_flight.remove(&ack.packet_id.get());
            }
            Packet::PubRec(ack) if ack.reason.is_error() => {
                self.in_flight.remove(&ack.packet_id.get());
            }
            Packet::PingReq => self.pings.push_back(Ping::Scenario),
            Packet::Disconnect(_) => self.is_over = true,
            _ => {}
        }
    }

    /// Whether a PINGREQ of the player disturbs nothing: it would put off a Keep Alive.
    pub(super) fn can_be_fenced(&self) -> bool {
        self.is_accepted && !self.is_over && !self.ended && self.keep_alive_s == 0
    }

    /// Whether every PINGREQ has its answer in the inbox.
    pub(super) fn fences_are_answered(&self, version: ProtocolVersion) -> bool {
        let mut inbox = self.inbox.as_slice();
        let mut answers = 0;
        while let Ok(Some((packet, bytes))) = decode(inbox, version) {
            answers += usize::from(packet == Packet::PingResp);
            inbox = &inbox[bytes..];
        }
        answers >= self.pings.len()
    }

    /// Takes answers to the player's own PINGREQs.
    pub(super) fn skip_fences(&mut self, version: ProtocolVersion) {
        while self.pings.front() == Some(&Ping::Fence)
            && let Ok(Some((Packet::PingResp, bytes))) = decode(&self.inbox, version)
        {
            self.pings.pop_front();
            self.inbox.drain(..bytes);
        }
    }

    /// What comes next, if all of it is there. Nothing is taken.
    pub(super) fn peek(&self, version: ProtocolVersion) -> Option<Event> {
        match decode(&self.inbox, version) {
            Ok(Some((packet, bytes))) => {
                let topic = self.topic(&packet);
                Some(Event::Packet { packet, bytes, topic })
            }
            Ok(None) if !self.ended => None,
            Ok(None) if self.inbox.is_empty() => Some(Event::Closed),
            Ok(None) => Some(Event::Broken("the connection ended inside a packet".to_owned())),
            Err(rule) => Some(Event::Broken(rule)),
        }
    }

    /// The Topic Name of a PUBLISH; what an alias stands for if it is empty.
    fn topic(&self, packet: &Packet) -> Vec<u8> {
        let Packet::Publish(publish) = packet else { return Vec::new() };
        let topic = publish.message.topic();
        match publish.topic_alias {
            Some(alias) if topic.is_empty() => {
                self.aliases.get(&alias.get()).cloned().unwrap_or_default()
            }
            _ => topic.to_vec(),
        }
    }

    /// Takes a packet that [`Link::peek`] showed.
    ///
    /// # Errors
    /// The promise that the broker broke with it.
    pub(super) fn take(
        &mut self,
        packet: &Packet,
        bytes: usize,
        version: ProtocolVersion,
    ) -> Result<(), String> {
        self.inbox.drain(..bytes);
        if bytes as u64 > self.packet_bytes_max {
            let max = self.packet_bytes_max;
            return Err(format!("a packet of {bytes} bytes, above the client's maximum of {max}"));
        }
        match packet {
            Packet::ConnAck(_) if self.is_answered => Err("a second CONNACK".to_owned()),
            Packet::ConnAck(connack) => {
                self.is_answered = true;
                self.is_accepted = connack_code(connack.reason, version) == 0;
                self.is_over |= !self.is_accepted;
                Ok(())
            }
            Packet::Auth(_) if self.has_connected => Ok(()),
            _ if self.has_connected && !self.is_accepted => {
                Err("a packet before CONNACK".to_owned())
            }
            Packet::Publish(publish) => self.takes_publish(publish),
            Packet::PingResp => {
                self.pings.pop_front();
                Ok(())
            }
            Packet::Disconnect(_) => {
                self.is_over = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn takes_publish(&mut self, publish: &codec::Publish) -> Result<(), String> {
        if let Some(alias) = publish.topic_alias {
            if alias.get() > self.topic_alias_maximum {
                let max = self.topic_alias_maximum;
                return Err(format!("topic alias {alias}, above the client's maximum of {max}"));
            }
            let topic = publish.message.topic();
            if !topic.is_empty() {
                self.aliases.insert(alias.get(), topic.to_vec());
            } else if !self.aliases.contains_key(&alias.get()) {
                return Err(format!("topic alias {alias} was never explained"));
            }
        }
        if publish.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let id = publish.packet_id.map_or(0, |id| id.get());
        if !self.in_flight.insert(id) {
            return Err(format!("packet identifier {id} is still in use"));
        }
        if self.in_flight.len() > self.receive_maximum {
            let max = self.receive_maximum;
            return Err(format!("more unacknowledged messages than the Receive Maximum of {max}"));
        }
        Ok(())
    }

    /// Takes bytes that were expected as such. A CONNACK among them is still one.
    pub(super) fn take_raw(&mut self, bytes: usize, version: ProtocolVersion) {
        let taken: Vec<u8> = self.inbox.drain(..bytes).collect();
        if let Ok(Some((Packet::ConnAck(connack), _))) = decode(&taken, version) {
            self.is_answered = true;
            self.is_accepted = connack_code(connack.reason, version) == 0;
        }
    }
}

/// The first packet of `inbox` and its length; `None` if it is not complete.
fn decode(inbox: &[u8], version: ProtocolVersion) -> Result<Option<(Packet, usize)>, String> {
    let mut rest = inbox;
    let mut framer = Framer::new(Role::Client(version), u32::MAX, u32::MAX);
    match framer.decode(&mut rest) {
        Ok(Some(packet)) => Ok(Some((packet, inbox.len() - rest.len()))),
        Ok(None) => Ok(None),
        Err(error) => Err(format!("bytes that break {}: {error}", error.rule())),
    }
}
