//! The store on a file system and with its threads.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use codec::{Message, PacketId, Properties, QoS};
use session_core::{
    CommitSeq, Load, Place, Queued, Record, Retained, SessionId, ShardId, ShardMap, Time,
};
use store::{Durability, News, Opened, Options, Recovered, Store, StoreError};

const SHARD: ShardId = ShardId(0);
const WHO: SessionId = SessionId::new(0, 0);

fn options() -> Options {
    Options { reserve_bytes: 0, ..Options::new(ShardMap::new(1, 2), 2) }
}

fn open(path: &Path) -> Result<Opened, StoreError> {
    store::open(path, options())
}

/// A store at work and what it tells.
fn start(opened: Opened) -> (Store, Receiver<News>) {
    let (sender, news) = channel();
    let store = opened.start(move |one| drop(sender.send(one))).expect("threads");
    (store, news)
}

/// The next news, but for those of how long writing took.
fn next(news: &Receiver<News>) -> News {
    loop {
        let one = news.recv_timeout(Duration::from_secs(20)).expect("news");
        if !matches!(one, News::Written { .. }) {
            return one;
        }
    }
}

fn retained(topic: &str) -> Record {
    let message = Message::new(topic, &Properties::new(), &[b'x'; 100]).expect("short");
    let retained = Retained { message, qos: QoS::AtLeastOnce, at: Time(7), by: None };
    Record::Retained { retained: Box::new(retained) }
}

fn enqueued(number: u64) -> Record {
    let message = Message::new("a/b", &Properties::new(), &[b'x'; 100]).expect("short");
    let place = Place { number, end: number * message.size() as u64 };
    let (qos, at) = (QoS::AtLeastOnce, Time(5));
    let queued = Box::new(Queued { message, qos, retain: false, at, place, extra: None });
    Record::Enqueued { session: WHO, queued, source: None }
}

fn topics(recovered: &Recovered) -> usize {
    recovered.logs.iter().flatten().filter(|one| matches!(one, Record::Retained { .. })).count()
}

/// How many records were written together, and whether they were synced, is told before that they are durable; how it
/// works may change meanwhile.
#[test]
fn writes_are_told_and_a_store_is_tuned() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, news) = start(open(folder.path()).expect("a new directory"));
    let mut log = store.log(SHARD);
    let mut write = |seq: u64| {
        (0..3).for_each(|number| log.append(retained(&format!("t/{number}"))));
        log.commit(CommitSeq(seq));
        news.recv_timeout(Duration::from_secs(20)).expect("news")
    };
    assert!(matches!(write(3), News::Written { records: 3, synced: true, .. }));
    assert!(matches!(next(&news), News::Persisted(SHARD, CommitSeq(3))));
    store.tuner().set(Durability::Interval(Duration::from_secs(3600)), 0);
    assert!(matches!(write(6), News::Written { records: 3, synced: false, .. }));
    assert!(matches!(next(&news), News::Persisted(SHARD, CommitSeq(6))));
    store.tuner().set(Durability::Sync, u64::MAX);
    assert!(matches!(write(9), News::Full(true)));
    store.stop();
    let recovered = open(folder.path()).expect("it is ours").recovered;
    assert_eq!(topics(&recovered), 3);
}

#[test]
fn what_was_told_to_be_durable_is_there_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, news) = start(open(folder.path()).expect("a new directory"));
    let mut log = store.log(SHARD);
    log.append(Record::Session { session: WHO, client_id: "a".into(), expiry_s: 900 });
    for number in 1..=500 {
        log.append(enqueued(number));
    }
    log.commit(CommitSeq(501));
    assert!(matches!(next(&news), News::Persisted(SHARD, CommitSeq(501))));
    let (after, through) =
        (Place { number: 64, end: 64 * 113 }, Place { number: 500, end: 500 * 113 });
    let load = Load { session: WHO, after, through, messages_max: 10, bytes_max: 1 << 20 };
    log.load(load);
    let News::Loaded(SHARD, loaded) = next(&news) else { panic!("something else") };
    assert_eq!(loaded.messages.first().map(|queued| queued.place.number), Some(65));
    assert_eq!((loaded.messages.len(), loaded.complete), (10, false));
    // Whoever dies here has it all; whoever stops in good order leaves no log to read.
    drop(log);
    store.stop();
    let opened = open(folder.path()).expect("the same directory");
    assert_eq!(opened.recovered.sessions, 1);
    let through = Record::Backlog { session: WHO, through };
    assert!(opened.recovered.logs[0].contains(&through), "{:?}", opened.recovered.logs[0].last());
}

#[test]
fn a_directory_is_for_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path()).expect("a new directory");
    assert!(matches!(open(folder.path()), Err(StoreError::Locked(_))));
    drop(first);
    assert!(open(folder.path()).is_ok());
}

/// What comes and goes leaves next to nothing in memory, and must not leave a log that grows for ever.
#[test]
fn the_log_is_shortened_although_nothing_stays() {
    let mut options = options();
    options.layer_bytes = 10_000;
    let folder = tempfile::tempdir().expect("a folder");
    let (store, news) = start(store::open(folder.path(), options).expect("a new directory"));
    let mut log = store.log(SHARD);
    log.append(Record::Session { session: WHO, client_id: "a".into(), expiry_s: 900 });
    for number in 1..=2000 {
        let Record::Enqueued { queued, .. } = enqueued(number) else { unreachable!() };
        let (packet_id, place) = (PacketId::new(1).expect("not zero"), queued.place);
        log.append(enqueued(number));
        log.append(Record::Sent { session: WHO, packet_id, place });
        log.append(Record::Acknowledged { session: WHO, packet_id, place });
        log.commit(CommitSeq(number));
        assert!(matches!(next(&news), News::Persisted(..)));
    }
    let size = || {
        let files = fs::read_dir(folder.path().join("log")).expect("the log");
        files.map(|file| file.expect("a file").metadata().map_or(0, |file| file.len())).sum::<u64>()
    };
    let patience = Instant::now() + Duration::from_secs(20);
    while size() > 100_000 {
        assert!(Instant::now() < patience, "{} bytes", size());
        thread::sleep(Duration::from_millis(10));
    }
    drop(log);
    store.stop();
}

/// What is told when the disk fills up and when it has room again. What clients acknowledge is written
/// all the same.
#[test]
fn a_full_disk_is_told_and_its_end_too() {
    static ROOM: AtomicU64 = AtomicU64::new(1_000);
    let mut options = options();
    options.reserve_bytes = 100;
    options.room = |_| Ok(ROOM.load(Ordering::Relaxed));
    let folder = tempfile::tempdir().expect("a folder");
    let (store, news) = start(store::open(folder.path(), options).expect("a new directory"));
    let mut log = store.log(SHARD);
    log.append(retained("a"));
    log.commit(CommitSeq(1));
    assert!(matches!(next(&news), News::Persisted(..)));
    ROOM.store(50, Ordering::Relaxed);
    let mut last = 1;
    loop {
        last += 1;
        log.append(retained("b"));
        log.commit(CommitSeq(last));
        match next(&news) {
            News::Full(true) => break,
            News::Persisted(_, through) => assert_eq!(through, CommitSeq(last)),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(next(&news), News::Persisted(_, through) if through == CommitSeq(last)));
    ROOM.store(110, Ordering::Relaxed);
    assert!(news.recv_timeout(Duration::from_millis(500)).is_err(), "it is nearly full still");
    ROOM.store(1_000, Ordering::Relaxed);
    assert!(matches!(next(&news), News::Full(false)));
    drop(log);
    store.stop();
}

/// The files of the tables' rows.
fn table_files(path: &Path) -> Vec<PathBuf> {
    let keyspaces = fs::read_dir(path.join("tables/keyspaces")).expect("keyspaces");
    let tables =
        keyspaces.flat_map(|one| fs::read_dir(one.expect("a folder").path().join("tables")));
    let mut files: Vec<_> = tables.flatten().map(|one| one.expect("a file").path()).collect();
    files.sort_by_key(|file| fs::metadata(file).expect("a file").len());
    files
}

/// Damage in a table costs the rows of its block, and they are named.
#[test]
fn a_damaged_table_is_named_and_the_rest_is_read() {
    const COUNT: usize = 3000;
    let folder = tempfile::tempdir().expect("a folder");
    let (store, news) = start(open(folder.path()).expect("a new directory"));
    let mut log = store.log(SHARD);
    (0..COUNT).for_each(|number| log.append(retained(&format!("topic/{number:05}"))));
    log.commit(CommitSeq(COUNT as u64));
    assert!(matches!(next(&news), News::Persisted(..)));
    drop(log);
    store.stop();

    let file = table_files(folder.path()).pop().expect("a table");
    let sound = fs::read(&file).expect("its bytes");
    assert!(sound.len() > COUNT * 100);
    for part in 1..10 {
        let mut damaged = sound.clone();
        damaged[sound.len() * part / 10] ^= 0x10;
        fs::write(&file, &damaged).expect("it is written");
        let opened = open(folder.path()).expect("it starts");
        let (found, losses) = (topics(&opened.recovered), &opened.recovered.losses);
        assert!(found < COUNT && found > COUNT * 8 / 10, "{part}: {found}, {losses:?}");
        assert_eq!(losses.len(), 1, "{losses:?}");
        assert!(losses[0].contains("rows behind the retained message of \"topic/"), "{losses:?}");
        drop(opened);
        fs::write(&file, &sound).expect("it is written");
    }
    assert_eq!(topics(&open(folder.path()).expect("it starts").recovered), COUNT);
}

/// A directory in which a retained message is stored, and no broker is at work.
fn with_a_message() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, news) = start(open(folder.path()).expect("a new directory"));
    let mut log = store.log(SHARD);
    log.append(retained("old"));
    log.commit(CommitSeq(1));
    assert!(matches!(next(&news), News::Persisted(..)));
    drop(log);
    store.stop();
    folder
}

/// A log that somebody removed is missed.
#[test]
fn a_missing_log_is_named() {
    let folder = with_a_message();
    for file in fs::read_dir(folder.path().join("log")).expect("the log") {
        fs::remove_file(file.expect("a file").path()).expect("it is removed");
    }
    let opened = open(folder.path()).expect("it starts");
    assert_eq!(topics(&opened.recovered), 1, "the tables are there");
    assert_eq!(opened.recovered.losses, ["segment 2 and all behind it are missing"]);
}

/// Nothing of the tables can be read: they are set aside as a whole, and the log is read all the same.
#[test]
fn tables_that_cannot_be_opened_are_set_aside() {
    let folder = with_a_message();
    for file in table_files(folder.path()) {
        fs::write(file, b"something else").expect("it is written");
    }
    let mut options = options();
    options.repair = store::Repair::Refuse;
    assert!(store::open(folder.path(), options).is_err());
    let opened = open(folder.path()).expect("it starts");
    assert_eq!(topics(&opened.recovered), 0);
    assert!(opened.recovered.losses[0].starts_with("all tables"), "{:?}", opened.recovered.losses);
    assert!(fs::read_dir(folder.path().join("quarantine")).expect("it is there").count() >= 1);
}
