//! The log and the tables as one: what is written is durable, what is read is what was written last.
//!
//! Changes go to the log and into a layer in memory. A layer that has grown large is written into the
//! tables, in order of the keys, and then the log up to there is removed. What comes and goes before
//! that, as most messages do, never reaches the tables.
//!
//! Everything here happens in the caller's thread, in an order that the caller chooses.

use std::sync::Arc;

use crate::{
    StoreError,
    changes::Change,
    files::Files,
    frame::{self, NoSegment, Scan},
    keys,
    overlay::Overlay,
    rows::Rows,
    tables::Tables,
};

/// What a start found in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// What cannot be read although it was durable once: where, and how much.
    pub(crate) losses: Vec<String>,
    /// Bytes at the end of the log that were never durable, and are cut off.
    pub(crate) torn_bytes: u64,
    /// Frames that were read.
    pub(crate) frames: u64,
}

/// A log, its tables, and the layers between them.
#[derive(Debug)]
pub(crate) struct Engine<F, T> {
    files: F,
    rows: Arc<Rows<T>>,
    /// The oldest segment that is needed, and the one that is written to.
    oldest: u64,
    segment: u64,
    /// Bytes of the latter.
    len: u64,
    /// The last frame that was written, and the last that is durable.
    sequence: u64,
    synced: u64,
    buffer: Vec<u8>,
}

/// A layer on its way into the tables.
#[derive(Clone, Debug)]
pub(crate) struct Flush {
    layer: Arc<Overlay>,
    /// The first segment that the tables do not have then.
    pub(crate) checkpoint: u64,
}

impl Flush {
    /// Writes it. Any thread may do so.
    pub(crate) fn run<T: Tables>(&self, rows: &Rows<T>) -> Result<(), StoreError> {
        rows.tables().ingest(&mut self.layer.rows())
    }
}

impl<F: Files, T: Tables> Engine<F, T> {
    /// Reads the log, and begins a new segment.
    ///
    /// # Errors
    /// The files cannot be read or written, or a newer version wrote them.
    pub(crate) fn open(mut files: F, tables: T) -> Result<(Self, Found), StoreError> {
        let rows = Rows::new(tables);
        let checkpoint = rows.get(&keys::CHECKPOINT).and_then(|value| value.try_into().ok());
        let oldest = checkpoint.map_or(1, u64::from_be_bytes);
        let mut found = Found::default();
        let read = Reading { files: &mut files, found: &mut found }.read(oldest)?;
        let Read { frames, last_segment, next } = read;
        rows.change(|layer| frames.into_iter().flatten().for_each(|change| layer.reapply(change)));
        let mut engine = Self {
            files,
            rows: Arc::new(rows),
            oldest,
            segment: last_segment,
            len: 0,
            sequence: next.saturating_sub(1),
            synced: next.saturating_sub(1),
            buffer: Vec::new(),
        };
        engine.begin_segment()?;
        Ok((engine, found))
    }

    pub(crate) fn rows(&self) -> &Arc<Rows<T>> {
        &self.rows
    }

    fn begin_segment(&mut self) -> Result<(), StoreError> {
        let segment = self.segment.saturating_add(1);
        let header = frame::header(segment, self.sequence.saturating_add(1));
        self.files
            .create(segment, &header)
            .map_err(StoreError::io("begin a segment of the log"))?;
        (self.segment, self.len) = (segment, header.len() as u64);
        Ok(())
    }

    /// Appends changes to the log, and makes them durable if they shall be. If they cannot be written
    /// nothing has changed, and they may be written again.
    ///
    /// # Errors
    /// The files cannot be written. After a failed sync nobody knows what is durable: then the store
    /// must not be used any further.
    pub(crate) fn write(
        &mut self,
        changes: &mut Vec<Change>,
        sync: bool,
    ) -> Result<(), StoreError> {
        if !changes.is_empty() {
            self.buffer.clear();
            let sequence = self.sequence.saturating_add(1);
            frame::encode(sequence, self.synced, changes, &mut self.buffer);
            if let Err(error) = self.files.append(&self.buffer) {
                // Half a frame would hide what is written behind it.
                self.files.cut(self.segment, self.len).map_err(StoreError::io("mend the log"))?;
                return Err(StoreError::Io { what: "write to the log".into(), error });
            }
            self.len = self.len.saturating_add(self.buffer.len() as u64);
            self.sequence = sequence;
            self.rows.change(|layer| changes.drain(..).for_each(|change| layer.apply(change)));
        }
        if sync { self.sync() } else { Ok(()) }
    }

    /// Makes everything durable that was written.
    ///
    /// # Errors
    /// The system cannot: the store must not be used any further.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        if self.synced < self.sequence {
            self.files.sync().map_err(StoreError::io("make the log durable"))?;
            self.synced = self.sequence;
        }
        Ok(())
    }

    /// Bytes of the log that the layer in memory stands for.
    pub(crate) const fn log_bytes(&self) -> u64 {
        self.len
    }

    /// Sets the layer in memory aside on its way into the tables; `None` if nothing was written since the
    /// last one, or that is on its way. The layer may hold next to nothing and the log be long all the
    /// same: what came and went is in the log only.
    pub(crate) fn freeze(&mut self) -> Result<Option<Flush>, StoreError> {
        let (_, frozen) = self.rows.layer_bytes();
        if frozen > 0 || self.len <= frame::HEADER_BYTES as u64 {
            return Ok(None);
        }
        self.sync()?;
        self.begin_segment()?;
        let checkpoint = self.segment;
        let value = checkpoint.to_be_bytes().into();
        self.rows.change(|layer| layer.apply(Change::Put(keys::CHECKPOINT.into(), value)));
        Ok(self.rows.freeze().map(|layer| Flush { layer, checkpoint }))
    }

    /// The tables have the layer: the log up to there is removed.
    pub(crate) fn flushed(&mut self, checkpoint: u64) -> Result<(), StoreError> {
        self.rows.thaw();
        while self.oldest < checkpoint {
            self.files.remove(self.oldest).map_err(StoreError::io("remove a part of the log"))?;
            self.oldest = self.oldest.saturating_add(1);
        }
        Ok(())
    }

    /// Writes the layer in memory into the tables, here and now.
    ///
    /// # Errors
    /// The files or the tables cannot be written.
    pub(crate) fn checkpoint(&mut self) -> Result<(), StoreError> {
        let Some(flush) = self.freeze()? else { return Ok(()) };
        flush.run(&self.rows)?;
        self.flushed(flush.checkpoint)
    }
}

/// Reading the log at a start.
struct Reading<'a, F> {
    files: &'a mut F,
    found: &'a mut Found,
}

struct Read {
    frames: Vec<Vec<Change>>,
    last_segment: u64,
    /// The sequence of the next frame.
    next: u64,
}

impl<F: Files> Reading<'_, F> {
    fn read(&mut self, oldest: u64) -> Result<Read, StoreError> {
        let list = self.files.list().map_err(StoreError::io("list the log"))?;
        let (over, needed): (Vec<u64>, Vec<u64>) = list.into_iter().partition(|n| *n < oldest);
        for segment in over {
            self.files.remove(segment).map_err(StoreError::io("remove a part of the log"))?;
        }
        let mut scans: Vec<(u64, Vec<u8>, Scan)> = Vec::new();
        for segment in &needed {
            let bytes = self.files.read(*segment);
            let bytes = bytes.map_err(StoreError::io(format!("read segment {segment}")))?;
            match frame::scan(*segment, &bytes) {
                Ok(scan) => scans.push((*segment, bytes, scan)),
                Err(NoSegment::Version(version)) => {
                    return Err(StoreError::OtherVersion {
                        path: format!("segment {segment} of the log").into(),
                        format: version.to_string(),
                    });
                }
                // One whose creation was not finished holds nothing.
                Err(_) if Some(segment) == needed.last() && bytes.len() <= frame::HEADER_BYTES => {
                    self.found.torn_bytes += bytes.len() as u64;
                    self.files.remove(*segment).map_err(StoreError::io("remove a torn segment"))?;
                }
                Err(why) => {
                    self.set_aside(*segment, 0, &bytes)?;
                    let what = format!("segment {segment}, {} bytes: {why:?}", bytes.len());
                    self.found.losses.push(what);
                    self.files.remove(*segment).map_err(StoreError::io("set a segment aside"))?;
                }
            }
        }
        let last_segment = needed.last().copied().unwrap_or(0).max(oldest.saturating_sub(1));
        let (frames, next) = self.judge(oldest, scans)?;
        Ok(Read { frames, last_segment, next })
    }

    /// Takes the frames up to the first that is missing and was never durable.
    fn judge(
        &mut self,
        oldest: u64,
        scans: Vec<(u64, Vec<u8>, Scan)>,
    ) -> Result<(Vec<Vec<Change>>, u64), StoreError> {
        let frames = || scans.iter().flat_map(|(_, _, scan)| &scan.frames);
        let synced = frames().map(|(_, frame)| frame.synced).max().unwrap_or(0);
        // A segment is begun when everything before it is durable.
        let begun = scans.last().map_or(0, |(_, _, scan)| scan.first.saturating_sub(1));
        let synced = synced.max(begun);
        let mut taken = Vec::new();
        let mut next = match scans.first() {
            Some((segment, _, scan)) if *segment == oldest => scan.first,
            Some((segment, _, scan)) => {
                let last = segment.saturating_sub(1);
                let what = format!("segments {oldest} to {last} are missing");
                self.found.losses.push(what);
                scan.first
            }
            // The segment behind a checkpoint is there before the checkpoint is.
            None if oldest > 1 => {
                let what = format!("segment {oldest} and all behind it are missing");
                self.found.losses.push(what);
                1
            }
            None => 1,
        };
        let mut torn = false;
        // What a segment's end cannot lack: the frames before the next one, or else the durable ones.
        let ends = scans.iter().skip(1).map(|(_, _, scan)| scan.first);
        let ends: Vec<u64> = ends.chain([synced.saturating_add(1)]).collect();
        // What is read may not be durable: the process may have died between a write and its sync.
        // From now on it counts as durable, so it has to be.
        if let Some((segment, bytes, _)) = scans.last() {
            let whole = self.files.cut(*segment, bytes.len() as u64);
            whole.map_err(StoreError::io("make the log durable"))?;
        }
        for ((segment, bytes, scan), end) in scans.into_iter().zip(ends) {
            if torn {
                self.found.torn_bytes += bytes.len() as u64;
                self.files.remove(segment).map_err(StoreError::io("remove a torn segment"))?;
                continue;
            }
            if scan.first > next {
                let last = scan.first.saturating_sub(1);
                let what = format!("frames {next} to {last} are missing before segment {segment}");
                self.found.losses.push(what);
                next = scan.first;
            }
            let mut gaps = scan.gaps.iter().copied().peekable();
            for (at, frame) in scan.frames {
                let gap = gaps.next_if(|(_, end)| *end <= at);
                if frame.sequence > next {
                    let begin = gap.map_or(at, |(begin, _)| begin);
                    if next > synced {
                        self.cut(segment, begin, bytes.len())?;
                        torn = true;
                        break;
                    }
                    self.lose(segment, (begin, at), &bytes, (next, frame.sequence))?;
                }
                next = frame.sequence.saturating_add(1);
                self.found.frames += 1;
                taken.push(frame.changes);
            }
            if !torn && let Some((begin, _)) = gaps.next() {
                if next < end {
                    self.lose(segment, (begin, bytes.len()), &bytes, (next, end))?;
                    next = end;
                } else {
                    // Nothing says that it was ever durable.
                    self.cut(segment, begin, bytes.len())?;
                }
            }
        }
        Ok((taken, next))
    }

    fn cut(&mut self, segment: u64, at: usize, len: usize) -> Result<(), StoreError> {
        self.found.torn_bytes += len.saturating_sub(at) as u64;
        self.files.cut(segment, at as u64).map_err(StoreError::io("cut the end of the log"))
    }

    /// Bytes of a segment cannot be read, and with them the frames of these sequences.
    fn lose(
        &mut self,
        segment: u64,
        (begin, end): (usize, usize),
        bytes: &[u8],
        (first, next): (u64, u64),
    ) -> Result<(), StoreError> {
        let lost = bytes.get(begin..end).unwrap_or_default();
        self.set_aside(segment, begin, lost)?;
        let last = next.saturating_sub(1);
        let rows = frame::describe(lost);
        let what =
            format!("segment {segment}, bytes {begin} to {end}: frames {first} to {last}{rows}");
        self.found.losses.push(what);
        Ok(())
    }

    fn set_aside(&mut self, segment: u64, begin: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let name = format!("segment-{segment}-at-{begin}");
        self.files.quarantine(&name, bytes).map_err(StoreError::io("set damaged bytes aside"))
    }
}
