//! Who owns what: the first levels of a topic decide, and all of them.

use std::collections::BTreeSet;

use session_core::{ShardId, ShardMap};

const TOPICS: [&str; 12] =
    ["a", "a/", "a/b", "a/c", "a/d", "a/e", "a/f", "a/g", "b/b", "", "/", "//x"];

#[test]
fn one_shard_owns_everything() {
    let map = ShardMap::new(1, 2);
    for topic in TOPICS {
        assert_eq!(map.topic(topic.as_bytes()), ShardId(0));
        assert_eq!(map.session(topic), ShardId(0));
    }
    for filter in ["#", "+/b", "a/b"] {
        assert_eq!(map.filter(filter.as_bytes()), Some(ShardId(0)), "{filter}");
    }
    assert_eq!(ShardMap::new(0, 0), ShardMap::new(1, 1), "there is no broker of no shards");
}

#[test]
fn the_deciding_levels_decide_alone() {
    let map = ShardMap::new(7, 2);
    for topic in ["a/b", "a/c", "/", "x/y"] {
        for further in ["/c", "/d/e", "/", "//"] {
            let deeper = format!("{topic}{further}");
            assert_eq!(map.topic(deeper.as_bytes()), map.topic(topic.as_bytes()), "{deeper}");
        }
    }
}

#[test]
fn each_deciding_level_tells_topics_apart() {
    for levels in 1..=3 {
        let map = ShardMap::new(7, levels);
        let owner = |last: u8| {
            let before = "a/".repeat(usize::from(levels) - 1);
            map.topic(format!("{before}{}/z", char::from(last)).as_bytes())
        };
        let owners: BTreeSet<ShardId> = (b'a'..=b'z').map(owner).collect();
        assert!(owners.len() > 4, "{levels} levels: {owners:?}");
    }
}

#[test]
fn a_filter_belongs_to_one_shard_if_its_topics_do() {
    let map = ShardMap::new(7, 2);
    for filter in ["a/b", "a/b/#", "a/b/+/c", "a/b/c"] {
        assert_eq!(map.filter(filter.as_bytes()), Some(map.topic(b"a/b")), "{filter}");
    }
    for filter in ["#", "+", "+/b", "a/+", "a/#", "a/+/c", "+/+/c"] {
        assert_eq!(map.filter(filter.as_bytes()), None, "{filter}");
    }
    // What has fewer levels than decide is a topic of its own.
    assert_eq!(map.filter(b"a"), Some(map.topic(b"a")));
}

#[test]
fn all_shards_are_named_in_order() {
    let all: Vec<ShardId> = ShardMap::new(3, 1).all().collect();
    assert_eq!(all, [ShardId(0), ShardId(1), ShardId(2)]);
    assert_eq!(ShardMap::new(3, 1).shards(), 3);
}

/// Who owns what decides where data lies on the disk: it is the same in every version.
#[test]
fn owners_never_change() {
    let map = ShardMap::new(1000, 2);
    let owners = ["", "client", "a/b", "sensors/7/state"].map(|name| map.session(name).0);
    assert_eq!(owners, [945, 536, 592, 171]);
}
