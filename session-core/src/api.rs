//! What goes into a shard and what comes out.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use codec::{
    Connect, DecodeError, Frame, Message, Packet, PacketId, ProtocolVersion, QoS, ReasonCode,
};

use crate::{
    Action, ClientLimits, CommitSeq, ConnId, DropReason, Grants, Place, Queued, SessionId,
    Settings, ShardId, ShardMsg, Ticket, Time, shard::Record,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A connection was accepted, or handed over by another shard's runtime. `credit` is how many
    /// bytes its socket takes before the runtime says [`Input::Sent`].
    Opened {
        /// Its name from now on.
        conn: ConnId,
        /// Where it came from.
        origin: Box<Origin>,
        /// Bytes.
        credit: u32,
    },
    /// A packet was decoded.
    Packet {
        /// On this connection.
        conn: ConnId,
        /// The packet.
        packet: Packet,
    },
    /// Bytes broke a rule; the runtime decodes nothing more of the connection.
    Malformed {
        /// On this connection.
        conn: ConnId,
        /// The rule.
        error: DecodeError,
        /// The version that the framer learned, so that a CONNECT which breaks a rule can be
        /// answered in the form its sender understands; `None` if bytes did not get so far.
        version: Option<ProtocolVersion>,
    },
    /// The socket took bytes: credit comes back.
    Sent {
        /// Of this connection.
        conn: ConnId,
        /// How many.
        bytes: u32,
    },
    /// The connection is gone, by the peer or by failure.
    Closed {
        /// This one.
        conn: ConnId,
    },
    /// Time passed, or work was left over.
    Tick,
    /// The log is durable through this record.
    Persisted {
        /// Through here.
        through: CommitSeq,
    },
    /// The answer to [`Effect::Load`].
    Loaded(Box<Loaded>),
    /// Another shard says something.
    Told {
        /// This one.
        from: ShardId,
        /// What it says.
        msg: Box<ShardMsg>,
    },
    /// The answer to [`Effect::Ask`].
    Answer {
        /// Of this question.
        ticket: Ticket,
        /// The answer.
        answer: Box<Answer>,
    },
    /// An administrator or the runtime wants something.
    Command {
        /// Repeated in [`Effect::Reply`].
        ticket: Ticket,
        /// What.
        command: Box<Command>,
    },
}

/// Something to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write a packet.
    Send {
        /// To this connection.
        conn: ConnId,
        /// The packet.
        frame: Frame,
    },
    /// Write one packet to many connections: what a crowd gets alike is made once.
    SendMany(Box<Crowd>),
    /// Write what is queued, then close. No effect names the connection afterwards, and the
    /// runtime need not say [`Input::Closed`].
    Close {
        /// This connection.
        conn: ConnId,
        /// Why.
        cause: Cause,
    },
    /// Decode no further packet of the connection.
    Pause {
        /// This one.
        conn: ConnId,
    },
    /// Decode its packets again.
    Resume {
        /// This one.
        conn: ConnId,
    },
    /// Hand the connection to another shard's runtime, with every byte behind the CONNECT. There
    /// it is opened under a new name, and the CONNECT is its first packet.
    Move {
        /// This connection; its name ends here.
        conn: ConnId,
        /// The packet that decided.
        connect: Box<Connect>,
        /// The owner of the session.
        to: ShardId,
    },
    /// Append to the log.
    Persist {
        /// Its position.
        seq: CommitSeq,
        /// What to append.
        record: Box<Record>,
    },
    /// Read messages that are on disk only. What is asked for is durable by then.
    Load(Box<Load>),
    /// Tell another shard.
    Tell {
        /// This one.
        to: ShardId,
        /// What.
        msg: Box<ShardMsg>,
    },
    /// Ask the outside; an [`Input::Answer`] is awaited for a limited time.
    Ask {
        /// Repeated in the answer.
        ticket: Ticket,
        /// The question.
        request: Box<Request>,
    },
    /// The reply to [`Input::Command`].
    Reply {
        /// Of this command.
        ticket: Ticket,
        /// The reply.
        reply: Box<Reply>,
    },
    /// For the log of events; never once per message.
    Note(Box<Event>),
}

const _: () = assert!(size_of::<Effect>() <= 32, "effects are copied for each delivery");

/// Connections that get the same PUBLISH, each once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Crowd {
    /// To these connections, each with its own Packet Identifier unless the QoS is 0.
    pub conns: Vec<(ConnId, Option<PacketId>)>,
    /// The packet, with the identifier of anyone of them.
    pub frame: Frame,
}

impl Effect {
    /// The same as effects of which each speaks of one connection, for runtimes to which a crowd is
    /// nothing special.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let (single, crowd) = match self {
            Self::SendMany(crowd) => (None, Some(crowd)),
            effect => (Some(effect), None),
        };
        let sends = crowd.into_iter().flat_map(|crowd| {
            let Crowd { conns, frame } = *crowd;
            let send = move |(conn, packet_id)| {
                let frame = frame.with_packet_id(packet_id);
                Self::Send { conn, frame }
            };
            conns.into_iter().map(send)
        });
        single.into_iter().chain(sends)
    }
}

/// A wish for the next part of a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// Of this session.
    pub session: SessionId,
    /// What follows this place.
    pub after: Place,
    /// This place is the last that is wanted.
    pub through: Place,
    /// No more messages than this.
    pub messages_max: u32,
    /// No more bytes than this, but for one message.
    pub bytes_max: u64,
}

/// The next part of a backlog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loaded {
    /// The question.
    pub load: Load,
    /// In the order of their places.
    pub messages: Vec<Queued>,
    /// There is nothing more up to [`Load::through`].
    pub complete: bool,
}

/// The buffer that effects are written into.
pub type Effects = Vec<Effect>;

/// Where a connection came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The listener's address as configured, such as `tcp://127.0.0.1:1883`.
    pub listener: Box<str>,
    /// The peer's address; the one that a trusted proxy told, if there is one.
    pub peer: Option<SocketAddr>,
    /// How the bytes travel.
    pub transport: Transport,
    /// The verified TLS client certificate chain in DER, leaf first; empty if there is none.
    pub certificates: Vec<Bytes>,
    /// The server name that the client asked for (TLS SNI).
    pub server_name: Option<Box<str>>,
    /// What a trusted proxy told besides the address.
    pub proxied: Option<Box<Proxied>>,
}

/// What a trusted proxy tells of a connection (PROXY protocol 2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proxied {
    /// The Common Name of the client certificate that the proxy has verified.
    pub common_name: Option<Box<str>>,
    /// The server name that the client asked the proxy for.
    pub authority: Option<Box<str>>,
    /// Whether the client came to the proxy by TLS.
    pub tls: bool,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Transport {
    Tcp,
    Tls,
    WebSocket,
    WebSocketTls,
    Unix,
}

/// Who a client is, and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Principal {
    /// For logs and administration; the User Name if there is no better one.
    pub name: Option<Box<str>>,
    /// What it may do.
    pub grants: Grants,
    /// When the right to be connected ends.
    pub expires: Option<Time>,
    /// What rights are judged by. It stays with the connection, so that it can be judged again; absent if
    /// nobody will.
    pub subject: Option<Arc<Subject>>,
    /// Limits of its own; absent for those of everybody.
    pub limits: Option<Arc<ClientLimits>>,
}

/// Whom rules may speak of: what is known of a client once it is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Its Client Identifier.
    pub client_id: Box<str>,
    /// Its name as the provider has proved it, which need not be the User Name.
    pub user: Option<Box<str>>,
    /// Groups it belongs to.
    pub groups: Box<[Box<str>]>,
    /// What kind of client it is, such as `device` or `application`; whatever its provider says.
    pub client_type: Option<Box<str>>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The listener, as in [`Origin::listener`].
    pub listener: Box<str>,
    /// The Common Name of its verified certificate.
    pub common_name: Option<Box<str>>,
    /// Which provider let it in.
    pub provider: Box<str>,
    /// Rights that came with its credentials (a token, an answer), which rules are asked before or instead of.
    pub own: Option<Grants>,
}

/// An enhanced authentication on its way: what whoever answers wants to see again with the next step.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Exchange {
    /// Who seems to be there.
    pub subject: Arc<Subject>,
    /// Private to whoever answers; it is never shown to anybody.
    pub state: Bytes,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// A question to the outside. `Debug` shows no secret of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// May this client connect?
    Authenticate {
        /// Its CONNECT, with the Client Identifier it will have.
        connect: Box<Connect>,
        /// Where it comes from.
        origin: Box<Origin>,
    },
    /// A further step of an enhanced authentication, or of a re-authentication.
    Continue {
        /// The client.
        client_id: Box<str>,
        /// Authentication Method, as in CONNECT.
        method: Box<str>,
        /// Authentication Data.
        data: Option<Bytes>,
        /// The step begins a re-authentication: the client sent 0x19.
        again: bool,
        /// As the last answer left it; with `again` the present subject and no state.
        exchange: Option<Exchange>,
    },
    /// Rights have changed: may this client stay, and what may it do now?
    Judge {
        /// The client, as it was let in.
        subject: Arc<Subject>,
    },
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authenticate { connect, origin } => f
                .debug_struct("Authenticate")
                .field("connect", connect)
                .field("origin", origin)
                .finish(),
            Self::Continue { client_id, method, data, again, exchange } => f
                .debug_struct("Continue")
                .field("client_id", client_id)
                .field("method", method)
                .field("data", &data.as_ref().map(|_| "***"))
                .field("again", again)
                .field("exchange", exchange)
                .finish(),
            Self::Judge { subject } => f.debug_struct("Judge").field("subject", subject).finish(),
        }
    }
}

/// What the outside says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Yes.
    Accept {
        /// Who it is.
        principal: Principal,
        /// Authentication Data for CONNACK or AUTH.
        data: Option<Bytes>,
    },
    /// The client has to send more (enhanced authentication only).
    Continue {
        /// Authentication Data for AUTH.
        data: Option<Bytes>,
        /// Comes with the next step.
        exchange: Option<Exchange>,
    },
    /// No.
    Refuse {
        /// The reason the client is told; versions before 5.0 get the nearest return code.
        reason: ReasonCode,
    },
}

/// A wish from the outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Take the connection of a client away.
    Disconnect {
        /// Of this client.
        client_id: Box<str>,
        /// The reason it is told.
        reason: ReasonCode,
    },
    /// End the session of a client, and its connection if there is one.
    EndSession {
        /// Of this client.
        client_id: Box<str>,
    },
    /// Rights, blocks or limits have changed: whoever is connected is asked about again
    /// ([`Request::Judge`]), and what may not be any more ends.
    RightsChanged,
    /// Go on by other settings. What CONNACK told a client holds for as long as it is connected.
    Reconfigure(Box<Settings>),
    /// Take some connections away, so that their clients go elsewhere; none is accepted any more.
    /// The reply is how many are left ([`Reply::Left`]).
    Drain {
        /// So many at most.
        max: u32,
        /// Where a client of 5.0 is told to go (0x9C, Server Reference); absent: it is told 0x8B.
        server_reference: Option<Box<str>>,
    },
    /// Take every connection away and accept no more: the broker stops.
    Shutdown,
    /// The log has no room for more messages, or has room again. Meanwhile QoS 1 and 2 messages are
    /// refused with 0x97 (before 5.0: not acknowledged), and nothing is retained.
    StorageFull(bool),
    /// Publish as the broker itself. The shard must be the owner of the topic.
    Publish {
        /// The message.
        message: Message,
        /// Its QoS.
        qos: QoS,
        /// Whether it is retained.
        retain: bool,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It was carried out.
    Done,
    /// There is no such client here.
    NotFound,
    /// So many connections are left.
    Left(u32),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The peer closed, or the network failed.
    Lost,
    /// The client said DISCONNECT with this reason.
    Disconnected(ReasonCode),
    /// Bytes broke a rule.
    Malformed(DecodeError),
    /// The client broke a rule that needs the state to be judged, or hit a limit.
    Refused(ReasonCode),
    /// No CONNECT in time.
    ConnectTimeout,
    /// The client was silent for 1.5 times its Keep Alive `[MQTT-3.1.2-22]`.
    KeepAliveTimeout,
    /// Another connection took the session over.
    TakenOver,
    /// An administrator wanted it.
    Administrative(ReasonCode),
    /// The broker stops.
    Shutdown,
}

/// News for the log of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A client connected.
    Connected {
        /// Its connection.
        conn: ConnId,
        /// Its Client Identifier.
        client_id: Box<str>,
        /// The principal's name.
        user: Option<Box<str>>,
        /// Its protocol version.
        version: ProtocolVersion,
        /// Whether a session was resumed.
        session_present: bool,
        /// The Keep Alive in force, seconds.
        keep_alive_s: u16,
    },
    /// A connection ended.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Empty if it never got so far.
        client_id: Box<str>,
        /// The User Name that a client gave which was not let in.
        user: Option<Box<str>>,
        /// Whether a client had been let in.
        was_connected: bool,
        /// Why.
        cause: Cause,
    },
    /// A client wanted to do what it may not. Said at most every ten seconds for each connection.
    Denied {
        /// Its connection.
        conn: ConnId,
        /// Its Client Identifier.
        client_id: Box<str>,
        /// The name that it has proved.
        user: Option<Box<str>>,
        /// What it wanted to do.
        action: Action,
        /// With this topic or filter.
        topic: Box<str>,
        /// The rule that forbids it; absent if none allows it.
        rule: Option<Arc<str>>,
        /// So many earlier denials were not told.
        untold: u32,
    },
    /// A client sends more than it may, and is refused. Said at most every ten seconds for each connection.
    OverRate {
        /// Its connection.
        conn: ConnId,
        /// Its Client Identifier.
        client_id: Box<str>,
        /// So many earlier refusals were not told.
        untold: u32,
    },
    /// Messages for a client were dropped. Said at most every ten seconds for each client.
    Dropped {
        /// The client.
        client_id: Box<str>,
        /// Why the last one was.
        reason: DropReason,
        /// So many since the last line about this client.
        count: u64,
        /// Messages waiting for it.
        queued: u32,
    },
    /// A session ended with messages of Shared Subscriptions on disk, which no other member gets.
    SharedBacklogLost {
        /// The session's client.
        client_id: Box<str>,
        /// Messages on disk, shared or not.
        messages: u64,
    },
}
