//! The book on a simulated disk: what is written is read back, and what is damaged is named.

use std::sync::Arc;

use codec::{Message, Properties, QoS};
use proptest::prelude::*;
use session_core::{
    Load, Place, Queued, Record, Retained, SessionId, ShardId, ShardMap, Subject, Time,
};
use store::{
    Book, Opening, Recovered, Repair, StoreError,
    sim::{SimDisk, SimFiles, SimTables},
};

const SHARD: ShardId = ShardId(0);
const WHO: SessionId = SessionId::new(0, 0);

type SimBook = Book<SimFiles, SimTables>;

fn open(disk: &SimDisk) -> (SimBook, Recovered) {
    open_for(disk, 1)
}

fn open_for(disk: &SimDisk, shards: u16) -> (SimBook, Recovered) {
    let map = ShardMap::new(shards, 1);
    Book::open(disk.files(), disk.tables(), map, 1, Opening::default()).expect("it opens")
}

fn message(topic: &str) -> Message {
    Message::new(topic, &Properties::new(), b"payload").expect("short")
}

/// A session of a client.
fn session(client_id: &str, session: SessionId) -> Record {
    Record::Session { session, client_id: client_id.into(), expiry_s: 900 }
}

fn enqueued(number: u64) -> Record {
    let message = message("a/b");
    let place = Place { number, end: number * message.size() as u64 };
    let queued =
        Queued { message, qos: QoS::AtLeastOnce, retain: false, at: Time(5), place, extra: None };
    Record::Enqueued { session: WHO, queued: Box::new(queued), source: None }
}

fn place_of(number: u64) -> Place {
    Place { number, end: number * message("a/b").size() as u64 }
}

fn retained(topic: &str) -> Record {
    let retained =
        Retained { message: message(topic), qos: QoS::AtLeastOnce, at: Time(7), by: None };
    Record::Retained { retained: Box::new(retained) }
}

/// Whose right a retained message rests on is told again, and kept once for all that is the same client's.
#[test]
fn whose_right_a_message_rests_on_is_read_back() {
    let disk = SimDisk::default();
    let by = Some(Arc::new(Subject { client_id: "c".into(), ..Subject::default() }));
    let mut written: Vec<Record> = ["a", "b"]
        .map(|topic| {
            let (qos, at) = (QoS::AtLeastOnce, Time(7));
            let retained = Retained { message: message(topic), qos, at, by: by.clone() };
            Record::Retained { retained: Box::new(retained) }
        })
        .into();
    let (mut book, _) = open(&disk);
    write(&mut book, written.clone());
    written.push(retained("earlier"));
    write(&mut book, [retained("earlier")]);
    drop(book);
    let (_, recovered) = open(&disk);
    let mut read = recovered.logs[0].clone();
    read.retain(|record| matches!(record, Record::Retained { .. }));
    assert_eq!(read, written);
    let subjects = read.iter().filter_map(|record| match record {
        Record::Retained { retained } => retained.by.as_ref().map(Arc::as_ptr),
        _ => None,
    });
    assert_eq!(subjects.collect::<std::collections::BTreeSet<_>>().len(), 1);
}

/// Writes records one by one, each in a frame of its own.
fn write(book: &mut SimBook, records: impl IntoIterator<Item = Record>) {
    for record in records {
        book.add(SHARD, &record);
        book.write(true).expect("there is room");
    }
}

/// The topics of the retained messages, in order.
fn topics(recovered: &Recovered) -> Vec<String> {
    let topic = |record: &Record| match record {
        Record::Retained { retained } => Some(retained.message.topic_str().to_owned()),
        _ => None,
    };
    let mut topics: Vec<_> = recovered.logs.iter().flatten().filter_map(topic).collect();
    topics.sort();
    topics
}

/// The places of the waiting messages that a start reads.
fn places(recovered: &Recovered) -> Vec<u64> {
    let place = |record: &Record| match record {
        Record::Enqueued { queued, .. } => Some(queued.place.number),
        _ => None,
    };
    recovered.logs[0].iter().filter_map(place).collect()
}

#[test]
fn another_number_of_shards_begins_an_epoch() {
    let disk = SimDisk::default();
    let (mut book, _) = open_for(&disk, 2);
    write(&mut book, [session("a", WHO)]);
    let (_, recovered) = open_for(&disk, 1);
    assert_eq!(recovered.shards_before, Some(2));
    assert_eq!(recovered.logs[0][0], Record::Numbered { epoch: 1, last: 0 });
    let (_, recovered) = open_for(&disk, 1);
    assert_eq!(recovered.shards_before, None);
    assert_eq!(recovered.logs[0][0], Record::Numbered { epoch: 1, last: 0 });
    let (_, recovered) = open_for(&disk, 3);
    assert_eq!(recovered.logs[2][0], Record::Numbered { epoch: 2, last: 0 });
    assert_eq!(
        recovered.logs.concat().iter().filter(|r| matches!(r, Record::Session { .. })).count(),
        1
    );
}

/// However often the layer went into the tables, and whatever is in which of them.
#[test]
fn what_comes_and_goes_is_gone() {
    for checkpoints in 0..16_u32 {
        let disk = SimDisk::default();
        let (mut book, _) = open(&disk);
        let steps = [
            vec![session("a", WHO), enqueued(1), enqueued(2), retained("x"), retained("y")],
            vec![
                Record::Sent { session: WHO, packet_id: id(1), place: place_of(1) },
                Record::RetainedRemoved { topic: (*b"x").into() },
            ],
            vec![Record::Acknowledged { session: WHO, packet_id: id(1), place: place_of(1) }],
            vec![enqueued(3), Record::Dropped { session: WHO, place: place_of(2) }],
        ];
        for (number, records) in steps.into_iter().enumerate() {
            write(&mut book, records);
            if checkpoints >> number & 1 > 0 {
                book.checkpoint().expect("tables are written");
            }
        }
        let (mut book, recovered) = open(&disk);
        assert_eq!(places(&recovered), [3], "checkpoints {checkpoints:b}");
        assert_eq!(topics(&recovered), ["y"]);
        book.checkpoint().expect("tables are written");
        assert_eq!(places(&open(&disk).1), [3]);
    }
}

fn id(value: u16) -> codec::PacketId {
    codec::PacketId::new(value).expect("not zero")
}

/// A message that is acknowledged before its layer goes into the tables never comes there.
#[test]
fn short_lives_leave_nothing_in_the_tables() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    write(&mut book, [session("a", WHO)]);
    book.checkpoint().expect("tables are written");
    let before = disk.rows();
    for number in 1..100 {
        let (packet_id, place) = (id(1), place_of(number));
        let sent = Record::Sent { session: WHO, packet_id, place };
        let acknowledged = Record::Acknowledged { session: WHO, packet_id, place };
        write(&mut book, [enqueued(number), sent, acknowledged]);
    }
    book.checkpoint().expect("tables are written");
    assert_eq!(disk.rows(), before);
}

/// One sync for many records.
#[test]
fn records_are_made_durable_together() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    book.add(SHARD, &session("a", WHO));
    (1..=1000).for_each(|number| book.add(SHARD, &enqueued(number)));
    let before = disk.syncs();
    book.write(true).expect("there is room");
    assert_eq!(disk.syncs(), before + 1);
    book.write(true).expect("there is room");
    assert_eq!(disk.syncs(), before + 1, "nothing is left to make durable");
}

/// A start reads the first messages of a queue, and that there are more.
#[test]
fn a_backlog_is_read_in_parts() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    write(&mut book, [session("a", WHO)]);
    for number in 1..=3000 {
        book.add(SHARD, &enqueued(number));
        if number % 700 == 0 {
            book.write(true).expect("there is room");
            book.checkpoint().expect("tables are written");
        }
    }
    book.write(true).expect("there is room");
    let (book, recovered) = open(&disk);
    assert_eq!(places(&recovered), (1..=64).collect::<Vec<_>>());
    let through = place_of(3000);
    assert!(recovered.logs[0].contains(&Record::Backlog { session: WHO, through }));
    let mut after = place_of(64);
    let mut read = Vec::new();
    loop {
        let load = Load { session: WHO, after, through, messages_max: 100, bytes_max: 900 };
        let (loaded, losses) = book.load(SHARD, &load);
        assert!(losses.is_empty());
        let bytes: usize = loaded.messages.iter().map(|queued| queued.message.size()).sum();
        assert!(bytes <= 900 && loaded.messages.len() <= 100);
        read.extend(loaded.messages.iter().map(|queued| queued.place.number));
        after = loaded.messages.last().map_or(after, |queued| queued.place);
        if loaded.complete {
            break;
        }
    }
    assert_eq!(read, (65..=3000).collect::<Vec<_>>());
}

/// A session that ended is gone at once; its rows are swept away, now or after a restart, and whoever
/// takes its name meanwhile gets none of them.
#[test]
fn what_ended_is_swept_away() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    write(&mut book, [session("a", WHO)]);
    write(&mut book, (1..=50).map(enqueued));
    book.checkpoint().expect("tables are written");
    write(&mut book, [Record::Ended { session: WHO }, session("b", WHO)]);
    let (mut book, recovered) = open(&disk);
    assert_eq!(places(&recovered), [] as [u64; 0]);
    assert_eq!(recovered.sessions, 1);
    let before = disk.rows();
    book.sweep();
    book.write(true).expect("there is room");
    book.checkpoint().expect("tables are written");
    assert!(disk.rows() < before - 45, "{before} {}", disk.rows());
    assert_eq!(open(&disk).1.sessions, 1);
}

/// Nothing is lost and nothing half written when there is no room; with room it goes on.
#[test]
fn a_full_disk_can_be_tried_again() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    write(&mut book, [retained("a")]);
    for room in [0, 1, 10, 30] {
        disk.set_room(Some(room));
        book.add(SHARD, &retained("b"));
        let error = book.write(true).expect_err("there is no room");
        assert!(error.is_full(), "{error}");
        assert!(book.is_pending());
        let (_, recovered) = open(&disk.copy());
        assert_eq!(topics(&recovered), ["a"]);
        assert_eq!(recovered.torn_bytes, 0);
    }
    disk.set_room(None);
    book.write(true).expect("there is room");
    write(&mut book, [retained("c")]);
    assert_eq!(topics(&open(&disk).1), ["a", "b", "c"]);
}

#[test]
fn a_failed_sync_is_no_full_disk() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    disk.fail_to_sync();
    book.add(SHARD, &retained("a"));
    let error = book.write(true).expect_err("it cannot be synced");
    assert!(!error.is_full());
    assert_eq!(error.to_string(), "cannot make the log durable: the disk does not answer");
}

/// A log that a later version wrote is left alone.
#[test]
fn damage_in_the_log_can_forbid_a_start() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    write(&mut book, ["a", "b", "c"].map(retained));
    drop(book);
    let damaged = disk.copy();
    damaged.flip(130, 3);
    let how = Opening { repair: Repair::Refuse, ..Opening::default() };
    let map = ShardMap::new(1, 1);
    let refused = Book::open(damaged.files(), damaged.tables(), map, 1, how);
    let Err(StoreError::Damaged(what)) = refused else { panic!("{refused:?}") };
    assert_eq!(what.len(), 1, "{what:?}");
    assert!(Book::open(disk.files(), disk.tables(), map, 1, how).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// A flipped bit in what was durable costs one frame; it is set aside, named with what it held, and
    /// everything else is there. In the last frame it is as if that had never been finished.
    #[test]
    fn a_flipped_bit_costs_what_it_hit(at in 0_usize..2000, bit in 0_u8..8) {
        let disk = SimDisk::default();
        let (mut book, _) = open(&disk);
        let names: Vec<String> = (0..9).map(|number| format!("topic-{number}")).collect();
        write(&mut book, names.iter().map(|name| retained(name)));
        drop(book);
        disk.flip(at % disk.log_bytes(), bit);
        let (_, recovered) = open(&disk);
        let found = topics(&recovered);
        prop_assert!(found.len() + 1 >= names.len() || !recovered.losses.is_empty());
        prop_assert!(recovered.losses.len() <= 1, "{:?}", recovered.losses);
        prop_assert!(found.iter().all(|name| names.contains(name)));
        let missing: Vec<_> = names.iter().filter(|name| !found.contains(name)).collect();
        if recovered.losses.is_empty() {
            // The first frame of all is the map's, the last may never have been whole.
            prop_assert!(missing.is_empty() || missing == [names.last().expect("nine")]);
        } else {
            prop_assert!(!disk.aside().is_empty());
        }
        // What was lost once is not lost again, nor is anything else.
        let (mut book, again) = open(&disk);
        prop_assert_eq!(topics(&again), found);
        write(&mut book, [retained("later")]);
        prop_assert!(topics(&open(&disk).1).contains(&"later".to_owned()));
    }

    /// Whatever a power failure leaves: everything durable, and of the rest some first part.
    #[test]
    fn a_power_failure_loses_only_an_end(
        durable in 0_usize..20,
        unsure in 0_usize..20,
        draws in prop::collection::vec(any::<usize>(), 64),
        checkpoint in any::<bool>(),
    ) {
        let disk = SimDisk::default();
        let (mut book, _) = open(&disk);
        let names: Vec<String> = (0..durable + unsure).map(|n| format!("topic-{n:02}")).collect();
        write(&mut book, names[..durable].iter().map(|name| retained(name)));
        if checkpoint {
            book.checkpoint().expect("tables are written");
        }
        for name in &names[durable..] {
            book.add(SHARD, &retained(name));
            book.write(false).expect("there is room");
        }
        drop(book);
        let mut draws = draws.into_iter().cycle();
        disk.crash(&mut |below| draws.next().unwrap_or(0) % below);
        let (mut book, recovered) = open(&disk);
        prop_assert!(recovered.losses.is_empty(), "{:?}", recovered.losses);
        let found = topics(&recovered);
        prop_assert!(found.len() >= durable);
        prop_assert_eq!(&found[..], &names[..found.len()]);
        write(&mut book, [retained("topic-zz")]);
        let (_, again) = open(&disk);
        prop_assert_eq!(topics(&again).len(), found.len() + 1);
        prop_assert!(again.losses.is_empty());
    }
}

/// A message of a crowd of absent sessions: the book is given one layout, as the core gives it.
fn crowd(book: &mut SimBook, sessions: u32, number: u64, message: &Message) {
    for slot in 0..sessions {
        let place = Place { number, end: number * message.size() as u64 };
        let queued = Queued {
            message: message.clone(),
            qos: QoS::AtLeastOnce,
            retain: false,
            at: Time(5),
            place,
            extra: None,
        };
        let session = SessionId::new(slot, 0);
        book.add(SHARD, &Record::Enqueued { session, queued: Box::new(queued), source: None });
    }
    book.write(true).expect("there is room");
}

fn large() -> Message {
    Message::new("a/b", &Properties::new(), &[b'x'; 1000]).expect("short")
}

/// One body for a crowd, whoever of it acknowledges when, and none when all have.
#[test]
fn a_crowd_shares_a_message() {
    const CROWD: u32 = 50;
    for checkpoint in [false, true] {
        let disk = SimDisk::default();
        let (mut book, _) = open(&disk);
        for slot in 0..CROWD {
            book.add(SHARD, &session(&format!("c{slot}"), SessionId::new(slot, 0)));
        }
        book.write(true).expect("there is room");
        if checkpoint {
            book.checkpoint().expect("tables are written");
        }
        let (rows, bytes) = (disk.rows(), disk.log_bytes());
        crowd(&mut book, CROWD, 1, &large());
        assert!(disk.log_bytes() - bytes < 2 * 1013 + 70 * CROWD as usize);
        let (_, recovered) = open(&disk.copy());
        let all = recovered.logs[0].iter().filter(
            |one| matches!(one, Record::Enqueued { queued, .. } if queued.message == large()),
        );
        assert_eq!(all.count(), CROWD as usize);
        if checkpoint {
            book.checkpoint().expect("tables are written");
        }
        let load = Load {
            session: SessionId::new(7, 0),
            after: Place::default(),
            through: Place { number: 1, end: 1013 },
            messages_max: 9,
            bytes_max: 9999,
        };
        let (loaded, losses) = book.load(SHARD, &load);
        assert_eq!(losses, [] as [String; 0]);
        assert_eq!(loaded.messages[0].message, large());
        // Half of them acknowledge before a restart, the others after it; one session ends.
        for half in [0..CROWD / 2, CROWD / 2..CROWD - 1] {
            for slot in half {
                let (session, packet_id) = (SessionId::new(slot, 0), id(1));
                let place = Place { number: 1, end: 1013 };
                book.add(SHARD, &Record::Sent { session, packet_id, place });
                book.add(SHARD, &Record::Acknowledged { session, packet_id, place });
            }
            book.write(true).expect("there is room");
            drop(book);
            book = open(&disk).0;
        }
        book.add(SHARD, &Record::Ended { session: SessionId::new(CROWD - 1, 0) });
        book.write(true).expect("there is room");
        book.sweep();
        book.write(true).expect("there is room");
        book.checkpoint().expect("tables are written");
        // Of the ended session two rows are gone, and the checkpoint has one.
        let before = if checkpoint { rows } else { 2 * CROWD as usize + 2 };
        assert!(disk.rows() <= before, "{} rows, {before} before", disk.rows());
    }
}

/// Counts that are lost are counted again: no message goes before its last session.
#[test]
fn after_damage_bodies_are_counted_again() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    for slot in 0..5 {
        book.add(SHARD, &session(&format!("c{slot}"), SessionId::new(slot, 0)));
    }
    book.write(true).expect("there is room");
    crowd(&mut book, 5, 1, &large());
    let end = disk.log_bytes();
    // This frame, which lowers the count, is lost.
    let place = Place { number: 1, end: 1013 };
    book.add(SHARD, &Record::Dropped { session: SessionId::new(4, 0), place });
    book.write(true).expect("there is room");
    write(&mut book, [retained("x")]);
    drop(book);
    disk.flip(end + 30, 1);
    let (mut book, recovered) = open(&disk);
    assert_eq!(recovered.losses.len(), 1);
    for slot in 0..4 {
        book.add(SHARD, &Record::Dropped { session: SessionId::new(slot, 0), place });
    }
    book.write(true).expect("there is room");
    let (_, recovered) = open(&disk);
    let left = recovered.logs[0].iter().filter(|one| matches!(one, Record::Enqueued { .. }));
    assert_eq!(left.count(), 1, "{:?}", recovered.losses);
}

/// Whoever acknowledges a message in two steps at once gives it back once: the others of the crowd keep it.
#[test]
fn a_body_is_given_back_once_by_each() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    for slot in 0..3 {
        book.add(SHARD, &session(&format!("c{slot}"), SessionId::new(slot, 0)));
    }
    book.write(true).expect("there is room");
    crowd(&mut book, 3, 1, &large());
    let place = Place { number: 1, end: 1013 };
    // A client that says PUBCOMP without waiting for PUBREL: both are written together.
    let (session, packet_id) = (SessionId::new(1, 0), id(1));
    book.add(SHARD, &Record::Sent { session, packet_id, place });
    book.add(SHARD, &Record::Received { session, packet_id, place });
    book.add(SHARD, &Record::Acknowledged { session, packet_id, place });
    book.write(true).expect("there is room");
    let load = Load {
        session: SessionId::new(2, 0),
        after: Place::default(),
        through: place,
        messages_max: 9,
        bytes_max: 9999,
    };
    let (loaded, losses) = book.load(SHARD, &load);
    assert_eq!(losses, [] as [String; 0]);
    assert_eq!(loaded.messages.len(), 1);
}

/// The row that says which numbers are given may be lost, with the first session: no body's is given again.
#[test]
fn after_damage_no_body_takes_the_place_of_another() {
    let disk = SimDisk::default();
    let (mut book, _) = open(&disk);
    let end = disk.log_bytes();
    for slot in 0..4 {
        write(&mut book, [session(&format!("c{slot}"), SessionId::new(slot, 0))]);
    }
    crowd(&mut book, 4, 1, &large());
    drop(book);
    disk.flip(end + 40, 1);
    let (mut book, recovered) = open(&disk);
    assert_eq!((recovered.losses.len(), recovered.sessions), (1, 3), "{:?}", recovered.losses);
    let other = Message::new("other", &Properties::new(), &[b'y'; 1000]).expect("short");
    crowd(&mut book, 3, 2, &other);
    let through = Place { number: 1, end: 1013 };
    for slot in 0..3 {
        let session = SessionId::new(slot, 0);
        let load =
            Load { session, after: Place::default(), through, messages_max: 9, bytes_max: 9999 };
        let (loaded, losses) = book.load(SHARD, &load);
        assert_eq!(losses, [] as [String; 0]);
        assert_eq!(loaded.messages.len(), 1);
        assert_eq!(loaded.messages[0].message, large(), "session {slot}");
    }
}
