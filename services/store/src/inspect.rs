//! Looking into a data directory without a broker.

use std::{collections::BTreeMap, io, path::Path};

use codec::{PacketId, Will};
use session_core::{MsgId, Publication, Queued, Retained, ShardId, Subscription, Time};

use crate::{
    Files, Folder, Lsm, StoreError,
    engine::{Engine, Found},
    folder::DataFolder,
    keys::{self, Sid, kind},
    recovery,
    rows::Rows,
    subjects::Subjects,
    values::{self, Exchange, Identity, Lifetime},
    wire::Reader,
};

/// One thing that is stored.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Item {
    Session {
        client_id: Box<str>,
        expiry_s: u32,
        ends: Option<Time>,
    },
    Will {
        client_id: Box<str>,
        will: Will,
        due: Option<Time>,
    },
    Subscription {
        client_id: Box<str>,
        filter: Box<str>,
        subscription: Subscription,
    },
    /// An outbound exchange; `released` if only PUBCOMP is missing.
    Exchange {
        client_id: Box<str>,
        packet_id: PacketId,
        place: u64,
        released: bool,
    },
    /// A message that waits for a session, or is in an exchange with it.
    Message {
        client_id: Box<str>,
        queued: Queued,
    },
    /// A QoS 2 message that its client has not released.
    Held {
        client_id: Box<str>,
        packet_id: PacketId,
        publication: Publication,
    },
    /// A publication that not all receivers have.
    Owed {
        message: MsgId,
        publication: Publication,
    },
    Retained(Retained),
}

/// What a data directory holds, and in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Messages that wait for them or are in exchanges.
    pub messages: u64,
    /// Bytes of these.
    pub message_bytes: u64,
    /// Retained messages.
    pub retained: u64,
    /// Everything else: Wills, exchanges, QoS 2 messages in between.
    pub others: u64,
    /// What is there and cannot be read, in words.
    pub losses: Vec<String>,
    /// Bytes at the end of the log that were not written whole.
    pub torn_bytes: u64,
    /// Bytes of the tables.
    pub table_bytes: u64,
}

/// Files that are read and never changed.
struct ReadOnly(Folder);

impl Files for ReadOnly {
    fn list(&mut self) -> io::Result<Vec<u64>> {
        self.0.list()
    }

    fn read(&mut self, segment: u64) -> io::Result<Vec<u8>> {
        self.0.read(segment)
    }

    fn create(&mut self, _segment: u64, _header: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, _segment: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _segment: u64) -> io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, _name: &str, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a data directory that no broker uses, shows everything in it, and changes nothing of what it
/// holds.
///
/// # Errors
/// It is no data directory, in use, newer, or the system refuses.
pub fn inspect(path: &Path, visit: impl FnMut(Item)) -> Result<Report, StoreError> {
    let folder = DataFolder::take(path, false)?;
    let tables = Lsm::open(&folder.tables())?;
    let table_bytes = tables.disk_bytes();
    let files = ReadOnly(Folder::new(folder.log(), folder.quarantine()));
    let (engine, Found { losses, torn_bytes, .. }) = Engine::open(files, tables)?;
    let mut report = Report { losses, torn_bytes, table_bytes, ..Report::default() };
    Inspection { rows: engine.rows(), report: &mut report, visit, clients: BTreeMap::new() }.run();
    Ok(report)
}

struct Inspection<'a, V> {
    rows: &'a Rows<Lsm>,
    report: &'a mut Report,
    visit: V,
    clients: BTreeMap<Sid, Box<str>>,
}

impl<V: FnMut(Item)> Inspection<'_, V> {
    fn run(&mut self) {
        self.each(kind::IDENTITY, |this, key, value| {
            let client_id = Identity::decode(value)?.client_id;
            this.clients.insert(Sid(key.u64()?), client_id);
            Some(None)
        });
        self.each_of_client(kind::LIFETIME, |client_id, _, value| {
            let Lifetime { expiry_s, ends } = Lifetime::decode(value)?;
            Some(Item::Session { client_id, expiry_s, ends })
        });
        self.each_of_client(kind::WILL, |client_id, _, value| {
            let (will, due) = values::decode_will(value)?;
            Some(Item::Will { client_id, will, due })
        });
        self.each_of_client(kind::SUBSCRIPTION, |client_id, key, value| {
            let filter = std::str::from_utf8(key.rest()).ok()?.into();
            let subscription = values::decode_subscription(value)?;
            Some(Item::Subscription { client_id, filter, subscription })
        });
        self.each_of_client(kind::EXCHANGE, |client_id, key, value| {
            let Exchange { place, released } = Exchange::decode(value)?;
            let packet_id = keys::packet_id(key)?;
            Some(Item::Exchange { client_id, packet_id, place: place.number, released })
        });
        let rows = self.rows;
        self.each_of_client(kind::QUEUED, |client_id, key, value| {
            let body = |number| recovery::read_body(rows, number);
            let queued = values::decode_queued(key.u64()?, value, body)?;
            Some(Item::Message { client_id, queued })
        });
        self.each_of_client(kind::HELD, |client_id, key, value| {
            let packet_id = keys::packet_id(key)?;
            let publication =
                values::decode_publication(ShardId(0), value, &mut Subjects::default())?;
            Some(Item::Held { client_id, packet_id, publication })
        });
        self.each(kind::OUTGOING, |_, key, value| {
            let shard = ShardId(key.u16()?);
            let message = keys::message(key)?;
            let publication = values::decode_publication(shard, value, &mut Subjects::default())?;
            Some(Some(Item::Owed { message, publication }))
        });
        self.each(kind::RETAINED, |_, _, value| {
            Some(Some(Item::Retained(values::decode_retained(value, &mut Subjects::default())?)))
        });
    }

    /// Rows of sessions that ended are no part of what is remembered.
    fn each_of_client(
        &mut self,
        kind: u8,
        mut read: impl FnMut(Box<str>, &mut Reader<'_>, &[u8]) -> Option<Item>,
    ) {
        self.each(kind, |this, key, value| {
            let sid = Sid(key.u64()?);
            let Some(client_id) = this.clients.get(&sid) else { return Some(None) };
            read(client_id.clone(), key, value).map(Some)
        });
    }

    fn each(
        &mut self,
        kind: u8,
        mut read: impl FnMut(&mut Self, &mut Reader<'_>, &[u8]) -> Option<Option<Item>>,
    ) {
        let (begin, end) = ([kind], keys::end_of(&[kind]));
        let rows = self.rows;
        let gaps = rows.each(&begin, &end, |key, value| {
            let mut rest = Reader(key.get(1..).unwrap_or_default());
            match read(self, &mut rest, &value) {
                Some(Some(item)) => self.show(item),
                Some(None) => {}
                None => self.report.losses.push(keys::describe(&key)),
            }
        });
        self.report.losses.extend(gaps.iter().map(recovery::describe_gap));
    }

    fn show(&mut self, item: Item) {
        let report = &mut *self.report;
        match &item {
            Item::Session { .. } => report.sessions += 1,
            Item::Subscription { .. } => report.subscriptions += 1,
            Item::Message { queued, .. } => {
                report.messages += 1;
                report.message_bytes += queued.message.size() as u64;
            }
            Item::Retained(_) => report.retained += 1,
            Item::Will { .. } | Item::Exchange { .. } | Item::Held { .. } | Item::Owed { .. } => {
                report.others += 1;
            }
        }
        (self.visit)(item);
    }
}
