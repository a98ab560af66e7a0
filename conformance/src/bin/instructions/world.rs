//! A broker and its clients. What the clients do is not counted.

use codec::{
    Ack, Connect, Framer, Message, Packet, PacketId, Properties, Property, ProtocolVersion,
    Publish, QoS, Role, Subscribe, SubscribeFilter, SubscriptionOptions, Will,
};
use session_core::ShardId;

use crate::{broker::Broker, counted::counted};

/// More than any packet of the scenarios.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// PUBLISH packets that arrive together.
const BATCH: u16 = 10;

/// What every message says.
pub(crate) const PAYLOAD: [u8; 64] = [b'x'; 64];

/// A broker and its clients.
pub(crate) struct World {
    broker: Broker,
    clients: Vec<Client>,
    /// Whether the broker's work is counted.
    counts: bool,
}

/// A client of 5.0 on one connection.
struct Client {
    framer: Framer,
    /// It receives, and answers nothing.
    is_mute: bool,
    got: Got,
}

/// What clients were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) connacks: u64,
    /// Of these, with Session Present.
    pub(crate) resumed: u64,
    /// Subscriptions that were granted.
    pub(crate) granted: u64,
    /// PUBLISH packets.
    pub(crate) messages: u64,
    /// PUBACK and PUBCOMP packets: publishes that are done with.
    pub(crate) done: u64,
}

impl World {
    pub(crate) fn new(shards: u16) -> Self {
        Self { broker: Broker::new(shards), clients: Vec::new(), counts: false }
    }

    /// From here on the broker's work is counted, and what clients get.
    pub(crate) fn count(&mut self) {
        self.counts = true;
        self.clients.iter_mut().for_each(|client| client.got = Got::default());
    }

    /// What all clients got since then.
    pub(crate) fn got(&self) -> Got {
        self.clients.iter().fold(Got::default(), |sum, Client { got, .. }| Got {
            connacks: sum.connacks + got.connacks,
            resumed: sum.resumed + got.resumed,
            granted: sum.granted + got.granted,
            messages: sum.messages + got.messages,
            done: sum.done + got.done,
        })
    }

    /// The owner of a topic.
    pub(crate) fn owner(&self, topic: &str) -> ShardId {
        self.broker.map().topic(topic.as_bytes())
    }

    /// A Client Identifier whose session this shard owns.
    pub(crate) fn client_of(&self, shard: ShardId, prefix: &str) -> String {
        let mut names = (0..).map(|number| format!("{prefix}-{number}"));
        names.find(|name| self.broker.map().session(name) == shard).expect("every shard owns some")
    }

    /// Connects a client, and returns its number.
    pub(crate) fn connect(&mut self, client_id: &str) -> usize {
        self.connect_as(connect(client_id))
    }

    /// Connects a client in its own way.
    pub(crate) fn connect_as(&mut self, connect: Connect) -> usize {
        let shard = self.broker.map().session(&connect.client_id);
        let bytes = encoded(&[Packet::Connect(Box::new(connect))]);
        let role = Role::Client(ProtocolVersion::V5);
        self.clients.push(Client {
            framer: Framer::new(role, PACKET_BYTES_MAX, PACKET_BYTES_MAX),
            is_mute: false,
            got: Got::default(),
        });
        self.turn(|broker| {
            let number = broker.open(shard);
            broker.receive(number, &bytes);
        });
        self.clients.len() - 1
    }

    /// From here on this client answers nothing.
    pub(crate) fn mute(&mut self, client: usize) {
        self.clients[client].is_mute = true;
    }

    /// A client vanishes.
    pub(crate) fn lose(&mut self, client: usize) {
        self.turn(|broker| broker.lose(client));
    }

    /// Subscribes to all filters with one packet.
    pub(crate) fn subscribe(&mut self, client: usize, filters: &[String], qos: QoS) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let filters = filters
            .iter()
            .map(|filter| SubscribeFilter { filter: filter.as_str().into(), options });
        let subscribe = Subscribe {
            packet_id: packet_id(1),
            properties: Properties::new(),
            filters: filters.collect(),
        };
        self.send(client, &[Packet::Subscribe(Box::new(subscribe))]);
    }

    /// Publishes to these topics, several in one turn.
    pub(crate) fn publish<'a>(
        &mut self,
        client: usize,
        topics: impl IntoIterator<Item = &'a str>,
        qos: QoS,
        retain: bool,
    ) {
        let mut batch = Vec::new();
        for topic in topics {
            let number = u16::try_from(batch.len() + 1).expect("batches are small");
            batch.push(Packet::Publish(Publish {
                dup: false,
                qos,
                retain,
                packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(number)),
                topic_alias: None,
                message: message(topic),
            }));
            if number == BATCH {
                self.send(client, &std::mem::take(&mut batch));
            }
        }
        self.send(client, &batch);
    }

    /// Packets go to the broker; then everybody answers, and answers the answers.
    fn send(&mut self, client: usize, packets: &[Packet]) {
        if packets.is_empty() {
            return;
        }
        let bytes = encoded(packets);
        self.turn(|broker| broker.receive(client, &bytes));
    }

    /// One turn of the broker, and all that clients make of it.
    fn turn(&mut self, work: impl FnOnce(&mut Broker)) {
        if self.counts {
            counted(|| work(&mut self.broker));
        } else {
            work(&mut self.broker);
        }
        for client in 0..self.clients.len() {
            let output = self.broker.take_output(client);
            let answers = self.clients[client].read(&output);
            self.send(client, &answers);
        }
    }
}

impl Client {
    /// Reads what came, and returns what is to be answered.
    fn read(&mut self, mut bytes: &[u8]) -> Vec<Packet> {
        let mut answers = Vec::new();
        while let Some(packet) = self.framer.decode(&mut bytes).expect("the broker keeps the rules")
        {
            answers.extend(self.answer(packet));
        }
        if self.is_mute { Vec::new() } else { answers }
    }

    fn answer(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::ConnAck(ack) => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                self.got.connacks += 1;
                self.got.resumed += u64::from(ack.session_present);
                None
            }
            Packet::SubAck(ack) => {
                assert!(ack.reasons.iter().all(|reason| !reason.is_error()), "{ack:?}");
                self.got.granted += ack.reasons.len() as u64;
                None
            }
            Packet::Publish(Publish { qos, packet_id, .. }) => {
                self.got.messages += 1;
                let ack = Ack::success(packet_id?);
                Some(if qos == QoS::AtLeastOnce {
                    Packet::PubAck(ack)
                } else {
                    Packet::PubRec(ack)
                })
            }
            Packet::PubRec(ack) => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                Some(Packet::PubRel(Ack::success(ack.packet_id)))
            }
            Packet::PubRel(ack) => Some(Packet::PubComp(Ack::success(ack.packet_id))),
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                self.got.done += 1;
                None
            }
            other => panic!("no scenario expects {other:?}"),
        }
    }
}

/// A CONNECT that begins a session which outlives its connection.
pub(crate) fn connect(client_id: &str) -> Connect {
    Connect {
        version: ProtocolVersion::V5,
        bridge: false,
        clean_start: false,
        keep_alive_s: 60,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: [Property::SessionExpiryInterval(3600), Property::ReceiveMaximum(1000)]
            .into_iter()
            .collect(),
    }
}

/// A Will that is published at once.
pub(crate) fn will(topic: &str) -> Box<Will> {
    Box::new(Will { qos: QoS::AtLeastOnce, retain: false, delay_s: 0, message: message(topic) })
}

/// A message without properties.
fn message(topic: &str) -> Message {
    Message::new(topic, &Properties::new(), &PAYLOAD).expect("short")
}

/// What goes to the wire.
pub(crate) fn encoded(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(ProtocolVersion::V5, &mut bytes));
    bytes
}

/// The Packet Identifier of this value.
pub(crate) fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}
