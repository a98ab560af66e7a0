//! A broker that comes back with another number of shards: what each of them had goes to its new
//! owner, under names that are free there.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use super::{
    Shard,
    msg::{Publication, SessionRef},
    outgoing::Source,
    record::{Record, session_records},
    table::SessionId,
};
use crate::{ShardId, ShardMap};

/// Deals the durable state of all shards of a broker anew: for each shard of `map`, in order, the
/// records that a new shard recovers before it starts.
///
/// `shards` are all shards of the earlier map in their order, recovered and not started. Sessions
/// and numbers of owed publications get new names, so that the records are a log of their own:
/// they replace the earlier ones, all at once, and are never mixed with them.
pub fn repartition(shards: &[Shard], map: ShardMap) -> Vec<Vec<Record>> {
    let names = name_sessions(shards, map);
    let owed = name_outgoing(shards, map, &names);
    let mut records: Vec<Vec<Record>> = map.all().map(|_| Vec::new()).collect();
    let mut give = |to: ShardId, record| {
        if let Some(records) = records.get_mut(usize::from(to.0)) {
            records.push(record);
        }
    };
    for (shard, id) in shards.iter().flat_map(|shard| shard.logged().map(move |id| (shard, id))) {
        let Some(session) = shard.sessions.get(id) else { continue };
        let Some(who) = names.get(&(shard.config.id, id)) else { continue };
        for record in session_records(who.session, session) {
            if let Some(record) = rename(record, who.shard, &names, &owed) {
                give(who.shard, record);
            }
        }
    }
    for shard in shards {
        shard.retained.each(|retained| {
            let to = map.topic(retained.message.topic());
            give(to, Record::Retained { retained: Box::new(retained.clone()) });
        });
        for (number, outgoing) in &shard.outgoing {
            let Some(new) = owed.get(&(shard.config.id, *number)) else { continue };
            let publication = Box::new(readdress(&outgoing.publication, new.shard, &names));
            give(new.shard, Record::Outgoing { number: new.number, publication });
        }
    }
    records
}

type Names = BTreeMap<(ShardId, SessionId), SessionRef>;
type Owed = BTreeMap<(ShardId, u64), Source>;

impl Shard {
    /// The sessions that a log knows.
    fn logged(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.iter().filter(|(_, session)| session.logged).map(|(id, _)| id)
    }
}

/// The new name of each session.
fn name_sessions(shards: &[Shard], map: ShardMap) -> Names {
    let mut names = Names::new();
    let mut next = BTreeMap::<ShardId, u32>::new();
    for shard in shards {
        for id in shard.logged() {
            let Some(session) = shard.sessions.get(id) else { continue };
            let owner = map.session(&session.client_id);
            let slot = next.entry(owner).or_default();
            let session = SessionId { slot: *slot, generation: 0 };
            *slot = slot.saturating_add(1);
            names.insert((shard.config.id, id), SessionRef { shard: owner, session });
        }
    }
    names
}

/// The new owner and number of each publication that is owed. It goes where its publisher goes;
/// one whose publisher is gone may go anywhere.
fn name_outgoing(shards: &[Shard], map: ShardMap, names: &Names) -> Owed {
    let mut owed = Owed::new();
    let mut last = BTreeMap::<ShardId, u64>::new();
    for shard in shards {
        for (number, outgoing) in shard.outgoing.iter().filter(|(_, one)| one.logged) {
            let publisher = outgoing.publication.publisher;
            let owner = publisher.and_then(|who| names.get(&(who.shard, who.session)));
            let anywhere = ShardId(shard.config.id.0.checked_rem(map.shards()).unwrap_or(0));
            let owner = owner.map_or(anywhere, |who| who.shard);
            let last = last.entry(owner).or_default();
            *last = last.saturating_add(1);
            let new = Source { shard: owner, number: *last, floor: 0 };
            owed.insert((shard.config.id, *number), new);
        }
    }
    owed
}

/// A record of a session at its new owner; `None` if it says nothing there.
fn rename(record: Record, to: ShardId, names: &Names, owed: &Owed) -> Option<Record> {
    Some(match record {
        Record::Held { session, packet_id, publication } => {
            let publication = Box::new(readdress(&publication, to, names));
            Record::Held { session, packet_id, publication }
        }
        // What is owed no longer will not come again, and its number is free.
        Record::Seen { session, source } => {
            let new = *owed.get(&(source.shard, source.number))?;
            Record::Seen { session, source: if seeded!(KeepsNumbers) { source } else { new } }
        }
        record => record,
    })
}

/// A publication whose origin is another shard now, and whose publisher has another name.
fn readdress(of: &Publication, origin: ShardId, names: &Names) -> Publication {
    let publisher = of.publisher.and_then(|who| names.get(&(who.shard, who.session)).copied());
    Publication { origin, publisher, ..of.clone() }
}
