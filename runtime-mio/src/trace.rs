//! The packets of some clients, or of some topics, in the log.

use std::fmt;

use codec::{Frame, Packet};
use session_core::AddressRange;

/// The target of the lines of traced packets, so that a log may take them whatever its level is.
pub const TRACE_TARGET: &str = "trace";

/// What is traced: packets for which all parts that are there hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Client Identifier.
    pub client_id: Option<Box<str>>,
    /// Where the connection comes from.
    pub address: Option<AddressRange>,
    /// Topic Filter; only PUBLISH packets have a topic.
    pub topic: Option<Box<str>>,
}

impl TraceFilter {
    /// Whether it is about a connection, whatever its packets say.
    pub(crate) const fn is_of_connection(&self) -> bool {
        self.topic.is_none()
    }

    pub(crate) fn takes_topic(&self, topic: &str) -> bool {
        self.topic.as_deref().is_none_or(|filter| codec::topic::matches(filter, topic))
    }
}

impl fmt::Display for TraceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client_id, address, topic } = self;
        let mut between = "";
        if let Some(client_id) = client_id {
            write!(f, "client {client_id:?}")?;
            between = ", ";
        }
        if let Some(address) = address {
            write!(f, "{between}address {address}")?;
            between = ", ";
        }
        if let Some(topic) = topic {
            write!(f, "{between}topic {topic:?}")?;
        }
        Ok(())
    }
}

/// A packet in a few words: never a payload, a password or what authentication says.
pub(crate) struct Summary<'a>(pub(crate) &'a Packet);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Packet::Connect(connect) => {
                let will = connect.will.as_ref().map(|will| will.message.topic_str());
                write!(
                    f,
                    "CONNECT {:?} clean_start={} keep_alive={} user={:?} will={will:?}",
                    connect.client_id,
                    connect.clean_start,
                    connect.keep_alive_s,
                    connect.user_name.as_deref().unwrap_or_default()
                )
            }
            Packet::ConnAck(ack) => {
                write!(f, "CONNACK {:?} session_present={}", ack.reason, ack.session_present)
            }
            Packet::Publish(publish) => write!(
                f,
                "PUBLISH {:?} id={} qos={} retain={} dup={} bytes={}",
                publish.message.topic_str(),
                publish.packet_id.map_or(0, |id| id.get()),
                publish.qos as u8,
                publish.retain,
                publish.dup,
                publish.message.payload().len()
            ),
            Packet::PubAck(ack) => write!(f, "PUBACK id={} {:?}", ack.packet_id.get(), ack.reason),
            Packet::PubRec(ack) => write!(f, "PUBREC id={} {:?}", ack.packet_id.get(), ack.reason),
            Packet::PubRel(ack) => write!(f, "PUBREL id={} {:?}", ack.packet_id.get(), ack.reason),
            Packet::PubComp(ack) => {
                write!(f, "PUBCOMP id={} {:?}", ack.packet_id.get(), ack.reason)
            }
            Packet::Subscribe(subscribe) => {
                write!(f, "SUBSCRIBE id={}", subscribe.packet_id.get())?;
                subscribe.filters.iter().try_for_each(|wanted| {
                    write!(f, " {:?} qos={}", wanted.filter, wanted.options.qos as u8)
                })
            }
            Packet::SubAck(ack) => {
                write!(f, "SUBACK id={} {:?}", ack.packet_id.get(), ack.reasons)
            }
            Packet::Unsubscribe(unsubscribe) => {
                let id = unsubscribe.packet_id.get();
                write!(f, "UNSUBSCRIBE id={id} {:?}", unsubscribe.filters)
            }
            Packet::UnsubAck(ack) => {
                write!(f, "UNSUBACK id={} {:?}", ack.packet_id.get(), ack.reasons)
            }
            Packet::PingReq => f.write_str("PINGREQ"),
            Packet::PingResp => f.write_str("PINGRESP"),
            Packet::Disconnect(disconnect) => write!(f, "DISCONNECT {:?}", disconnect.reason),
            Packet::Auth(auth) => write!(f, "AUTH {:?}", auth.reason),
        }
    }
}

/// A packet on its way out in a few words.
pub(crate) struct FrameSummary<'a>(pub(crate) &'a Frame);

impl fmt::Display for FrameSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Frame::Publish { message, flags, packet_id, .. } => write!(
                f,
                "PUBLISH {:?} id={packet_id} qos={} retain={} dup={} bytes={}",
                message.topic_str(),
                (flags >> 1) & 3,
                flags & 1 == 1,
                flags & 8 == 8,
                message.payload().len()
            ),
            Frame::PublishWith(parts) => write!(
                f,
                "PUBLISH {:?} id={} qos={} retain={} dup={} bytes={}",
                parts.message.topic_str(),
                parts.packet_id.map_or(0, |id| id.get()),
                (parts.flags >> 1) & 3,
                parts.flags & 1 == 1,
                parts.flags & 8 == 8,
                parts.message.payload().len()
            ),
            Frame::Ack { kind, packet_id, reason, .. } => {
                let kind = format!("{kind:?}").to_uppercase();
                write!(f, "{kind} id={} {reason:?}", packet_id.get())
            }
            Frame::PingResp => f.write_str("PINGRESP"),
            Frame::Packet(_, packet) => Summary(packet).fmt(f),
        }
    }
}
