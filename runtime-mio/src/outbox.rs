//! What a connection still has to write.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use codec::Frame;

use crate::socket::Socket;

/// A payload of at least so many bytes is queued by reference: below it, copying is cheaper than
/// one more slice in a vectored write.
const SHARE_AT: usize = 8 * 1024;

/// Slices of one vectored write.
const SLICES: usize = 16;

/// The bytes that a connection has to write, in order.
///
/// Owns no memory while it is empty.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Small frames and the heads of large ones.
    bytes: Vec<u8>,
    /// So many of `bytes` are written.
    written: usize,
    /// Payloads that lie between those bytes.
    shared: Option<Box<Shared>>,
}

/// Payloads queued by reference.
#[derive(Default)]
struct Shared {
    /// Each with the position in `bytes` before which it is written.
    payloads: VecDeque<(usize, Frame)>,
    /// So many bytes of the first payload are written.
    front_written: usize,
    /// Bytes of all payloads that are not written.
    waiting: usize,
}

/// How a write ended.
pub(crate) enum Flush {
    /// Nothing is left.
    Done,
    /// The socket is full.
    Blocked,
    /// The socket will never take anything again.
    Broken,
}

impl Outbox {
    /// Bytes not written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written + self.shared.as_ref().map_or(0, |shared| shared.waiting)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the payload of this frame is queued by reference.
    #[inline]
    pub(crate) fn shares(frame: &Frame) -> bool {
        frame.payload().len() >= SHARE_AT
    }

    /// Queues a packet that is laid out.
    #[inline]
    pub(crate) fn push_bytes(&mut self, packet: &[u8], spare: &mut Spare) {
        self.buffer(spare).extend_from_slice(packet);
    }

    /// The bytes, in a spare buffer if there are none.
    #[inline]
    fn buffer(&mut self, spare: &mut Spare) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = spare.take();
        }
        &mut self.bytes
    }

    /// Queues a frame.
    pub(crate) fn push(&mut self, frame: Frame, spare: &mut Spare) {
        if !Self::shares(&frame) {
            return frame.encode(self.buffer(spare));
        }
        let payload = frame.payload().len();
        frame.encode_head(self.buffer(spare));
        let shared = self.shared.get_or_insert_default();
        shared.waiting += payload;
        shared.payloads.push_back((self.bytes.len(), frame));
    }

    /// Writes until nothing is left or the socket is full.
    pub(crate) fn write_to(&mut self, socket: &mut Socket, spare: &mut Spare) -> Flush {
        while !self.is_empty() {
            let taken = match &self.shared {
                None => socket.write(&self.bytes[self.written..]),
                Some(shared) => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let count = fill(&mut slices, &self.bytes, self.written, shared);
                    socket.write_vectored(&slices[..count])
                }
            };
            match taken {
                Ok(0) => return Flush::Broken,
                Ok(taken) => self.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.compact();
                    return Flush::Blocked;
                }
                Err(_) => return Flush::Broken,
            }
        }
        self.clear(spare);
        Flush::Done
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self, spare: &mut Spare) {
        spare.put(std::mem::take(&mut self.bytes));
        self.written = 0;
        self.shared = None;
    }

    fn advance(&mut self, mut taken: usize) {
        let Some(shared) = &mut self.shared else {
            self.written += taken;
            return;
        };
        while taken > 0 {
            let cut = shared.payloads.front().map_or(self.bytes.len(), |(cut, _)| *cut);
            let plain = taken.min(cut - self.written);
            self.written += plain;
            taken -= plain;
            if let Some((_, frame)) = shared.payloads.front()
                && taken > 0
            {
                let rest = frame.payload().len() - shared.front_written;
                let part = taken.min(rest);
                taken -= part;
                shared.waiting -= part;
                shared.front_written += part;
                if part == rest {
                    shared.payloads.pop_front();
                    shared.front_written = 0;
                }
            }
        }
    }

    /// Moves what is left to the front once it is the smaller part, so that a connection that is
    /// never quite flushed does not grow.
    fn compact(&mut self) {
        if self.written < self.bytes.len() / 2 {
            return;
        }
        self.bytes.drain(..self.written);
        if let Some(shared) = &mut self.shared {
            for (cut, _) in &mut shared.payloads {
                *cut -= self.written;
            }
        }
        self.written = 0;
    }
}

/// Lists what comes next, in order; returns how many slices are used.
fn fill<'a>(
    slices: &mut [IoSlice<'a>; SLICES],
    bytes: &'a [u8],
    written: usize,
    shared: &'a Shared,
) -> usize {
    let mut count = 0;
    let mut at = written;
    let mut skip = shared.front_written;
    for (cut, frame) in &shared.payloads {
        if count + 2 > SLICES {
            return count;
        }
        if *cut > at {
            slices[count] = IoSlice::new(&bytes[at..*cut]);
            count += 1;
        }
        slices[count] = IoSlice::new(&frame.payload()[skip..]);
        count += 1;
        at = *cut;
        skip = 0;
    }
    if count < SLICES && at < bytes.len() {
        slices[count] = IoSlice::new(&bytes[at..]);
        count += 1;
    }
    count
}

/// Empty buffers of one worker, for whoever has something to write next: a connection owns one
/// only from its first queued frame to the write that empties it.
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
    /// Bytes of all of them.
    kept: usize,
}

impl Spare {
    /// Bytes kept in all: enough for some thousand connections that are written to in one turn,
    /// and little beside what such a worker has anyway.
    const KEPT_MAX: usize = 8 * 1024 * 1024;
    /// Bytes of the largest buffer kept.
    const LARGEST: usize = 64 * 1024;
    /// Bytes of a new buffer.
    const SMALLEST: usize = 512;

    pub(crate) const fn new() -> Self {
        Self { buffers: Vec::new(), kept: 0 }
    }

    fn take(&mut self) -> Vec<u8> {
        let Some(buffer) = self.buffers.pop() else { return Vec::with_capacity(Self::SMALLEST) };
        self.kept -= buffer.capacity();
        buffer
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        if size > 0 && size <= Self::LARGEST && self.kept + size <= Self::KEPT_MAX {
            buffer.clear();
            self.kept += size;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        thread,
    };

    use codec::{Message, Properties, ProtocolVersion};

    use super::*;
    use crate::socket::Stream;

    /// Small and large payloads leave in the order they were queued, through a socket that is
    /// often full, and at the end no memory is owned.
    #[test]
    fn keeps_order_across_copied_and_shared_payloads() {
        let (mut socket, mut reader) = pair();
        let sizes = [0, 10, SHARE_AT - 1, SHARE_AT, 3, 200_000, 300_000, 1, 90_000, 5];
        let mut outbox = Outbox::default();
        let mut spare = Spare::new();
        let mut expected = Vec::new();
        for round in 0..20 {
            for size in sizes {
                let frame = publish(round, size);
                frame.encode(&mut expected);
                outbox.push(frame, &mut spare);
            }
        }
        assert_eq!(outbox.len(), expected.len());

        let length = expected.len();
        let reader = thread::spawn(move || {
            let mut received = vec![0; length];
            reader.read_exact(&mut received).unwrap();
            received
        });
        let mut blocked = 0;
        loop {
            match outbox.write_to(&mut socket, &mut spare) {
                Flush::Done => break,
                Flush::Blocked => blocked += 1,
                Flush::Broken => panic!("the reader is there"),
            }
            thread::yield_now();
        }
        assert!(reader.join().unwrap() == expected, "bytes arrive as queued");
        assert!(blocked > 0, "the socket was full at times");
        assert_eq!((outbox.len(), outbox.bytes.capacity()), (0, 0));
        assert!(outbox.shared.is_none());
    }

    #[test]
    fn a_peer_that_is_always_behind_does_not_make_the_buffer_grow() {
        let (mut socket, mut reader) = pair();
        let mut outbox = Outbox::default();
        let mut spare = Spare::new();
        let mut sink = vec![0; 64 * 1024];
        let mut largest = 0;
        while matches!(outbox.write_to(&mut socket, &mut spare), Flush::Done) {
            outbox.push(publish(0, 5000), &mut spare);
        }
        for round in 0..2000 {
            outbox.push(publish(round, 5000), &mut spare);
            if outbox.len() > 100_000 {
                let _ = reader.read(&mut sink).unwrap();
            }
            outbox.write_to(&mut socket, &mut spare);
            largest = largest.max(outbox.bytes.len());
        }
        assert!(largest < 5_000_000, "10 MB went through, but at most {largest} were held");
    }

    #[test]
    fn a_peer_that_is_gone_breaks_the_write() {
        let (mut socket, reader) = pair();
        drop(reader);
        let mut outbox = Outbox::default();
        let mut spare = Spare::new();
        loop {
            outbox.push(publish(0, 100), &mut spare);
            if let Flush::Broken = outbox.write_to(&mut socket, &mut spare) {
                return;
            }
        }
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let mut spare = Spare::new();
        spare.put(Vec::with_capacity(Spare::LARGEST + 1));
        assert_eq!(spare.kept, 0, "too large to be kept");
        for _ in 0..1000 {
            spare.put(Vec::with_capacity(Spare::LARGEST));
        }
        assert_eq!(spare.kept, Spare::KEPT_MAX);
        while !spare.buffers.is_empty() {
            spare.take();
        }
        assert_eq!(spare.kept, 0);
    }

    fn publish(topic: usize, size: usize) -> Frame {
        let payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let message = Message::new(&topic.to_string(), &Properties::default(), &payload).unwrap();
        let version = ProtocolVersion::V311;
        Frame::Publish { message, version, flags: 0, packet_id: 0, expiry_s: 0 }
    }

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        writer.set_nonblocking(true).unwrap();
        let (reader, _) = listener.accept().unwrap();
        (Socket::Plain(Stream::Tcp(mio::net::TcpStream::from_std(writer))), reader)
    }
}
