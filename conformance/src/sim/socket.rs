//! A TCP connection between a client and the broker, both ends of it.

use std::collections::VecDeque;

use codec::{Connect, Frame, Framer, Role};
use session_core::{ConnId, Limits, ShardId};

use super::{Rng, node::Decoded};

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    /// The broker's end.
    pub(super) end: End,
    /// The broker decodes no further packet.
    pub(super) is_paused: bool,
    framer: Framer,
    /// Sent by the client, not read by the broker.
    to_broker: VecDeque<u8>,
    client_has_closed: bool,
    /// Written by the broker, not taken by the socket.
    output: Vec<u8>,
    /// Taken by the socket, not seen by the player.
    to_client: Vec<u8>,
    broker_has_closed: bool,
    /// The player was told of the end.
    end_was_seen: bool,
    /// Bytes broke a rule: what follows is not looked at.
    is_broken: bool,
}

/// The broker's end of a connection.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// On its way to a shard: to any, or to the one it was handed to with this CONNECT.
    Arriving(Option<(ShardId, Box<Connect>)>),
    /// A shard has it.
    Open { shard: ShardId, conn: ConnId },
    /// The shard is done with it; what is written still goes out.
    Closing,
    /// Gone.
    Closed,
}

impl Socket {
    pub(super) fn new(limits: &Limits) -> Self {
        let (first, later) = (limits.connect_packet_bytes_max, limits.packet_bytes_max);
        Self {
            end: End::Arriving(None),
            is_paused: false,
            framer: Framer::new(Role::Server, first, later),
            to_broker: VecDeque::new(),
            client_has_closed: false,
            output: Vec::new(),
            to_client: Vec::new(),
            broker_has_closed: false,
            end_was_seen: false,
            is_broken: false,
        }
    }

    // The broker's side.

    pub(super) fn is_arriving(&self) -> bool {
        matches!(self.end, End::Arriving(_))
    }

    pub(super) fn can_be_read(&self) -> bool {
        let is_open = matches!(self.end, End::Open { .. });
        is_open && !self.is_paused && !self.is_broken && !self.to_broker.is_empty()
    }

    /// The client's last byte was read, and more will not come.
    pub(super) fn has_hung_up(&self) -> bool {
        let is_open = matches!(self.end, End::Open { .. });
        is_open && self.client_has_closed && (self.to_broker.is_empty() || self.is_broken)
    }

    pub(super) fn has_output(&self) -> bool {
        let is_closing = matches!(self.end, End::Closing);
        !self.output.is_empty() || is_closing
    }

    /// Reads at most one packet, from some of the bytes that are there.
    pub(super) fn read(&mut self, rng: &mut Rng) -> Option<Decoded> {
        let bytes = self.to_broker.make_contiguous();
        let available = match rng.below(3) {
            0 => bytes.len(),
            1 => 1,
            _ => 1 + rng.below(bytes.len()),
        };
        let mut input = &bytes[..available];
        let decoded = self.framer.decode(&mut input);
        let taken = available - input.len();
        self.to_broker.drain(..taken);
        match decoded {
            Ok(packet) => packet.map(Decoded::Packet),
            Err(error) => {
                self.is_broken = true;
                Some(Decoded::Malformed(error, self.framer.version()))
            }
        }
    }

    pub(super) fn hang_up(&mut self) -> Option<(ShardId, ConnId)> {
        let End::Open { shard, conn } = self.end else { return None };
        self.end = End::Closed;
        Some((shard, conn))
    }

    pub(super) fn write(&mut self, frame: &Frame) {
        frame.encode(&mut self.output);
    }

    /// The socket takes what was written; gives back whose credit how much it is.
    pub(super) fn flush(&mut self) -> Option<(ShardId, ConnId, u32)> {
        let bytes = self.output.len() as u32;
        self.to_client.append(&mut self.output);
        match self.end {
            End::Open { shard, conn } => Some((shard, conn, bytes)),
            End::Closing => {
                self.end = End::Closed;
                self.broker_has_closed = true;
                None
            }
            End::Arriving(_) | End::Closed => None,
        }
    }

    /// The broker is dead, and the player looks at none of its connections again.
    pub(super) fn breaks(&mut self) {
        self.client_has_closed = true;
        self.end = End::Closed;
        self.output.clear();
        self.broker_has_closed = true;
    }

    // The client's side.

    pub(super) fn client_sends(&mut self, bytes: &[u8]) {
        self.to_broker.extend(bytes);
    }

    pub(super) fn client_closes(&mut self) {
        self.client_has_closed = true;
    }

    /// Whether there is something that the player has not seen.
    pub(super) fn has_news(&self) -> bool {
        !self.client_has_closed
            && (!self.to_client.is_empty() || (self.broker_has_closed && !self.end_was_seen))
    }

    pub(super) fn client_receives(&mut self, inbox: &mut Vec<u8>) -> bool {
        inbox.append(&mut self.to_client);
        self.end_was_seen = self.broker_has_closed;
        self.broker_has_closed
    }
}
