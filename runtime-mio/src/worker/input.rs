//! From sockets to the shard.

use std::{io, mem};

use codec::{Framer, Packet, Role};
use mio::{Events, Token};
use session_core::{ConnId, Input, Origin, Transport};
use tracing::{info, warn};

use super::{ACCEPT, FIRST_READ_BYTES, TURN_BYTES, WAKE, Worker};
use crate::{
    Counter,
    connection::{Connection, Source, State},
    layers::{Layered, Shaken},
    mailbox::Handover,
    note,
    socket::{Socket, Stream},
};

impl Worker {
    /// Takes a connection that the acceptor made.
    pub(super) fn accept(&mut self, stream: Stream, source: Source) {
        if self.stop_at.is_some() {
            return;
        }
        self.config.board.add(Counter::Accepted, 1);
        let door = self.config.doors.get(source.door);
        let patience_ms = door.fittings.handshake_timeout_ms;
        let socket = if door.fittings.layers.is_nothing() {
            Socket::Plain(stream)
        } else {
            match Layered::new(stream, &door.fittings.layers, source.peer) {
                Ok(layered) => Socket::Layered(Box::new(layered)),
                Err(error) => return self.turned_away(source, &error.to_string()),
            }
        };
        let limits = &self.config.shard.limits;
        let framer =
            Framer::new(Role::Server, limits.connect_packet_bytes_max, limits.packet_bytes_max);
        let is_plain = matches!(socket, Socket::Plain(_));
        let mut connection = Connection::new(socket, framer, source, self.now);
        if !connection.socket.awaits_address() && !self.admit_or_tell(&mut connection) {
            return;
        }
        let Some(conn) = self.watch(connection) else { return };
        if is_plain {
            return self.open(conn);
        }
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.state = State::Shaking;
            connection.shaking_until = self.now.plus_ms(patience_ms);
            self.shaking.insert((connection.shaking_until, conn));
        }
    }

    /// Whether a connection may begin, now that it is known where it comes from.
    fn admit_or_tell(&self, connection: &mut Connection) -> bool {
        let Some(doorkeeper) = &self.config.doorkeeper else { return true };
        let source = connection.origin;
        let door = self.config.doors.get(source.door);
        match doorkeeper.admit(&door.name, source.peer.map(|peer| peer.ip())) {
            Ok(()) => {
                connection.admitted = true;
                true
            }
            Err(why) => {
                self.turned_away(source, why);
                false
            }
        }
    }

    /// Tells the doorkeeper of an end, if it was asked at the beginning.
    pub(super) fn tell_left(&self, connection: &mut Connection) {
        if let Some(doorkeeper) = &self.config.doorkeeper
            && mem::take(&mut connection.admitted)
        {
            let source = connection.origin;
            let door = self.config.doors.get(source.door);
            doorkeeper.left(&door.name, source.peer.map(|peer| peer.ip()));
        }
    }

    /// A proxy has told where a connection comes from; whether it may begin.
    fn admit_told(&mut self, conn: ConnId) -> bool {
        let Some(mut connection) = self.connections.take(conn) else { return false };
        if let Some(peer) = connection.socket.told_peer() {
            connection.origin.peer = Some(peer);
        }
        let may_begin = self.admit_or_tell(&mut connection);
        self.connections.put_back(conn, connection);
        may_begin
    }

    /// Takes a connection that another worker hands over.
    pub(super) fn admit(&mut self, handover: Handover) {
        if self.stop_at.is_some() {
            return;
        }
        if let Some(conn) = self.watch(handover.connection) {
            self.open(conn);
            let packet = Packet::Connect(handover.connect);
            if !self.traces.is_empty() {
                self.trace_arrival(conn, &packet);
            }
            self.handle(Input::Packet { conn, packet });
            self.queue(conn);
        }
    }

    fn watch(&mut self, mut connection: Connection) -> Option<ConnId> {
        let source = connection.origin;
        // The kernel does not tell of what a layer has.
        connection.readable = connection.socket.is_layered();
        let conn = self.connections.insert(connection);
        let connection = self.connections.get_mut(conn)?;
        let token = Token(conn.slot as usize);
        if let Err(error) = connection.socket.register(self.poll.registry(), token) {
            warn!(peer = ?source.peer, %error, "cannot watch a connection; it is closed");
            if let Some(mut connection) = self.connections.remove(conn) {
                self.tell_left(&mut connection);
            }
            return None;
        }
        Some(conn)
    }

    /// Tells the shard of a connection.
    fn open(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let source = connection.origin;
        let door = self.config.doors.get(source.door);
        let mut origin = Box::new(Origin {
            listener: door.name.clone(),
            peer: source.peer,
            transport: if door.is_unix { Transport::Unix } else { Transport::Tcp },
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        });
        connection.socket.describe(&mut origin);
        self.handle(Input::Opened { conn, origin, credit: self.config.credit });
    }

    /// Goes on with what comes before MQTT.
    fn shake(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.readable = false;
        match connection.socket.shake() {
            Ok(Shaken::Told) => {
                if self.admit_told(conn) {
                    return self.shake(conn);
                }
                self.end_shaking(conn);
            }
            Ok(Shaken::Waiting) => {
                connection.blocked = connection.socket.wants_flush();
                connection.readable = connection.socket.holds_more();
                self.queue(conn);
            }
            Ok(Shaken::Done) => {
                connection.blocked = connection.socket.wants_flush();
                connection.state = State::Open;
                connection.readable = true;
                // Its end is told in words, which a reset could destroy.
                connection.wrote = true;
                self.shaking.remove(&(connection.shaking_until, conn));
                self.open(conn);
                self.queue(conn);
            }
            Err(error) => {
                self.shaking.remove(&(connection.shaking_until, conn));
                self.give_up_shaking(conn, &error.to_string());
            }
        }
    }

    /// A connection ends before MQTT began.
    pub(super) fn give_up_shaking(&mut self, conn: ConnId, why: &str) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.state == State::Shaking {
            let source = connection.origin;
            self.turned_away(source, why);
            self.end(conn);
        }
    }

    fn end_shaking(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            self.shaking.remove(&(connection.shaking_until, conn));
            self.end(conn);
        }
    }

    /// Takes note of what the kernel says. Slots are freed at the end of a turn only, and a closed
    /// socket has no events, so each event finds the connection that it speaks of.
    pub(super) fn take_events(&mut self, events: &Events) {
        for event in events {
            if matches!(event.token(), WAKE | ACCEPT) {
                continue;
            }
            let Some((conn, connection)) = self.connections.at(event.token().0) else { continue };
            if event.is_writable() && connection.blocked {
                connection.blocked = false;
                if !connection.dirty {
                    connection.dirty = true;
                    self.dirty.push(conn);
                }
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                connection.readable = true;
                connection.peer_closed |= event.is_read_closed() || event.is_error();
                if !connection.queued {
                    connection.queued = true;
                    self.ready.push_back(conn);
                }
            }
        }
    }

    /// Has a connection served if it has input that is wanted.
    pub(super) fn queue(&mut self, conn: ConnId) {
        let out_max = self.out_max();
        if let Some(connection) = self.connections.get_mut(conn)
            && !connection.queued
            && connection.has_input()
            && (matches!(connection.state, State::Closing | State::Shaking)
                || connection.listens(out_max))
        {
            connection.queued = true;
            self.ready.push_back(conn);
        }
    }

    /// Serves each connection that has input once, until the turn has done enough.
    pub(super) fn serve_ready(&mut self) {
        let mut buffer = mem::take(&mut self.buffer);
        for _ in 0..self.ready.len() {
            if self.spent >= TURN_BYTES {
                break;
            }
            let Some(conn) = self.ready.pop_front() else { break };
            self.serve(conn, &mut buffer);
        }
        self.buffer = buffer;
    }

    fn serve(&mut self, conn: ConnId, buffer: &mut [u8]) {
        let out_max = self.out_max();
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.queued = false;
        if connection.state == State::Shaking {
            return self.shake(conn);
        }
        if connection.state == State::Closing {
            return self.drain(conn, buffer);
        }
        if !connection.listens(out_max) {
            if connection.broken {
                // Nobody can say what lifts a pause on a connection that nobody can write to.
                self.lose(conn);
            }
            return;
        }
        if !connection.undecoded.is_empty() {
            let bytes = mem::take(&mut connection.undecoded);
            self.decode(conn, &bytes);
        } else if connection.readable && !connection.socket.is_choked() {
            let room = match connection.framer.version() {
                None => FIRST_READ_BYTES,
                Some(_) => buffer.len(),
            };
            match self.read(conn, &mut buffer[..room]) {
                Some(0) => return self.lose(conn),
                Some(count) => {
                    self.spent += count;
                    self.config.board.add(Counter::BytesIn, count);
                    self.decode(conn, &buffer[..count]);
                }
                None => {}
            }
        }
        self.hand_over();
        self.queue(conn);
    }

    /// Reads once. `Some(0)` is the end of the connection, however it came; `None` is nothing yet.
    fn read(&mut self, conn: ConnId, buffer: &mut [u8]) -> Option<usize> {
        let connection = self.connections.get_mut(conn)?;
        let read = connection.socket.read(buffer, connection.framer.version().is_some());
        // A layer may have had to answer what it read.
        if connection.socket.wants_flush() && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(conn);
        }
        match read {
            Ok(count) => {
                // A short read found the socket empty, and the kernel will tell of what comes
                // after it, except of an end that it has told of already.
                if count < buffer.len()
                    && !connection.peer_closed
                    && !connection.socket.holds_more()
                {
                    connection.readable = false;
                }
                Some(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !connection.broken => {
                connection.readable = false;
                None
            }
            Err(_) => Some(0),
        }
    }

    /// Hands packets to the shard as long as it wants them, and keeps the rest.
    fn decode(&mut self, conn: ConnId, mut input: &[u8]) {
        let out_max = self.out_max();
        loop {
            let Some(connection) = self.connections.get_mut(conn) else { return };
            if !connection.listens(out_max) || self.spent >= TURN_BYTES {
                if matches!(connection.state, State::Open | State::Leaving) && !connection.deaf {
                    connection.undecoded = input.to_vec();
                }
                return;
            }
            match connection.framer.decode(&mut input) {
                Ok(Some(packet)) => {
                    connection.publishes_in += u64::from(matches!(packet, Packet::Publish(_)));
                    self.count_packet(conn, &packet);
                    self.handle(Input::Packet { conn, packet });
                }
                Ok(None) => return,
                Err(error) => {
                    connection.deaf = true;
                    let version = connection.framer.version();
                    return self.handle(Input::Malformed { conn, error, version });
                }
            }
            self.flush_full();
        }
    }

    /// Throws away what a closed connection still sends, so that the kernel does not answer it
    /// with a reset, which could destroy the last packet on its way to the peer.
    fn drain(&mut self, conn: ConnId, buffer: &mut [u8]) {
        match self.read(conn, buffer) {
            Some(0) => self.end(conn),
            read => {
                self.spent += read.unwrap_or_default();
                self.queue(conn);
            }
        }
    }

    /// The connection ended from outside.
    fn lose(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let known = connection.state == State::Open;
        self.end(conn);
        if known {
            self.handle(Input::Closed { conn });
        }
    }

    /// Forgets the connection at the end of this turn.
    pub(super) fn end(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn)
            && connection.state != State::Gone
        {
            connection.state = State::Gone;
            connection.out.clear(&mut self.spare);
            connection.undecoded = Vec::new();
            self.gone.push(conn);
        }
    }

    /// Bytes that may wait for a peer before it is not read any more. Beyond its credit it gets
    /// only replies to what it sends.
    pub(super) fn out_max(&self) -> usize {
        self.config.credit as usize * 2
    }

    /// A line for who does not get as far as MQTT: whoever scans ports is no news, so it is no warning.
    fn turned_away(&self, source: Source, why: &str) {
        self.config.board.add(Counter::TurnedAway, 1);
        let door = self.config.doors.get(source.door);
        info!(peer = %note::Peer(source.peer), listener = %door.name, why, "turned away");
    }
}
