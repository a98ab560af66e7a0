//! The book on a simulated disk.

use session_core::{Record, SessionId, ShardId, ShardMap};
use store::{Book, Opening, sim::SimDisk};

#[test]
fn another_number_of_shards_begins_an_epoch() {
    let disk = SimDisk::default();
    let open = |shards| {
        let map = ShardMap::new(shards, 1);
        Book::open(disk.files(), disk.tables(), map, 1, Opening::default()).unwrap()
    };
    let (mut book, _) = open(2);
    let session = SessionId::new(0, 0);
    book.add(ShardId(0), &Record::Session { session, client_id: "a".into(), expiry_s: 9 });
    book.write(true).unwrap();
    let (_, recovered) = open(1);
    assert_eq!(recovered.shards_before, Some(2));
    assert_eq!(recovered.logs[0][0], Record::Numbered { epoch: 1, last: 0 });
    let (_, recovered) = open(1);
    assert_eq!(recovered.shards_before, None);
    assert_eq!(recovered.logs[0][0], Record::Numbered { epoch: 1, last: 0 });
    let (_, recovered) = open(3);
    assert_eq!(recovered.logs[2][0], Record::Numbered { epoch: 2, last: 0 });
}
