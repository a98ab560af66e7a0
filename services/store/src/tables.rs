//! The sorted tables behind the log: what does not change any more soon, in order of the keys.

use std::{
    io,
    ops::Bound,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions,
    compaction::Leveled,
    config::{BlockSizePolicy, FilterPolicy, PartitioningPolicy, PinningPolicy},
};

use crate::StoreError;

/// Memory for blocks that were read, bytes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Files that are kept open.
const OPEN_FILES: usize = 64;

/// What a walk through rows does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The next row.
    On,
    /// No more rows.
    Stop,
}

/// A part of the tables that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Rows behind this key, or all from the beginning of the walk.
    pub after: Option<Vec<u8>>,
    /// Rows before this key.
    pub before: Vec<u8>,
    /// What the tables say.
    pub error: String,
}

/// Rows in order of their keys, which change many at a time and durably.
pub trait Tables: Send + Sync + 'static {
    /// Writes rows in ascending order of their keys, all or none of them; `None` removes one. They are
    /// durable when it returns.
    ///
    /// # Errors
    /// The tables cannot be written.
    fn ingest(
        &self,
        rows: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
    ) -> Result<(), StoreError>;

    /// Shows the rows from `from` on and before `to`, in order. Rows that cannot be read are left out;
    /// where that happens is returned.
    fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Walk,
    ) -> Vec<Unreadable>;

    /// The last row of a range that can be read.
    fn last(&self, from: &[u8], to: &[u8]) -> Option<(Vec<u8>, Vec<u8>)>;

    /// Gives room back that removed rows take, if that is worth the work. It may take long; reading and
    /// writing go on meanwhile.
    ///
    /// # Errors
    /// The tables cannot be written.
    fn reclaim(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Tables in a directory of the file system.
pub struct Lsm {
    rows: Keyspace,
    /// Removed rows since room was given back.
    removed: AtomicU64,
    // Closed behind its keyspace.
    _database: Database,
}

impl Lsm {
    /// Opens the tables in a directory, or makes them.
    ///
    /// # Errors
    /// They cannot be made, or the system does not let them be read; [`StoreError::Unreadable`] if they
    /// are there and make no sense.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: fjall::Error| {
            let what = format!("open the tables in {}", path.display());
            let (is_damage, error) = (is_damage(&error), error.to_string());
            if is_damage {
                StoreError::Unreadable { what, error }
            } else {
                StoreError::Tables { what, error }
            }
        };
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let rows = database.keyspace("rows", options).map_err(failed)?;
        Ok(Self { rows, removed: AtomicU64::new(0), _database: database })
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.rows.disk_space()
    }
}

/// Whether an error says that files are not what they were, rather than that they cannot be had now.
fn is_damage(error: &fjall::Error) -> bool {
    use fjall::Error as E;
    let io = match error {
        E::Io(error) | E::Storage(fjall::LsmError::Io(error)) => error,
        E::Locked | E::Poisoned | E::KeyspaceDeleted | E::InvalidVersion(Some(_)) => return false,
        _ => return true,
    };
    // What is there and too short, or no longer there, or read as nonsense.
    matches!(
        io.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotFound
            | io::ErrorKind::Other
    )
}

/// Rows are read in order and hardly ever one by one: filters would only take memory. So would indices
/// of large tables, were they kept.
fn options() -> KeyspaceCreateOptions {
    let tables = Leveled::default().with_table_target_size(16 * 1024 * 1024);
    KeyspaceCreateOptions::default()
        .max_memtable_size(1024 * 1024)
        .filter_policy(FilterPolicy::disabled())
        .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(false))
        .compaction_strategy(Arc::new(tables))
}

/// Below this, nobody misses the room.
const WORTHWHILE_BYTES: u64 = 32 * 1024 * 1024;

impl std::fmt::Debug for Lsm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lsm").finish_non_exhaustive()
    }
}

impl Tables for Lsm {
    fn ingest(
        &self,
        rows: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
    ) -> Result<(), StoreError> {
        let failed = |error: fjall::Error| StoreError::Tables {
            what: "write to the tables".into(),
            error: error.to_string(),
        };
        let mut ingestion = self.rows.start_ingestion().map_err(failed)?;
        let mut removed = 0;
        for (key, value) in rows {
            match value {
                Some(value) => ingestion.write(key, value).map_err(failed)?,
                None => {
                    ingestion.write_tombstone(key).map_err(failed)?;
                    removed += 1;
                }
            }
        }
        ingestion.finish().map_err(failed)?;
        self.removed.fetch_add(removed, Ordering::Relaxed);
        Ok(())
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        let removed = self.removed.load(Ordering::Relaxed);
        // A removed row is there twice, until both are dropped together.
        let is_much = removed.saturating_mul(4) >= self.rows.approximate_len() as u64;
        if removed == 0 || !is_much || self.rows.disk_space() < WORTHWHILE_BYTES {
            return Ok(());
        }
        self.removed.fetch_sub(removed, Ordering::Relaxed);
        self.rows.major_compact().map_err(|error| StoreError::Tables {
            what: "give room back".into(),
            error: error.to_string(),
        })
    }

    fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Walk,
    ) -> Vec<Unreadable> {
        let mut unreadable = Vec::new();
        let mut begin = from.to_vec();
        let mut last: Option<Vec<u8>> = None;
        'walk: loop {
            if begin.as_slice() >= to {
                return unreadable;
            }
            for row in
                self.rows.range::<&[u8], _>((Bound::Included(&begin[..]), Bound::Excluded(to)))
            {
                match row.into_inner() {
                    Ok((key, value)) => {
                        last = Some(key.to_vec());
                        if visit(&key, &value) == Walk::Stop {
                            return unreadable;
                        }
                    }
                    Err(error) => {
                        let after = last.take();
                        begin = self.first_readable(after.as_deref().unwrap_or(&begin), to);
                        let (before, error) = (begin.clone(), error.to_string());
                        unreadable.push(Unreadable { after, before, error });
                        continue 'walk;
                    }
                }
            }
            return unreadable;
        }
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        if from >= to {
            return None;
        }
        let mut rows = self.rows.range::<&[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        if let Ok((key, value)) = rows.next_back()?.into_inner() {
            return Some((key.to_vec(), value.to_vec()));
        }
        // The last that can be read is found from the front.
        let mut last = None;
        self.walk(from, to, &mut |key, value| {
            last = Some((key.to_vec(), value.to_vec()));
            Walk::On
        });
        last
    }
}

impl Lsm {
    /// Behind rows that cannot be read, about the first key from which on they can: keys are seen as
    /// numbers, and the step to the next attempt doubles until one succeeds and is halved until the
    /// place is known.
    fn first_readable(&self, bad: &[u8], to: &[u8]) -> Vec<u8> {
        let readable = |key: &[u8]| {
            let mut rows = self.rows.range::<&[u8], _>((Bound::Included(key), Bound::Excluded(to)));
            rows.next().is_none_or(|row| row.into_inner().is_ok())
        };
        let number = |key: &[u8]| {
            let mut bytes = [0; 16];
            // The kind and the session's number, and the place in its queue: 17 bytes; the kind of the
            // range is fixed.
            for (to, from) in bytes.iter_mut().zip(key.iter().skip(1)) {
                *to = *from;
            }
            u128::from_be_bytes(bytes)
        };
        let kind = bad.first().copied().unwrap_or(0);
        let key = |number: u128| [&[kind][..], &number.to_be_bytes()].concat();
        let begin = number(bad);
        let mut step = 1_u128;
        let mut good = loop {
            let next = begin.saturating_add(step);
            let at = key(next);
            if at.as_slice() >= to || next == u128::MAX {
                return to.to_vec();
            }
            if readable(&at) {
                break next;
            }
            step = step.saturating_mul(2);
        };
        let mut low = begin;
        while good.saturating_sub(low) > 1 {
            let middle = low + (good - low) / 2;
            if readable(&key(middle)) {
                good = middle;
            } else {
                low = middle;
            }
        }
        key(good)
    }
}
