//! What the broker of a world writes, on a disk that fails as disks do.
//!
//! Each shard's log is also kept as plain records. After a crash the store must give back what some
//! number of them says, at least of those that were durable, and nothing else.

use session_core::{Load, Loaded, Record, Shard, ShardConfig, ShardId, ShardMap, repartition};
use store::{
    Book, Opening, Repair,
    sim::{SimDisk, SimFiles, SimTables},
};

use super::{
    Finding,
    node::{Node, disk_of, recovered},
};
use crate::sim::Rng;

/// The levels of a topic that decide its shard, in every world.
const LEVELS: u8 = 1;

/// A store and its disk.
#[derive(Debug)]
pub(super) struct Paper {
    disk: SimDisk,
    book: Option<Book<SimFiles, SimTables>>,
    rng: Rng,
    shares: bool,
}

fn finding(detail: impl ToString) -> Finding {
    Finding::new("store", detail.to_string())
}

impl Paper {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::default(),
            book: None,
            rng: Rng::new(seed),
            shares: seed.is_multiple_of(2),
        }
    }

    /// In half of the worlds the smallest message is stored once for all that wait for it.
    const fn how(&self) -> Opening {
        let share_bytes = if self.shares { 0 } else { 256 };
        Opening { repair: Repair::Quarantine, first_messages: 64, share_bytes }
    }

    fn book(&mut self) -> Result<&mut Book<SimFiles, SimTables>, Finding> {
        self.book.as_mut().ok_or_else(|| finding("it is not open"))
    }

    /// Writes what a shard made in some calls, durably.
    pub(super) fn persist(
        &mut self,
        shard: ShardId,
        batches: &[Vec<Record>],
    ) -> Result<(), Finding> {
        let book = self.book()?;
        batches.iter().flatten().for_each(|record| book.add(shard, record));
        book.write(true).map_err(finding)?;
        match self.rng.below(16) {
            0 => self.book()?.checkpoint().map_err(finding)?,
            1 => self.book()?.sweep(),
            _ => {}
        }
        Ok(())
    }

    /// Answers a question, as the plain records answer it.
    pub(super) fn check_load(
        &mut self,
        shard: ShardId,
        load: &Load,
        expected: &Loaded,
    ) -> Result<(), Finding> {
        let (loaded, losses) = self.book()?.load(shard, load);
        // Whether a part that is full is also the last need not be known.
        if loaded.messages == expected.messages && losses.is_empty() {
            return Ok(());
        }
        Err(finding(format!("it answers {loaded:?} instead of {expected:?}, and lost {losses:?}")))
    }

    /// Opens the store of an empty disk.
    pub(super) fn begin(&mut self, map: ShardMap) -> Result<(), Finding> {
        let (files, tables) = (self.disk.files(), self.disk.tables());
        let how = self.how();
        self.book = Some(Book::open(files, tables, map, LEVELS, how).map_err(finding)?.0);
        Ok(())
    }

    /// Power fails while everything is written that is not durable, call by call; then the store is
    /// opened for another map. Returns the shards as they start, with their plain logs.
    pub(super) fn crash(
        &mut self,
        nodes: Vec<Node>,
        survive: usize,
        map: ShardMap,
        config: impl Fn(ShardId) -> ShardConfig,
    ) -> Result<Vec<(Shard, Shard)>, Finding> {
        let tails: Vec<Vec<Vec<Record>>> = nodes.iter().map(|node| node.tail(survive)).collect();
        let most = tails.iter().map(Vec::len).max().unwrap_or(0);
        let mut written = Vec::new();
        for call in 0..most {
            for (shard, tail) in (0..).map(ShardId).zip(&tails) {
                let Some(records) = tail.get(call) else { continue };
                let book = self.book()?;
                records.iter().for_each(|record| book.add(shard, record));
                book.write(false).map_err(finding)?;
                written.push((shard, records.clone()));
            }
        }
        self.book = None;
        let rng = &mut self.rng;
        self.disk.crash(&mut |below| rng.below(below));
        let first_messages = 1 + self.rng.below(3);
        let how = Opening { first_messages, ..self.how() };
        let (files, tables) = (self.disk.files(), self.disk.tables());
        let (book, remembered) = Book::open(files, tables, map, LEVELS, how).map_err(finding)?;
        self.book = Some(book);
        if !remembered.losses.is_empty() {
            return Err(finding(format!("it lost what was durable: {:?}", remembered.losses)));
        }
        let mut found = Vec::new();
        for (id, log) in map.all().zip(remembered.logs) {
            found.push(Shard::recovered(config(id), log));
        }
        let mut disks: Vec<Shard> = nodes.into_iter().map(Node::into_disk).collect();
        let mut written = written.into_iter();
        let mut nearest = None;
        let read = |config: &ShardConfig, disk: &Shard| recovered(config, disk, first_messages);
        loop {
            let plain = deal(&disks, map, &config);
            let expected: Vec<Shard> =
                plain.iter().zip(map.all()).map(|(disk, id)| read(&config(id), disk)).collect();
            let (missing, surplus) = differences(&expected, &found);
            if missing.is_empty() && surplus.is_empty() {
                return Ok(found.into_iter().zip(plain).collect());
            }
            let size = missing.len() + surplus.len();
            if nearest.as_ref().is_none_or(|(least, _)| size < *least) {
                nearest = Some((size, format!("missing {missing:?}, surplus {surplus:?}")));
            }
            let Some((shard, records)) = written.next() else {
                let (_, detail) = nearest.unwrap_or_default();
                return Err(finding(format!("it remembers something else: {detail}")));
            };
            if let Some(disk) = disks.get_mut(usize::from(shard.0)) {
                records.into_iter().for_each(|record| disk.recover(record));
            }
        }
    }
}

/// The plain logs of the shards of another map.
fn deal(disks: &[Shard], map: ShardMap, config: &impl Fn(ShardId) -> ShardConfig) -> Vec<Shard> {
    if disks.len() == usize::from(map.shards()) {
        return disks.to_vec();
    }
    let dealt = map.all().zip(repartition(disks, map));
    dealt.map(|(id, log)| Shard::recovered(disk_of(&config(id)), log)).collect()
}

/// What one of two groups of shards remembers and the other does not, in whatever order: missing and
/// surplus.
fn differences(expected: &[Shard], found: &[Shard]) -> (Vec<Record>, Vec<Record>) {
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    for (expected, found) in expected.iter().zip(found) {
        let mut left: Vec<Record> = expected.snapshot().collect();
        for record in found.snapshot() {
            match left.iter().position(|one| *one == record) {
                Some(at) => drop(left.swap_remove(at)),
                None => surplus.push(record),
            }
        }
        missing.append(&mut left);
    }
    (missing, surplus)
}
