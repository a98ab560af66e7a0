//! The least that moves the same bytes: a server that is no broker. It keeps no sessions, checks
//! nothing and forgets what it acknowledged; one thread reads, copies each PUBLISH to its receivers
//! and writes each buffer once for all that came at once. What a broker costs beyond it is the price
//! of being one.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use crate::Result;
use crate::rig::packet;

const LISTENER: Token = Token(usize::MAX);

/// Serves one loopback port until it is killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    Floor::default().serve(port)
}

#[derive(Default)]
struct Floor {
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    subscriptions: Subscriptions,
    /// Clients with something to write.
    dirty: Vec<usize>,
    /// Does with the copies of a message what a faulty broker might.
    #[cfg(test)]
    mischief: Option<fn(&mut Vec<u8>, usize)>,
}

impl Floor {
    fn serve(mut self, port: u16) -> Result<()> {
        let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        loop {
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept(&listener, poll.registry())?;
                } else {
                    self.read(event.token().0, &mut buffer);
                }
            }
            self.flush();
        }
    }
}

struct Client {
    stream: TcpStream,
    /// The beginning of a packet whose rest has not come.
    partial: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    is_dirty: bool,
    is_v5: bool,
    last_id: u16,
}

/// Who gets a topic: clients by filter, which is a topic or ends with the level `+`.
#[derive(Default)]
struct Subscriptions {
    exact: HashMap<Vec<u8>, Vec<usize>>,
    /// By what stands before the last level.
    plus: HashMap<Vec<u8>, Vec<usize>>,
}

impl Subscriptions {
    fn add(&mut self, filter: &[u8], client: usize) {
        let clients = match filter.strip_suffix(b"+") {
            Some(parent) => self.plus.entry(parent.to_vec()),
            None => self.exact.entry(filter.to_vec()),
        };
        clients.or_default().push(client);
    }

    fn remove(&mut self, client: usize) {
        for clients in self.exact.values_mut().chain(self.plus.values_mut()) {
            clients.retain(|&other| other != client);
        }
    }

    fn of<'a>(&'a self, topic: &[u8]) -> impl Iterator<Item = usize> + 'a {
        let exact = self.exact.get(topic).into_iter().flatten();
        // Through the last slash; without one, everything.
        let parent = topic.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let plus = if self.plus.is_empty() { None } else { self.plus.get(&topic[..parent]) };
        exact.chain(plus.into_iter().flatten()).copied()
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> Result<()> {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or(self.clients.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(at), interest)?;
            let client = Client {
                stream,
                partial: Vec::new(),
                out: Vec::new(),
                sent: 0,
                is_dirty: false,
                is_v5: false,
                last_id: 0,
            };
            if at == self.clients.len() {
                self.clients.push(Some(client));
            } else {
                self.clients[at] = Some(client);
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        loop {
            let Some(client) = self.clients.get_mut(at).and_then(Option::as_mut) else { return };
            let count = match client.stream.read(buffer) {
                Ok(0) => return self.close(at),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.close(at),
            };
            let partial = std::mem::take(&mut client.partial);
            let left = if partial.is_empty() {
                let used = self.take_all(at, &buffer[..count]);
                buffer[used..count].to_vec()
            } else {
                let mut whole = partial;
                whole.extend_from_slice(&buffer[..count]);
                let used = self.take_all(at, &whole);
                whole.drain(..used);
                whole
            };
            match &mut self.clients[at] {
                Some(client) => client.partial = left,
                None => return,
            }
            // A short read has emptied the socket.
            if count < buffer.len() {
                break;
            }
        }
        self.mark(at);
    }

    /// Takes whole packets and returns how many bytes they were.
    fn take_all(&mut self, at: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some((first, body, whole)) = packet::cut(&bytes[used..]) {
            if self.take(at, first, body, &bytes[used..used + whole]).is_none() {
                self.close(at);
                return bytes.len();
            }
            used += whole;
        }
        used
    }

    /// Answers one packet; `None` if its sender is to be closed.
    fn take(&mut self, at: usize, first: u8, body: &[u8], whole: &[u8]) -> Option<()> {
        if first & 0xF0 == packet::PUBLISH {
            return self.forward(at, first, body, whole);
        }
        let client = self.clients[at].as_mut()?;
        match first {
            0x10 => {
                client.is_v5 = *body.get(6)? == 5;
                let answer: &[u8] =
                    if client.is_v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
                client.out.extend(answer);
            }
            0x82 => {
                let mut answer = body.get(..2)?.to_vec();
                let mut rest = body.get(2..)?;
                if client.is_v5 {
                    answer.push(0);
                    rest = rest.get(1 + usize::from(*rest.first()?)..)?;
                }
                while let Some(bytes) = packet::identifier(rest) {
                    let (filter, more) = rest[2..].split_at_checked(usize::from(bytes))?;
                    let (&options, more) = more.split_first()?;
                    self.subscriptions.add(filter, at);
                    answer.push(options & 3);
                    rest = more;
                }
                client.out.extend(packet::packet(packet::SUBACK, &answer));
            }
            0xC0 => client.out.extend(packet::PINGRESP),
            0xE0 => return None,
            _ => {}
        }
        Some(())
    }

    /// Copies a PUBLISH to its receivers and acknowledges it.
    fn forward(&mut self, at: usize, first: u8, body: &[u8], whole: &[u8]) -> Option<()> {
        let topic_bytes = usize::from(packet::identifier(body)?);
        let topic = body.get(2..2 + topic_bytes)?;
        let has_id = first & 0x06 != 0;
        if has_id {
            let id = packet::identifier(body.get(2 + topic_bytes..)?)?;
            packet::acknowledge(&mut self.clients[at].as_mut()?.out, packet::PUBACK, id);
        }
        for receiver in self.subscriptions.of(topic) {
            let Some(client) = self.clients[receiver].as_mut() else { continue };
            let begin = client.out.len();
            client.out.extend_from_slice(whole);
            if has_id {
                client.last_id = client.last_id.checked_add(1).unwrap_or(1);
                let id = begin + whole.len() - body.len() + 2 + topic_bytes;
                client.out[id..id + 2].copy_from_slice(&client.last_id.to_be_bytes());
            }
            #[cfg(test)]
            if let Some(mischief) = self.mischief {
                mischief(&mut client.out, begin);
            }
            if !client.is_dirty {
                client.is_dirty = true;
                self.dirty.push(receiver);
            }
        }
        Some(())
    }

    fn mark(&mut self, at: usize) {
        if let Some(client) = &mut self.clients[at]
            && !client.out.is_empty()
            && !client.is_dirty
        {
            client.is_dirty = true;
            self.dirty.push(at);
        }
    }

    /// Writes what waits, once for each client.
    fn flush(&mut self) {
        for at in std::mem::take(&mut self.dirty) {
            let Some(client) = &mut self.clients[at] else { continue };
            client.is_dirty = false;
            if client.flush().is_err() {
                self.close(at);
            }
        }
    }

    fn close(&mut self, at: usize) {
        if self.clients[at].take().is_some() {
            self.subscriptions.remove(at);
            self.free.push(at);
        }
    }
}

impl Client {
    /// Writes what the socket takes. An event tells when it takes more.
    fn flush(&mut self) -> std::io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::rig::broker::free_port;
    use crate::rig::ledger::Faults;
    use crate::rig::load::Load;
    use crate::rig::plan::Plan;

    /// What a load of 200 deliveries finds wrong.
    fn faults(qos: u8, mischief: Option<fn(&mut Vec<u8>, usize)>) -> Faults {
        let port = free_port().expect("a port");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        thread::spawn(move || Floor { mischief, ..Floor::default() }.serve(port).expect("serves"));
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        let plan = Plan { qos, ..Plan::uniform(2, 1, 2) };
        let mut load = Load::connect(address, &plan).expect("connected");
        load.run(50);
        load.faults()
    }

    /// The sequence number of the message that begins there, without an identifier.
    fn sequence(out: &[u8], begin: usize) -> u32 {
        let label = begin + 2 + 2 + "bench/0/0".len();
        u32::from_be_bytes(out[label + 4..label + 8].try_into().expect("four bytes"))
    }

    #[test]
    fn a_load_finds_nothing_wrong_with_the_floor() {
        assert_eq!(faults(0, None), Faults::default());
        assert_eq!(faults(1, None), Faults::default());
    }

    #[test]
    fn a_load_finds_what_is_lost() {
        let found = faults(
            0,
            Some(|out, begin| {
                if sequence(out, begin) == 7 {
                    out.truncate(begin);
                }
            }),
        );
        assert_eq!(found, Faults { lost: 4, ..Faults::default() });
    }

    #[test]
    fn a_load_finds_what_is_doubled() {
        let found = faults(
            0,
            Some(|out, begin| {
                if sequence(out, begin) == 7 {
                    out.extend_from_within(begin..);
                }
            }),
        );
        assert_eq!(found, Faults { duplicated: 4, ..Faults::default() });
    }

    #[test]
    fn a_load_finds_what_is_late() {
        let found = faults(
            0,
            Some(|out, begin| {
                // The eighth and the message before it change places.
                let bytes = out.len() - begin;
                if sequence(out, begin) == 7 && begin >= bytes {
                    out[begin - bytes..].rotate_left(bytes);
                }
            }),
        );
        assert_eq!(found, Faults { misordered: 4, ..Faults::default() });
    }

    #[test]
    fn a_load_finds_what_is_changed() {
        let found = faults(
            0,
            Some(|out, begin| {
                if sequence(out, begin) == 7 {
                    *out.last_mut().expect("a message") = 0;
                }
            }),
        );
        assert!(found.broken > 0);
    }

    fn receivers(subscriptions: &Subscriptions, topic: &str) -> Vec<usize> {
        subscriptions.of(topic.as_bytes()).collect()
    }

    #[test]
    fn topics_and_a_last_level_are_matched() {
        let mut subscriptions = Subscriptions::default();
        for (client, filter) in ["a/b", "a/+", "+", "a/b", "a/b/+"].iter().enumerate() {
            subscriptions.add(filter.as_bytes(), client);
        }
        assert_eq!(receivers(&subscriptions, "a/b"), [0, 3, 1]);
        assert_eq!(receivers(&subscriptions, "a/c"), [1]);
        assert_eq!(receivers(&subscriptions, "a"), [2]);
        assert_eq!(receivers(&subscriptions, "a/b/c"), [4]);
        assert_eq!(receivers(&subscriptions, "b/b/c"), [0; 0]);
        subscriptions.remove(3);
        subscriptions.remove(1);
        assert_eq!(receivers(&subscriptions, "a/b"), [0]);
    }
}
