//! Bytes to packets: one parser for each packet type, all over a body that is wholly there.

mod ack;
mod connect;
mod header;
mod properties;
mod publish;
mod subscribe;
mod wire;

pub(crate) use header::Header;
pub(crate) use properties::{judged_message_properties, message_properties};

use crate::{DecodeError, Packet, PacketType, ProtocolVersion, Sender};

/// What a parser reports.
///
/// `nom` knows no rules: where it runs out of bytes it says `Truncated`, and only the caller knows
/// in which packet that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A field reaches beyond the end of the packet or of its properties.
    Truncated,
    /// Any other rule.
    Rule(DecodeError),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Rule(error)
    }
}

impl nom::error::ParseError<&[u8]> for Fault {
    fn from_error_kind(_: &[u8], _: nom::error::ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: &[u8], _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }
}

/// A parser's result: what is left of the input, and the value.
type Parsed<'a, T> = nom::IResult<&'a [u8], T, Fault>;

/// Ends a parser with a broken rule.
fn broken<T>(error: DecodeError) -> Result<T, nom::Err<Fault>> {
    Err(nom::Err::Failure(Fault::Rule(error)))
}

/// Ends a parser if a rule is broken.
fn require(kept: bool, error: DecodeError) -> Result<(), nom::Err<Fault>> {
    if kept { Ok(()) } else { broken(error) }
}

/// From whom a packet comes and in which version.
#[derive(Clone, Copy, Debug)]
struct Context {
    sender: Sender,
    version: ProtocolVersion,
}

/// Decodes a CONNECT. `version` is set as soon as name and level are known, even if a later field
/// is wrong: the answer is given in that version.
pub(crate) fn connect(
    header: Header,
    body: &[u8],
    version: &mut Option<ProtocolVersion>,
) -> Result<Packet, DecodeError> {
    whole(PacketType::Connect, connect::connect(body, header.flags(), version))
}

/// Decodes any packet but CONNECT.
pub(crate) fn packet(
    header: Header,
    body: &[u8],
    sender: Sender,
    version: ProtocolVersion,
) -> Result<Packet, DecodeError> {
    let context = Context { sender, version };
    let packet = header.packet_type();
    whole(
        packet,
        match packet {
            PacketType::Connect => return connect(header, body, &mut None),
            PacketType::ConnAck => connect::conn_ack(body, context),
            PacketType::Publish => publish::publish(body, header.flags(), context),
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
                ack::ack(body, packet, context)
            }
            PacketType::Subscribe => subscribe::subscribe(body, context),
            PacketType::SubAck => subscribe::sub_ack(body, context),
            PacketType::Unsubscribe => subscribe::unsubscribe(body, context),
            PacketType::UnsubAck => subscribe::unsub_ack(body, context),
            PacketType::PingReq => Ok((body, Packet::PingReq)),
            PacketType::PingResp => Ok((body, Packet::PingResp)),
            PacketType::Disconnect => ack::disconnect(body, context),
            PacketType::Auth => ack::auth(body, context),
        },
    )
}

/// The packet, if its fields fill its body.
fn whole(packet: PacketType, parsed: Parsed<'_, Packet>) -> Result<Packet, DecodeError> {
    //= [U5-2.1.4-a]
    match parsed {
        Ok(([], value)) => Ok(value),
        Ok((_, value)) if seeded!(IgnoresTrailingBytes) => Ok(value),
        Ok(_) => Err(DecodeError::TrailingBytes(packet)),
        Err(nom::Err::Error(Fault::Rule(error)) | nom::Err::Failure(Fault::Rule(error))) => {
            Err(error)
        }
        Err(_) => Err(DecodeError::Truncated(packet)),
    }
}
