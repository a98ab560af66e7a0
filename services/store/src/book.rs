//! All that the shards of one broker have said, written down: records go in, and come out again at the
//! next start. One thread's view of the store, without threads, clocks and files of its own.

use std::{collections::VecDeque, sync::Arc};

use session_core::{Load, Loaded, Record, ShardId, ShardMap};

use crate::{
    StoreError,
    changes::{Change, Translator},
    engine::{Engine, Flush},
    files::Files,
    keys::Sid,
    recovery::{self, Recovered},
    rows::Rows,
    sweep::{Swept, sweep},
    tables::Tables,
};

/// The records of a broker's shards, in a log and tables.
#[derive(Debug)]
pub struct Book<F, T> {
    engine: Engine<F, T>,
    translator: Translator,
    /// What is not written, and its bytes.
    pending: Vec<Change>,
    pending_bytes: usize,
    /// Sessions that ended with what is not written, and those whose rows are to be swept away.
    ending: Vec<Sid>,
    ended: VecDeque<Sid>,
}

/// What a start may do about damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Set damaged parts aside, say what is lost, and start.
    #[default]
    Quarantine,
    /// Do not start.
    Refuse,
}

/// How a book is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What to do about damage.
    pub repair: Repair,
    /// Waiting messages of one session that are read at the start, at least one. As many as an absent
    /// session may keep in memory do; if it is told more, it leaves them to the disk again.
    pub first_messages: usize,
    /// Messages of fewer bytes are stored once for each session that waits for them.
    pub share_bytes: usize,
}

impl Default for Opening {
    fn default() -> Self {
        Self { repair: Repair::default(), first_messages: 64, share_bytes: 256 }
    }
}

impl<F: Files, T: Tables> Book<F, T> {
    /// Reads what was written for the shards of any map, and prepares it for those of this one, of which
    /// so many levels of a topic decide its shard. The records in what is returned are to be read by the
    /// shards before anything is added.
    ///
    /// # Errors
    /// The files or tables cannot be used, a newer version wrote them, or there is damage and `repair`
    /// does not allow to go on.
    pub fn open(
        files: F,
        tables: T,
        map: ShardMap,
        topic_levels: u8,
        how: Opening,
    ) -> Result<(Self, Recovered), StoreError> {
        let (engine, found) = Engine::open(files, tables)?;
        let is_damaged = !found.losses.is_empty();
        let restart = recovery::recover(engine.rows(), map, topic_levels, how, is_damaged);
        let mut recovered = restart.recovered;
        recovered.torn_bytes = found.torn_bytes;
        recovered.losses.splice(0..0, found.losses);
        if how.repair == Repair::Refuse && !recovered.losses.is_empty() {
            return Err(StoreError::Damaged(recovered.losses));
        }
        let mut book = Self {
            engine,
            translator: restart.translator,
            pending: restart.changes,
            pending_bytes: 0,
            ending: Vec::new(),
            ended: restart.ended.into_iter().collect(),
        };
        book.write(true)?;
        Ok((book, recovered))
    }

    /// Adds a record of a shard to what the next [`Book::write`] writes.
    pub fn add(&mut self, shard: ShardId, record: &Record) {
        let before = self.pending.len();
        let rows = self.engine.rows();
        let find = |key: &[u8]| rows.get(key);
        self.ending.extend(self.translator.translate(shard, record, &find, &mut self.pending));
        let added = self.pending.iter().skip(before).map(Change::bytes).sum();
        self.pending_bytes = self.pending_bytes.saturating_add(added);
    }

    pub(crate) const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Adds the removal of rows of a session that ended.
    pub(crate) fn add_swept(&mut self, mut swept: Swept) {
        self.pending.append(&mut swept.changes);
        for body in swept.bodies {
            self.translator.release(body, &mut self.pending);
        }
    }

    /// Whether something waits to be written.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what was added: all of it or nothing. It is durable then if `sync` says so.
    ///
    /// # Errors
    /// The files cannot be written. If the disk is full ([`StoreError::is_full`]) the same may be tried
    /// again; after any other error the book must not be used any further.
    pub fn write(&mut self, sync: bool) -> Result<(), StoreError> {
        self.engine.write(&mut self.pending, sync)?;
        self.pending_bytes = 0;
        self.translator.written();
        self.ended.extend(self.ending.drain(..));
        Ok(())
    }

    /// The next part of a backlog, and what of it cannot be read, in words.
    pub fn load(&self, shard: ShardId, load: &Load) -> (Loaded, Vec<String>) {
        match self.translator.sid(shard, load.session) {
            Some(sid) => recovery::read_backlog(self.engine.rows(), sid, *load),
            // The session ended meanwhile.
            None => (Loaded { load: *load, messages: Vec::new(), complete: true }, Vec::new()),
        }
    }

    /// Writes everything into the tables and removes the log up to there.
    ///
    /// # Errors
    /// The files or the tables cannot be written.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.engine.checkpoint()
    }

    /// Removes the rows of sessions that ended; they are written with what comes next.
    pub fn sweep(&mut self) {
        while let Some(sid) = self.ended.pop_front() {
            let mut all = Vec::new();
            sweep(self.engine.rows(), sid, |swept| all.push(swept));
            all.into_iter().for_each(|swept| self.add_swept(swept));
        }
    }

    pub(crate) fn rows(&self) -> &Arc<Rows<T>> {
        self.engine.rows()
    }

    pub(crate) fn sid(&self, shard: ShardId, load: &Load) -> Option<Sid> {
        self.translator.sid(shard, load.session)
    }

    pub(crate) fn take_ended(&mut self) -> impl Iterator<Item = Sid> {
        self.ended.drain(..)
    }

    pub(crate) const fn log_bytes(&self) -> u64 {
        self.engine.log_bytes()
    }

    pub(crate) fn freeze(&mut self) -> Result<Option<Flush>, StoreError> {
        self.engine.freeze()
    }

    pub(crate) fn flushed(&mut self, checkpoint: u64) -> Result<(), StoreError> {
        self.engine.flushed(checkpoint)
    }
}
