//! The connections of one worker.

use std::net::SocketAddr;

use codec::Framer;
use session_core::{ConnId, Time};

use crate::{door::DoorId, outbox::Outbox, socket::Socket};

/// One connection. Small, and without any buffer while it is idle.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) framer: Framer,
    pub(crate) out: Outbox,
    /// Read but not decoded, because the shard paused the connection or the turn was over.
    pub(crate) undecoded: Vec<u8>,
    pub(crate) origin: Source,
    pub(crate) state: State,
    /// While it is [`State::Shaking`]: when patience ends.
    pub(crate) shaking_until: Time,
    /// The doorkeeper has counted it.
    pub(crate) admitted: bool,
    /// The shard wants no further packet for now.
    pub(crate) paused: bool,
    /// Bytes broke a rule: nothing is decoded any more.
    pub(crate) deaf: bool,
    /// The socket may have bytes: the kernel said so, and no read has found it empty since.
    pub(crate) readable: bool,
    /// The kernel said that the peer sends no more, so the end is read without waiting for it.
    pub(crate) peer_closed: bool,
    /// The socket was full; the kernel will say when it is not.
    pub(crate) blocked: bool,
    /// A write failed for good. What the peer sent before is still read.
    pub(crate) broken: bool,
    /// Something was written, which a reset could destroy.
    pub(crate) wrote: bool,
    /// Is in the worker's list of connections to serve.
    pub(crate) queued: bool,
    /// Is in the worker's list of connections to flush.
    pub(crate) dirty: bool,
    /// All its packets are traced.
    pub(crate) traced: bool,
    /// When it was accepted.
    pub(crate) since: Time,
    /// PUBLISH packets that came.
    pub(crate) publishes_in: u64,
    /// PUBLISH packets that were queued for it.
    pub(crate) publishes_out: u64,
    /// The name that its client has proved, or gave.
    pub(crate) user: Option<Box<str>>,
}

const _: () = assert!(size_of::<Connection>() <= 256, "an idle connection is small");

/// Where a connection came from, in few bytes.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// Absent with a socket of the file system.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) door: DoorId,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// PROXY, TLS or WebSocket begin; the shard does not know it.
    Shaking,
    /// The shard knows it.
    Open,
    /// The shard asked another worker's shard to take it; it leaves as soon as its bytes are put
    /// aside.
    Leaving,
    /// The shard closed it; the last bytes are written and the peer's end is awaited for a while.
    Closing,
    /// It is over. The slot is freed at the end of the turn, so that the events of this turn
    /// still find whom they speak of.
    Gone,
}

impl Connection {
    pub(crate) fn new(socket: Socket, framer: Framer, origin: Source, since: Time) -> Self {
        Self {
            socket,
            framer,
            out: Outbox::default(),
            undecoded: Vec::new(),
            origin,
            state: State::Open,
            shaking_until: Time(0),
            admitted: false,
            paused: false,
            deaf: false,
            readable: false,
            peer_closed: false,
            blocked: false,
            broken: false,
            wrote: false,
            queued: false,
            dirty: false,
            traced: false,
            since,
            publishes_in: 0,
            publishes_out: 0,
            user: None,
        }
    }

    /// Whether packets are decoded. `out_max` is how many bytes may wait for a peer that sends
    /// without reading; beyond it the peer is not read either.
    pub(crate) fn listens(&self, out_max: usize) -> bool {
        self.state == State::Open && !self.paused && !self.deaf && self.out.len() <= out_max
    }

    /// Whether there is something to decode or to read.
    pub(crate) fn has_input(&self) -> bool {
        (self.readable && !self.socket.is_choked()) || !self.undecoded.is_empty()
    }
}

/// A table of connections with reused slots.
#[derive(Default)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    epoch: u32,
    connection: Option<Connection>,
}

impl Connections {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, connection: Connection) -> ConnId {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.epoch = entry.epoch.wrapping_add(1);
            entry.connection = Some(connection);
            return ConnId { slot, epoch: entry.epoch };
        }
        let slot = u32::try_from(self.slots.len()).expect("file descriptors are fewer");
        self.slots.push(Slot { epoch: 0, connection: Some(connection) });
        ConnId { slot, epoch: 0 }
    }

    /// `None` if the connection is gone; another user of its slot is never returned.
    #[inline]
    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        match self.slots.get_mut(conn.slot as usize) {
            Some(slot) if slot.epoch == conn.epoch => slot.connection.as_mut(),
            _ => None,
        }
    }

    /// All of them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut Connection)> {
        (0..).zip(&mut self.slots).filter_map(|(slot, entry)| {
            let conn = ConnId { slot, epoch: entry.epoch };
            Some((conn, entry.connection.as_mut()?))
        })
    }

    /// `None` if the connection is gone.
    pub(crate) fn get(&self, conn: ConnId) -> Option<&Connection> {
        let slot = self.slots.get(conn.slot as usize)?;
        slot.connection.as_ref().filter(|_| slot.epoch == conn.epoch)
    }

    /// The present user of a slot.
    pub(crate) fn at(&mut self, slot: usize) -> Option<(ConnId, &mut Connection)> {
        let entry = self.slots.get_mut(slot)?;
        let conn = ConnId { slot: u32::try_from(slot).ok()?, epoch: entry.epoch };
        Some((conn, entry.connection.as_mut()?))
    }

    /// Takes a connection out for a moment; its place stays its own.
    pub(crate) fn take(&mut self, conn: ConnId) -> Option<Connection> {
        let entry = self.slots.get_mut(conn.slot as usize)?;
        if entry.epoch == conn.epoch { entry.connection.take() } else { None }
    }

    /// Puts it back.
    pub(crate) fn put_back(&mut self, conn: ConnId, connection: Connection) {
        if let Some(entry) = self.slots.get_mut(conn.slot as usize) {
            entry.connection = Some(connection);
        }
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        let entry = self.slots.get_mut(conn.slot as usize)?;
        if entry.epoch != conn.epoch {
            return None;
        }
        let connection = entry.connection.take()?;
        self.free.push(conn.slot);
        Some(connection)
    }
}
