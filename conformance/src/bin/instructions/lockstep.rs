//! Clients on sockets that move in lock step with the broker.
//!
//! A publisher writes its batch at once, and nobody writes anything else before all that follows
//! from it has come. So the broker finds the same bytes at the same sockets in every turn of its
//! event loop, however fast it is and whatever else the machine does.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use codec::{
    Ack, Connect, Disconnect, Framer, Message, Packet, PacketId, Properties, ProtocolVersion,
    Publish, QoS, ReasonCode, Role, Subscribe, SubscribeFilter, SubscriptionOptions,
};

use crate::{
    Result,
    world::{PAYLOAD, packet_id},
};

/// How long a client waits for what is due.
const PATIENCE: Duration = Duration::from_secs(30);

/// More than any packet here.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// What most clients speak.
const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// Who publishes how much to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Each is one publisher with a topic of its own, and that topic's subscribers.
    pub(crate) groups: u16,
    /// Of each group.
    pub(crate) subscribers: u16,
    /// PUBLISH packets that a publisher writes at once.
    pub(crate) batch: u16,
    /// Of publishers and subscriptions, below 2.
    pub(crate) qos: QoS,
    /// Rounds that are counted.
    pub(crate) rounds: u64,
}

impl Shape {
    /// Messages that subscribers get in all counted rounds.
    pub(crate) fn messages(&self) -> u64 {
        let deliveries =
            u64::from(self.groups) * u64::from(self.subscribers) * u64::from(self.batch);
        deliveries * self.rounds
    }
}

/// Connected publishers and subscribers.
pub(crate) struct Clients {
    shape: Shape,
    groups: Vec<Group>,
}

/// A publisher and those who get what it publishes.
struct Group {
    publisher: Client,
    subscribers: Vec<Client>,
    message: Message,
    /// What the publisher writes in each round.
    batch: Vec<u8>,
}

/// One connection.
struct Client {
    name: String,
    stream: TcpStream,
    framer: Framer,
}

impl Clients {
    /// Connects one after the other, each confirmed by the broker.
    pub(crate) fn connect(broker: SocketAddr, shape: &Shape) -> Result<Self> {
        let groups = (0..shape.groups).map(|number| Group::connect(broker, shape, number));
        Ok(Self { shape: *shape, groups: groups.collect::<Result<_>>()? })
    }

    /// Has every publisher publish its batch, one after the other.
    pub(crate) fn round(&mut self) -> Result<()> {
        self.groups.iter_mut().try_for_each(|group| group.round(&self.shape))
    }

    /// Closes one after the other, each when the broker has closed it too.
    pub(crate) fn leave(self) -> Result<()> {
        self.groups.into_iter().try_for_each(|group| {
            group.subscribers.into_iter().chain([group.publisher]).try_for_each(Client::leave)
        })
    }
}

impl Group {
    fn connect(broker: SocketAddr, shape: &Shape, number: u16) -> Result<Self> {
        let topic = format!("site/{number}/sensor/2");
        let subscribers = (0..shape.subscribers).map(|place| {
            let mut subscriber = Client::connect(broker, format!("subscriber-{number}-{place}"))?;
            subscriber.subscribe(&topic, shape.qos)?;
            Ok(subscriber)
        });
        let message = Message::new(&topic, &Properties::new(), &PAYLOAD)?;
        Ok(Self {
            subscribers: subscribers.collect::<Result<_>>()?,
            publisher: Client::connect(broker, format!("publisher-{number}"))?,
            batch: encoded(&publishes(&message, shape)),
            message,
        })
    }

    /// The publisher publishes, all get everything, and whatever is due is acknowledged.
    fn round(&mut self, shape: &Shape) -> Result<()> {
        self.publisher.write(&self.batch)?;
        let mut acknowledgements = Vec::with_capacity(self.subscribers.len());
        for subscriber in &mut self.subscribers {
            let deliveries = subscriber.read(shape.batch)?;
            let answer = answer(&deliveries, &self.message, shape.qos);
            let answer = answer.ok_or_else(|| subscriber.astray(&deliveries, "its message"))?;
            acknowledgements.push(answer);
        }
        if shape.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let confirmed = self.publisher.read(shape.batch)?;
        let expected: Vec<Packet> = identifiers(shape.batch).map(puback).collect();
        self.publisher.expect(&confirmed, &expected)?;
        for (subscriber, mut answer) in self.subscribers.iter_mut().zip(acknowledgements) {
            // Nothing answers a PUBACK, so that only a PINGRESP tells that the broker has read it:
            // otherwise it would find it in the same turn as the next batch, or before it.
            answer.push(Packet::PingReq);
            subscriber.write(&encoded(&answer))?;
            let pong = subscriber.read(1)?;
            subscriber.expect(&pong, &[Packet::PingResp])?;
        }
        Ok(())
    }
}

impl Client {
    fn connect(broker: SocketAddr, name: String) -> Result<Self> {
        let stream = TcpStream::connect(broker)
            .map_err(|error| format!("{name} cannot connect to {broker}: {error}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let framer = Framer::new(Role::Client(VERSION), PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let mut client = Self { name, stream, framer };
        let connect = Connect {
            version: VERSION,
            bridge: false,
            clean_start: true,
            // No timer runs, since time is what differs between runs.
            keep_alive_s: 0,
            client_id: client.name.as_str().into(),
            will: None,
            user_name: None,
            password: None,
            properties: Properties::new(),
        };
        client.write(&encoded(&[Packet::Connect(Box::new(connect))]))?;
        match client.read(1)?.as_slice() {
            [Packet::ConnAck(ack)] if !ack.reason.is_error() => Ok(client),
            other => Err(client.astray(other, "CONNACK")),
        }
    }

    fn subscribe(&mut self, topic: &str, qos: QoS) -> Result<()> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let subscribe = Subscribe {
            packet_id: packet_id(1),
            properties: Properties::new(),
            filters: vec![SubscribeFilter { filter: topic.into(), options }],
        };
        self.write(&encoded(&[Packet::Subscribe(Box::new(subscribe))]))?;
        match self.read(1)?.as_slice() {
            [Packet::SubAck(ack)] if ack.reasons.iter().all(|reason| !reason.is_error()) => Ok(()),
            other => Err(self.astray(other, "SUBACK")),
        }
    }

    fn leave(mut self) -> Result<()> {
        let disconnect = Disconnect { reason: ReasonCode::Success, properties: Properties::new() };
        self.write(&encoded(&[Packet::Disconnect(Box::new(disconnect))]))?;
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            other => Err(format!("{}: after DISCONNECT came {other:?}", self.name).into()),
        }
    }

    fn expect(&self, packets: &[Packet], expected: &[Packet]) -> Result<()> {
        if packets == expected {
            return Ok(());
        }
        Err(self.astray(packets, &format!("{expected:?}")))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(|error| {
            format!("{}: the broker does not take {} bytes: {error}", self.name, bytes.len()).into()
        })
    }

    /// Reads until so many packets have come. One more, or a part of it, is one too many.
    fn read(&mut self, count: u16) -> Result<Vec<Packet>> {
        let count = usize::from(count);
        let mut packets = Vec::with_capacity(count);
        while packets.len() < count {
            self.read_once(&mut packets).map_err(|what| {
                format!("{}: after {} packets of {count} came {what}", self.name, packets.len())
            })?;
        }
        if packets.len() > count || self.framer.buffered() > 0 {
            return Err(self.astray(&packets[count..], "nothing more"));
        }
        Ok(packets)
    }

    fn read_once(&mut self, packets: &mut Vec<Packet>) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let got = match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the end of the connection".into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(format!("nothing more for {PATIENCE:?}").into());
            }
            got => got?,
        };
        let mut bytes = &buffer[..got];
        while let Some(packet) =
            self.framer.decode(&mut bytes).map_err(|error| format!("{error:?}"))?
        {
            packets.push(packet);
        }
        Ok(())
    }

    fn astray(&self, packets: &[Packet], due: &str) -> Box<dyn std::error::Error> {
        format!("{}: the broker sends {packets:?} where due was {due}", self.name).into()
    }
}

/// What answers deliveries of that message; `None` if anything else is among them.
fn answer(packets: &[Packet], message: &Message, qos: QoS) -> Option<Vec<Packet>> {
    let mut pubacks = Vec::new();
    for packet in packets {
        match packet {
            Packet::Publish(publish) if publish.qos == qos && publish.message == *message => {
                pubacks.extend(publish.packet_id.map(puback));
            }
            _ => return None,
        }
    }
    Some(pubacks)
}

/// A batch of the message.
fn publishes(message: &Message, shape: &Shape) -> Vec<Packet> {
    let publish = |id| {
        Packet::Publish(Publish {
            dup: false,
            qos: shape.qos,
            retain: false,
            packet_id: (shape.qos != QoS::AtMostOnce).then_some(id),
            topic_alias: None,
            message: message.clone(),
        })
    };
    identifiers(shape.batch).map(publish).collect()
}

/// The Packet Identifiers of a batch, the same in each round.
fn identifiers(batch: u16) -> impl Iterator<Item = PacketId> {
    (1..=batch).map(packet_id)
}

fn puback(id: PacketId) -> Packet {
    Packet::PubAck(Ack::success(id))
}

/// What goes to the wire.
fn encoded(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(VERSION, &mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, TcpListener},
        thread,
    };

    use codec::ConnAck;
    use runtime_mio::{Listener, Running, RuntimeConfig};
    use session_core::{ShardConfig, ShardMap};

    use super::*;

    const TWO_TO_THREE: Shape =
        Shape { groups: 2, subscribers: 3, batch: 4, qos: QoS::AtMostOnce, rounds: 5 };

    #[test]
    fn the_messages_of_all_counted_rounds_are_counted() {
        assert_eq!(TWO_TO_THREE.messages(), 120);
    }

    #[test]
    fn a_broker_passes_every_round() {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind_tcp("tcp://test", anywhere).expect("a port is free");
        let address = listener.local_addr();
        let map = ShardMap::new(1, 2);
        let shards = map.all().map(|id| ShardConfig::new(id, map)).collect();
        let broker: Running = runtime_mio::start(RuntimeConfig::new(shards, vec![listener]))
            .expect("threads are to be had");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let shape = Shape { qos, ..TWO_TO_THREE };
            let mut clients =
                Clients::connect(address.expect("a TCP address"), &shape).expect("all connect");
            (0..shape.rounds).for_each(|_| clients.round().expect("every message comes"));
            clients.leave().expect("all are closed");
        }
        broker.shutdown();
        broker.join().expect("no worker panicked");
    }

    /// A client of somebody who answers its CONNECT, says this as well, and goes.
    fn told(packets: &[Packet]) -> Client {
        let connack = Packet::ConnAck(Box::new(ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: Properties::new(),
        }));
        let bytes = encoded(packets);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client connects");
            // What the client writes is read, so that closing does not reset the connection.
            assert!(stream.read(&mut [0; 64]).expect("the client writes") > 0);
            stream.write_all(&encoded(&[connack])).expect("the client reads");
            // The next packet of the client asks for the rest.
            assert!(stream.read(&mut [0; 64]).expect("the client writes") > 0);
            stream.write_all(&bytes).expect("the client reads");
        });
        let mut client = Client::connect(address, "client".into()).expect("CONNACK comes");
        client.write(&encoded(&[Packet::PingReq])).expect("the peer reads");
        peer.join().expect("it did as it should");
        client
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_is_noticed() {
        let mut client = told(&[Packet::PingResp]);
        let error = client.read(2).expect_err("one comes").to_string();
        assert_eq!(error, "client: after 1 packets of 2 came the end of the connection");
        let error = told(&[Packet::PingResp, Packet::PingResp]).read(1).expect_err("two come");
        let text = error.to_string();
        assert_eq!(text, "client: the broker sends [PingResp] where due was nothing more");
    }

    #[test]
    fn only_deliveries_of_the_message_are_answered() {
        let message = Message::new("a", &Properties::new(), b"x").expect("short");
        let other = Message::new("a", &Properties::new(), b"y").expect("short");
        let packets = |qos| publishes(&message, &Shape { batch: 2, qos, ..TWO_TO_THREE });
        let (qos0, qos1) = (packets(QoS::AtMostOnce), packets(QoS::AtLeastOnce));
        let pubacks: Vec<Packet> = identifiers(2).map(puback).collect();
        assert_eq!(answer(&qos0, &message, QoS::AtMostOnce), Some(Vec::new()));
        assert_eq!(answer(&qos1, &message, QoS::AtLeastOnce), Some(pubacks));
        assert_eq!(answer(&qos1, &message, QoS::AtMostOnce), None, "another QoS");
        assert_eq!(answer(&qos0, &other, QoS::AtMostOnce), None, "another message");
        assert_eq!(answer(&[Packet::PingResp], &message, QoS::AtMostOnce), None, "no message");
    }
}
