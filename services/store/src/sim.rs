//! A disk that fails as disks do, for tests: what was not synced is lost, torn, or arrives in another
//! order, sectors flip, and there may be no room.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    StoreError,
    files::Files,
    tables::{Tables, Unreadable, Walk},
};

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file: what is durable, and what may or may not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SimFile {
    bytes: Vec<u8>,
    /// So many of them are durable.
    durable: usize,
}

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<u64, SimFile>,
    current: Option<u64>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    aside: Vec<(String, Vec<u8>)>,
    /// Bytes that may still be appended; `None` is any number.
    room: Option<usize>,
    syncs: u64,
    fails_to_sync: bool,
}

/// A disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log's files on it.
    pub fn files(&self) -> SimFiles {
        SimFiles(self.clone())
    }

    /// The tables on it.
    pub fn tables(&self) -> SimTables {
        SimTables(self.clone())
    }

    /// A disk with the same content, that goes its own way.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Power fails. What was not synced survives as far as `draw` decides, which gives numbers below the
    /// one it gets: all, nothing, a part that ends anywhere, or any of its sectors, the others zero or
    /// full of something else.
    pub fn crash(&self, draw: &mut dyn FnMut(usize) -> usize) {
        let mut state = self.state();
        state.current = None;
        for file in state.files.values_mut() {
            let unsure = file.bytes.len().saturating_sub(file.durable);
            if unsure > 0 {
                file.fail(unsure, draw);
            }
            file.durable = file.bytes.len();
        }
    }

    /// Flips a bit of what is in the log: of its bytes, all files in order, this one.
    pub fn flip(&self, at: usize, bit: u8) {
        let mut state = self.state();
        let mut left = at;
        for file in state.files.values_mut() {
            if let Some(byte) = file.bytes.get_mut(left) {
                *byte ^= 1_u8.wrapping_shl(u32::from(bit));
                return;
            }
            left = left.saturating_sub(file.bytes.len());
        }
    }

    /// Bytes in the log.
    pub fn log_bytes(&self) -> usize {
        self.state().files.values().map(|file| file.bytes.len()).sum()
    }

    /// How often something was made durable.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Lets so many more bytes be appended, or any number.
    pub fn set_room(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// Lets every sync fail from now on.
    pub fn fail_to_sync(&self) {
        self.state().fails_to_sync = true;
    }

    /// The names of what was set aside.
    pub fn aside(&self) -> Vec<String> {
        self.state().aside.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Rows in the tables.
    pub fn rows(&self) -> usize {
        self.state().rows.len()
    }
}

impl SimFile {
    fn fail(&mut self, unsure: usize, draw: &mut dyn FnMut(usize) -> usize) {
        match draw(4) {
            0 => {}
            1 => self.bytes.truncate(self.durable),
            2 => self.bytes.truncate(self.durable.saturating_add(draw(unsure))),
            _ => {
                for sector in self.bytes.split_at_mut(self.durable).1.chunks_mut(SECTOR) {
                    match draw(3) {
                        0 => {}
                        1 => sector.fill(0),
                        _ => sector.fill(0xA5),
                    }
                }
            }
        }
    }
}

/// The log's files on a [`SimDisk`].
#[derive(Debug)]
pub struct SimFiles(SimDisk);

fn no_such(segment: u64) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("segment {segment}"))
}

impl Files for SimFiles {
    fn list(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.0.state().files.keys().copied().collect())
    }

    fn read(&mut self, segment: u64) -> io::Result<Vec<u8>> {
        let state = self.0.state();
        state.files.get(&segment).map(|file| file.bytes.clone()).ok_or_else(|| no_such(segment))
    }

    fn create(&mut self, segment: u64, header: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        state.syncs += 1;
        let file = SimFile { bytes: header.to_vec(), durable: header.len() };
        if state.files.insert(segment, file).is_some() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.current = Some(segment);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        let taken = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if let Some(room) = &mut state.room {
            *room = room.saturating_sub(taken);
        }
        let current = state.current.ok_or_else(|| no_such(0))?;
        let file = state.files.get_mut(&current).ok_or_else(|| no_such(current))?;
        file.bytes.extend(bytes.iter().take(taken));
        if taken < bytes.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.state();
        if state.fails_to_sync {
            return Err(io::Error::other("the disk does not answer"));
        }
        state.syncs += 1;
        let current = state.current.ok_or_else(|| no_such(0))?;
        let file = state.files.get_mut(&current).ok_or_else(|| no_such(current))?;
        file.durable = file.bytes.len();
        Ok(())
    }

    fn cut(&mut self, segment: u64, len: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let file = state.files.get_mut(&segment).ok_or_else(|| no_such(segment))?;
        file.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        file.durable = file.bytes.len();
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.0.state().files.remove(&segment).map(drop).ok_or_else(|| no_such(segment))
    }

    fn quarantine(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.state().aside.push((name.to_owned(), bytes.to_vec()));
        Ok(())
    }
}

/// The tables on a [`SimDisk`]; they are whole, as they are made of files that never change.
#[derive(Debug)]
pub struct SimTables(SimDisk);

impl Tables for SimTables {
    fn ingest(
        &self,
        rows: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
    ) -> Result<(), StoreError> {
        let mut state = self.0.state();
        for (key, value) in rows {
            match value {
                Some(value) => drop(state.rows.insert(key.to_vec(), value.to_vec())),
                None => drop(state.rows.remove(key)),
            }
        }
        Ok(())
    }

    fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Walk,
    ) -> Vec<Unreadable> {
        let state = self.0.state();
        if from < to {
            for (key, value) in state.rows.range(from.to_vec()..to.to_vec()) {
                if visit(key, value) == Walk::Stop {
                    break;
                }
            }
        }
        Vec::new()
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let state = self.0.state();
        if from >= to {
            return None;
        }
        let last = state.rows.range(from.to_vec()..to.to_vec()).next_back();
        last.map(|(key, value)| (key.clone(), value.clone()))
    }
}
