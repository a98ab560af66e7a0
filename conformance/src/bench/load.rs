//! The load: clients in one thread and one poll, which publish as fast as their receivers follow
//! and check every sequence number.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use codec::{
    Ack, AckKind, Connect, Frame, Framer, Message, Packet, PacketId, Properties, ProtocolVersion,
    QoS, ReasonCode, Role, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

const VERSION: ProtocolVersion = ProtocolVersion::V311;
/// Bytes of a payload: stream and sequence number, and filling.
const PAYLOAD_BYTES: usize = 64;
/// Deliveries a receiver may be behind before its publisher waits, so that no broker has to drop.
const WINDOW: u64 = 200;
/// QoS 1 and 2 messages that a publisher has unacknowledged.
const IN_FLIGHT: usize = 20;
/// Without any progress for so long a run has failed.
const STALL: Duration = Duration::from_secs(20);
const PACKET_MAX: u32 = 1 << 20;

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Many publishers, each with a topic of its own, and one subscriber to all.
    FanIn {
        /// How many.
        publishers: usize,
    },
    /// One publisher and many subscribers to its topic.
    FanOut {
        /// How many.
        subscribers: usize,
    },
    /// Publishers with one subscriber each.
    Pairs {
        /// How many.
        pairs: usize,
    },
}

/// How much of what is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Who sends to whom.
    pub shape: Shape,
    /// Of publishes and subscriptions alike.
    pub qos: QoS,
    /// Messages to be received in all, rounded down to whole rounds of the publishers.
    pub deliveries: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Messages received.
    pub deliveries: u64,
    /// First publish to last delivery and acknowledgement.
    pub elapsed: Duration,
    /// Messages lost, doubled or out of order.
    pub wrong: u64,
}

/// One client connection.
struct Client {
    stream: TcpStream,
    framer: Framer,
    out: Vec<u8>,
    written: usize,
    writable: bool,
    publisher: Option<Publisher>,
    /// The next sequence number of each stream, for subscribers.
    expected: Vec<u64>,
}

struct Publisher {
    stream: usize,
    sent: u64,
    unacknowledged: usize,
    free_ids: VecDeque<PacketId>,
    topic: String,
}

/// Clients that are connected and subscribed, ready to begin.
pub(super) struct Run {
    load: Load,
    poll: Poll,
    clients: Vec<Client>,
    /// Messages each publisher sends.
    rounds: u64,
    /// Receivers of each message.
    fan: u64,
    /// Deliveries of each stream so far.
    delivered: Vec<u64>,
    wrong: u64,
    /// CONNACKs and SUBACKs, and how many there will be.
    answers: usize,
    wanted_answers: usize,
    /// Everybody has subscribed: publishers may begin.
    begun: bool,
}

impl Run {
    /// Connects and subscribes everybody.
    pub(super) fn prepare(address: SocketAddr, load: Load) -> io::Result<Self> {
        let (publishers, subscribers) = match load.shape {
            Shape::FanIn { publishers } => (publishers, 1),
            Shape::FanOut { subscribers } => (1, subscribers),
            Shape::Pairs { pairs } => (pairs, pairs),
        };
        let fan = match load.shape {
            Shape::FanOut { subscribers } => subscribers as u64,
            _ => 1,
        };
        let rounds = (load.deliveries / fan / publishers as u64).max(1);
        let mut run = Self {
            load,
            poll: Poll::new()?,
            clients: Vec::new(),
            rounds,
            fan,
            delivered: vec![0; publishers],
            wrong: 0,
            answers: 0,
            wanted_answers: publishers + 2 * subscribers,
            begun: false,
        };
        for number in 0..subscribers {
            let filter = match load.shape {
                Shape::FanIn { .. } => "bench/+/load".to_owned(),
                Shape::FanOut { .. } => topic(0),
                Shape::Pairs { .. } => topic(number),
            };
            run.connect(address, &format!("subscriber-{number}"), Some(filter), None)?;
        }
        for stream in 0..publishers {
            let publisher = Publisher {
                stream,
                sent: 0,
                unacknowledged: 0,
                free_ids: (1..=IN_FLIGHT as u16).filter_map(PacketId::new).collect(),
                topic: topic(stream),
            };
            run.connect(address, &format!("publisher-{stream}"), None, Some(publisher))?;
        }
        run.work_until(|run| run.answers == run.wanted_answers)?;
        Ok(run)
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        client_id: &str,
        filter: Option<String>,
        publisher: Option<Publisher>,
    ) -> io::Result<()> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let token = Token(self.clients.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, token, interest)?;
        let mut out = Vec::new();
        connect_packet(client_id).encode(VERSION, &mut out);
        if let Some(filter) = filter {
            subscribe_packet(&filter, self.load.qos).encode(VERSION, &mut out);
        }
        self.clients.push(Client {
            stream,
            framer: Framer::new(Role::Client(VERSION), PACKET_MAX, PACKET_MAX),
            out,
            written: 0,
            writable: true,
            publisher,
            expected: vec![0; self.delivered.len()],
        });
        // Large crowds are answered as they come, or backlogs would overflow.
        self.turn(Duration::ZERO)
    }

    /// Publishes everything, and waits for the last delivery and acknowledgement.
    pub(super) fn finish(&mut self) -> io::Result<Outcome> {
        let began = Instant::now();
        self.begun = true;
        let expected = self.rounds * self.fan * self.delivered.len() as u64;
        self.work_until(|run| run.delivered.iter().sum::<u64>() >= expected && run.is_quiet())?;
        let deliveries = self.delivered.iter().sum::<u64>();
        let wrong = self.wrong + deliveries.abs_diff(expected);
        Ok(Outcome { deliveries, elapsed: began.elapsed(), wrong })
    }

    fn is_quiet(&self) -> bool {
        let open = |client: &Client| {
            client.publisher.as_ref().is_some_and(|publisher| publisher.unacknowledged > 0)
        };
        !self.clients.iter().any(open)
    }

    fn work_until(&mut self, done: impl Fn(&Self) -> bool) -> io::Result<()> {
        let mut progress = (Instant::now(), 0);
        while !done(self) {
            self.turn(Duration::from_millis(100))?;
            let now = self.delivered.iter().sum::<u64>() + self.answers as u64;
            if now != progress.1 {
                progress = (Instant::now(), now);
            } else if progress.0.elapsed() > STALL {
                return Err(io::Error::other(format!("no progress after {now} answers")));
            }
        }
        Ok(())
    }

    /// Reads what has come, publishes what may be, and writes each buffer once.
    fn turn(&mut self, patience: Duration) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        self.poll.poll(&mut events, Some(patience))?;
        let mut buffer = vec![0; 256 * 1024];
        for event in &events {
            let number = event.token().0;
            if event.is_writable() {
                self.clients[number].writable = true;
            }
            if event.is_readable() {
                self.read(number, &mut buffer)?;
            }
        }
        for number in 0..self.clients.len() {
            self.publish(number);
            self.clients[number].flush()?;
        }
        Ok(())
    }

    fn read(&mut self, number: usize, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.clients[number].stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the broker closed a connection")),
                Ok(count) => self.take(number, &buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, number: usize, mut bytes: &[u8]) -> io::Result<()> {
        let client = &mut self.clients[number];
        while let Some(packet) = client.framer.decode(&mut bytes).map_err(io::Error::other)? {
            match packet {
                Packet::ConnAck(ack) if ack.reason == ReasonCode::Success => self.answers += 1,
                Packet::SubAck(_) => self.answers += 1,
                Packet::Publish(publish) => {
                    let (stream, sequence) = read_payload(publish.message.payload())?;
                    let expected = &mut client.expected[stream];
                    self.wrong += u64::from(sequence != *expected);
                    *expected = sequence + 1;
                    self.delivered[stream] += 1;
                    match (publish.packet_id, publish.qos) {
                        (Some(id), QoS::AtLeastOnce) => client.ack(AckKind::PubAck, id),
                        (Some(id), _) => client.ack(AckKind::PubRec, id),
                        (None, _) => {}
                    }
                }
                Packet::PubRel(ack) => client.ack(AckKind::PubComp, ack.packet_id),
                Packet::PubRec(ack) => client.ack(AckKind::PubRel, ack.packet_id),
                Packet::PubAck(Ack { packet_id, .. }) | Packet::PubComp(Ack { packet_id, .. }) => {
                    if let Some(publisher) = &mut client.publisher {
                        publisher.unacknowledged -= 1;
                        publisher.free_ids.push_back(packet_id);
                    }
                }
                other => return Err(io::Error::other(format!("unexpected {other:?}"))),
            }
        }
        Ok(())
    }

    /// Publishes as long as window, identifiers and socket have room.
    fn publish(&mut self, number: usize) {
        let Load { qos, .. } = self.load;
        let client = &mut self.clients[number];
        let Some(publisher) = &mut client.publisher else { return };
        if !client.writable || !self.begun {
            return;
        }
        while publisher.sent < self.rounds
            && client.out.len() < 64 * 1024
            && (publisher.sent * self.fan).saturating_sub(self.delivered[publisher.stream])
                < WINDOW * self.fan
        {
            let mut packet_id = 0;
            if qos != QoS::AtMostOnce {
                let Some(id) = publisher.free_ids.pop_front() else { break };
                packet_id = id.get();
                publisher.unacknowledged += 1;
            }
            let payload = payload(publisher.stream, publisher.sent);
            let message = Message::new(&publisher.topic, &Properties::new(), &payload);
            let Ok(message) = message else { return };
            let flags = Frame::publish_flags(false, qos, false);
            Frame::Publish { message, version: VERSION, flags, packet_id, expiry_s: 0 }
                .encode(&mut client.out);
            publisher.sent += 1;
        }
    }
}

impl Client {
    fn ack(&mut self, kind: AckKind, packet_id: PacketId) {
        let reason = ReasonCode::Success;
        Frame::Ack { kind, version: VERSION, packet_id, reason }.encode(&mut self.out);
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.writable && self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }
}

/// Opens connections that say CONNECT and nothing more; returns them connected.
pub(super) fn connect_idle(
    address: SocketAddr,
    count: usize,
) -> io::Result<Vec<std::net::TcpStream>> {
    let mut held = Vec::with_capacity(count);
    let mut packet = Vec::new();
    let mut answer = [0; 4];
    for number in 0..count {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(STALL))?;
        packet.clear();
        connect_packet(&format!("idle-{number}")).encode(VERSION, &mut packet);
        stream.write_all(&packet)?;
        stream.read_exact(&mut answer)?;
        if answer != [0x20, 2, 0, 0] {
            return Err(io::Error::other(format!("CONNACK {answer:02x?}")));
        }
        held.push(stream);
    }
    Ok(held)
}

fn topic(stream: usize) -> String {
    format!("bench/{stream}/load")
}

fn payload(stream: usize, sequence: u64) -> [u8; PAYLOAD_BYTES] {
    let mut payload = [0; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&(stream as u64).to_be_bytes());
    payload[8..16].copy_from_slice(&sequence.to_be_bytes());
    payload
}

fn read_payload(payload: &[u8]) -> io::Result<(usize, u64)> {
    let number = |at: usize| {
        let bytes = payload.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or_else(|| io::Error::other("a payload was damaged"))
    };
    if payload.len() != PAYLOAD_BYTES {
        return Err(io::Error::other("a payload was cut"));
    }
    Ok((number(0)? as usize, number(8)?))
}

fn connect_packet(client_id: &str) -> Packet {
    Packet::Connect(Box::new(Connect {
        version: VERSION,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: Properties::new(),
    }))
}

fn subscribe_packet(filter: &str, qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: const { PacketId::new(1).unwrap() },
        properties: Properties::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    }))
}
