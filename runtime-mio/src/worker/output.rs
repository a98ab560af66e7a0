//! From queues to sockets.

use std::{io, mem};

use session_core::{ConnId, Input};

use super::Worker;
use crate::{Counter, connection::State, outbox::Flush};

/// What is written may free credit, which makes more to write: so often in one turn.
const ROUNDS: usize = 2;

impl Worker {
    /// Writes to connections that have so much to write that it shall not wait.
    #[inline]
    pub(super) fn flush_full(&mut self) {
        if !self.full.is_empty() {
            for conn in mem::take(&mut self.full) {
                self.flush(conn);
            }
        }
    }

    /// Writes to every connection that has something to write.
    pub(super) fn flush_dirty(&mut self) {
        self.full.clear();
        for _ in 0..ROUNDS {
            let mut dirty = mem::take(&mut self.dirty);
            for conn in dirty.drain(..) {
                let Some(connection) = self.connections.get_mut(conn) else { continue };
                connection.dirty = false;
                self.flush(conn);
            }
            if !self.dirty.is_empty() {
                continue;
            }
            self.dirty = dirty;
            break;
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.blocked || connection.state == State::Gone {
            return;
        }
        let waiting = connection.out.len();
        let was_choked = connection.socket.is_choked();
        if waiting > 0 {
            match connection.out.write_to(&mut connection.socket, &mut self.spare) {
                Flush::Done => {}
                Flush::Blocked => connection.blocked = true,
                Flush::Broken => return self.break_off(conn),
            }
        }
        let taken = waiting - connection.out.len();
        connection.wrote |= taken > 0;
        self.config.board.add(Counter::BytesOut, taken);
        if connection.socket.wants_flush() {
            match connection.socket.flush() {
                Ok(()) => connection.blocked = connection.socket.wants_flush(),
                Err(_) => return self.break_off(conn),
            }
        }
        if was_choked {
            self.queue(conn);
        }
        let Some(connection) = self.connections.get_mut(conn) else { return };
        match connection.state {
            State::Open if taken > 0 => {
                let bytes = u32::try_from(taken).unwrap_or(u32::MAX);
                self.handle(Input::Sent { conn, bytes });
                self.queue(conn);
            }
            State::Closing if connection.out.is_empty() && !connection.blocked => {
                self.half_close(conn);
            }
            _ => {}
        }
    }

    /// Nothing can be written any more. What the peer sent before it went is read to its end, which says Closed.
    fn break_off(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.broken = true;
        connection.readable = true;
        connection.out.clear(&mut self.spare);
        if !connection.queued {
            connection.queued = true;
            self.ready.push_back(conn);
        }
        if connection.state == State::Closing {
            self.end(conn);
        }
    }

    /// Everything is written to a connection that the shard closed: the peer is told, and its own
    /// end is awaited, since closing before it could destroy what it has not read.
    fn half_close(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if !connection.wrote {
            return self.end(conn);
        }
        match connection.socket.shutdown_write() {
            Ok(()) => self.queue(conn),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.blocked = true,
            Err(_) => self.end(conn),
        }
    }
}
