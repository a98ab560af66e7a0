//! A broker that comes back with another number of shards: what each of them had goes to its new
//! owner. Sessions get names that are free there; owed publications keep theirs, which nobody uses
//! again, since a new epoch of names begins.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{
    Shard,
    msg::{MsgId, Publication, SessionRef},
    record::{Record, session_records},
    table::SessionId,
};
use crate::{ShardId, ShardMap};

/// Deals the durable state of all shards of a broker anew: for each shard of `map`, in order, the
/// records that a new shard recovers before it starts.
///
/// `shards` are all shards of the earlier map in their order, recovered and not started. The
/// records are logs of their own: they replace the earlier ones, all at once, and are never mixed
/// with them.
pub fn repartition(shards: &[Shard], map: ShardMap) -> Vec<Vec<Record>> {
    let names = name_sessions(shards, map);
    let owed: BTreeSet<MsgId> = shards.iter().flat_map(Shard::owed).collect();
    let epoch = shards.iter().map(|shard| shard.epoch).max().unwrap_or(0).saturating_add(1);
    let begin = Record::Numbered { epoch, last: 0 };
    let mut records: Vec<Vec<Record>> = map.all().map(|_| Vec::from([begin.clone()])).collect();
    let mut give = |to: ShardId, record| {
        if let Some(records) = records.get_mut(usize::from(to.0)) {
            records.push(record);
        }
    };
    for shard in shards {
        for (id, session) in shard.logged_sessions() {
            let Some(who) = names.get(&(shard.config.id, id)) else { continue };
            session_records(who.session, session)
                .into_iter()
                .filter_map(|record| readdress(record, who.shard, &names, &owed))
                .for_each(|record| give(who.shard, record));
        }
        shard.retained.each(|retained| {
            let to = map.topic(retained.message.topic());
            give(to, Record::Retained { retained: Box::new(retained.clone()) });
        });
        for message in shard.owed() {
            let Some(outgoing) = shard.outgoing.get(&message) else { continue };
            // It goes where its publisher goes; if that one is gone, anywhere.
            let publisher = outgoing.publication.publisher;
            let owner = publisher.and_then(|who| names.get(&(who.shard, who.session)));
            let anywhere = ShardId(shard.config.id.0.checked_rem(map.shards()).unwrap_or(0));
            let to = owner.map_or(anywhere, |who| who.shard);
            let publication = Box::new(publication_at(&outgoing.publication, to, &names));
            give(to, Record::Outgoing { message, publication });
        }
    }
    records
}

type Names = BTreeMap<(ShardId, SessionId), SessionRef>;

impl Shard {
    /// The publications that a crash would bring again.
    fn owed(&self) -> impl Iterator<Item = MsgId> {
        self.outgoing.iter().filter(|(_, one)| one.logged).map(|(message, _)| *message)
    }
}

/// The new name of each session.
fn name_sessions(shards: &[Shard], map: ShardMap) -> Names {
    let mut names = Names::new();
    let mut next = BTreeMap::<ShardId, u32>::new();
    for shard in shards {
        for (id, session) in shard.logged_sessions() {
            let owner = map.session(&session.client_id);
            let slot = next.entry(owner).or_default();
            let session = SessionId { slot: *slot, generation: 0 };
            *slot = slot.saturating_add(1);
            names.insert((shard.config.id, id), SessionRef { shard: owner, session });
        }
    }
    names
}

/// A record of a session at its new owner; `None` if it says nothing there.
fn readdress(record: Record, to: ShardId, names: &Names, owed: &BTreeSet<MsgId>) -> Option<Record> {
    match record {
        Record::Held { session, packet_id, publication } => {
            let publication = Box::new(publication_at(&publication, to, names));
            Some(Record::Held { session, packet_id, publication })
        }
        // What is owed no longer will not come again.
        Record::Seen { message, .. } if !owed.contains(&message) || seeded!(DealsWithoutSeen) => {
            None
        }
        record => Some(record),
    }
}

/// A publication whose origin is another shard now, and whose publisher has another name.
fn publication_at(of: &Publication, origin: ShardId, names: &Names) -> Publication {
    let publisher = of.publisher.and_then(|who| names.get(&(who.shard, who.session)).copied());
    Publication { origin, publisher, ..of.clone() }
}
