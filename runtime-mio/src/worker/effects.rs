//! From the shard to the world.

use std::mem;

use codec::{Connect, Frame};
use session_core::{Cause, ConnId, Crowd, Effect, Input, ShardId};

use super::{FLUSH_BYTES, LINGER_MS, Worker};
use crate::{
    Counter,
    connection::State,
    mailbox::{Handover, Post},
    outbox::{Outbox, Spare},
};

/// A connection that leaves for another worker.
pub(super) struct Leaving {
    conn: ConnId,
    connect: Box<Connect>,
    to: ShardId,
}

impl Worker {
    /// Gives the shard an input and carries out what it wants, and whatever follows from that.
    pub(super) fn handle(&mut self, input: Input) {
        self.shard.handle(self.now, input, &mut self.effects);
        self.carry_out();
        while let Some(input) = self.inputs.pop_front() {
            self.shard.handle(self.now, input, &mut self.effects);
            self.carry_out();
        }
    }

    /// Carries out the effects at hand, in order.
    pub(super) fn carry_out(&mut self) {
        let mut effects = mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { conn, frame } => self.send(conn, frame),
                effect => self.carry_out_rare(effect),
            }
        }
        self.effects = effects;
    }

    fn carry_out_rare(&mut self, effect: Effect) {
        match effect {
            Effect::Send { conn, frame } => self.send(conn, frame),
            Effect::SendMany(crowd) => self.send_many(*crowd),
            Effect::Close { conn, cause } => self.close(conn, &cause),
            Effect::Pause { conn } => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    connection.paused = true;
                }
            }
            Effect::Resume { conn } => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    connection.paused = false;
                    self.queue(conn);
                }
            }
            Effect::Move { conn, connect, to } => {
                if let Some(connection) = self.connections.get_mut(conn)
                    && connection.state == State::Open
                {
                    connection.state = State::Leaving;
                    self.leaving.push(Leaving { conn, connect, to });
                }
            }
            Effect::Persist { seq, record } => {
                self.services.append(seq, record);
                self.config.board.add(Counter::Records, 1);
                self.uncommitted = Some(seq);
            }
            Effect::Load(load) => {
                if let Some(loaded) = self.services.load(*load) {
                    self.inputs.push_back(Input::Loaded(loaded));
                }
            }
            Effect::Tell { to, msg } => self.post(to, Post::Told(msg)),
            Effect::Ask { ticket, request } => {
                if let Some(answer) = self.services.ask(ticket, request) {
                    self.inputs.push_back(Input::Answer { ticket, answer });
                }
            }
            Effect::Reply { ticket, reply } => {
                if !self.replied(ticket, &reply) {
                    self.services.reply(ticket, reply);
                }
            }
            Effect::Note(event) => self.note(&event),
        }
    }

    #[inline]
    fn send(&mut self, conn: ConnId, frame: Frame) {
        if let Some((message, qos)) = frame.published() {
            self.config.board.delivered(qos, message.payload().len(), 1);
            self.config.sampler.see(message, &self.config.board);
            return self.queue_frame(conn, frame, 1);
        }
        self.queue_frame(conn, frame, 0);
    }

    /// `publishes` is 1 if it is a PUBLISH.
    #[inline]
    fn queue_frame(&mut self, conn: ConnId, frame: Frame, publishes: u64) {
        if !self.traces.is_empty() {
            self.trace_frame(conn, &frame);
        }
        self.config.board.add(Counter::PacketsOut, 1);
        self.queue_bytes(conn, publishes, |out, spare| out.push(frame, spare));
    }

    /// Lays the packet out once and copies it to all, each with its Packet Identifier.
    fn send_many(&mut self, crowd: Crowd) {
        let Crowd { conns, frame } = crowd;
        if let Some((message, qos)) = frame.published() {
            self.config.board.delivered(qos, message.payload().len(), conns.len());
            self.config.sampler.see(message, &self.config.board);
        }
        if Outbox::shares(&frame) || !self.traces.is_empty() {
            for (conn, packet_id) in conns {
                self.queue_frame(conn, frame.with_packet_id(packet_id), 1);
            }
            return;
        }
        self.config.board.add(Counter::PacketsOut, conns.len());
        let mut bytes = mem::take(&mut self.laid_out);
        frame.encode(&mut bytes);
        let packet_id_at = frame.packet_id_at().unwrap_or(bytes.len());
        for (conn, packet_id) in conns {
            if let Some(packet_id) = packet_id
                && let Some(place) = bytes.get_mut(packet_id_at..packet_id_at + 2)
            {
                place.copy_from_slice(&packet_id.get().to_be_bytes());
            }
            self.queue_bytes(conn, 1, |out, spare| out.push_bytes(&bytes, spare));
        }
        bytes.clear();
        self.laid_out = bytes;
    }

    #[inline]
    fn queue_bytes(
        &mut self,
        conn: ConnId,
        publishes: u64,
        push: impl FnOnce(&mut Outbox, &mut Spare),
    ) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.state != State::Open || connection.broken {
            return;
        }
        connection.publishes_out += publishes;
        let before = connection.out.len();
        push(&mut connection.out, &mut self.spare);
        let waiting = connection.out.len();
        self.spent += waiting - before;
        if connection.blocked {
            return;
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(conn);
        }
        if before < FLUSH_BYTES && waiting >= FLUSH_BYTES {
            self.full.push(conn);
        }
    }

    /// The flush that follows closes once everything is written.
    fn close(&mut self, conn: ConnId, cause: &Cause) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.state != State::Open {
            return;
        }
        // A peer that has said goodbye, and nothing behind it, sends nothing that the kernel would
        // answer with a reset: what was written so far is safe. TLS and WebSocket have words of their own to come.
        let said_goodbye =
            matches!(cause, Cause::Disconnected(_)) && !connection.socket.is_layered();
        if said_goodbye && (connection.peer_closed || !connection.readable) {
            connection.wrote = false;
        }
        connection.state = State::Closing;
        connection.undecoded = Vec::new();
        self.closing.push_back((self.now.plus_ms(LINGER_MS), conn));
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(conn);
        }
    }

    fn post(&mut self, to: ShardId, post: Post) {
        if let Some(posts) = self.posts.get_mut(usize::from(to.0)) {
            posts.push(post);
        }
    }

    /// Puts the connections that leave into the mail. It is done when their undecoded bytes are
    /// put aside, so never inside `handle`.
    pub(super) fn hand_over(&mut self) {
        for Leaving { conn, connect, to } in mem::take(&mut self.leaving) {
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            if connection.state != State::Leaving {
                continue;
            }
            // Should it fail, the other worker's registration still holds.
            let _ = connection.socket.deregister(self.poll.registry());
            let Some(mut connection) = self.connections.remove(conn) else { continue };
            connection.state = State::Open;
            connection.paused = false;
            connection.readable = false;
            connection.peer_closed = false;
            connection.blocked = false;
            connection.queued = false;
            connection.dirty = false;
            self.post(to, Post::Moved(Box::new(Handover { connection, connect })));
        }
    }
}
