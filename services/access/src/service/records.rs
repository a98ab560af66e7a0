//! What is remembered of clients: who is blocked, who failed, who was refused.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::Time;
use tracing::{error, warn};

use super::{
    Reply,
    judge::{Gate, Visitor},
    lines::Lines,
};
use crate::{Block, Blocked, Blocks, Guard, GuardConfig, Refusal, Refusals, refusals::shortened};

/// Refusals that administrators may look at.
const REFUSALS_MAX: usize = 1000;

/// The records, one for all workers. They are looked at for a moment only.
pub(super) struct Records {
    content: Mutex<Content>,
    blocks_file: Option<PathBuf>,
}

/// A change of blocks.
pub(super) enum Change {
    Block(Block),
    Unblock(Blocked),
}

struct Content {
    blocks: Blocks,
    guard: Guard,
    refusals: Refusals,
    lines: Lines,
}

impl Records {
    /// Reads the blocks.
    ///
    /// # Errors
    /// Everything that is wrong with their file, one line each.
    pub(super) fn open(
        blocks_file: Option<PathBuf>,
        guard: GuardConfig,
    ) -> Result<Self, Vec<String>> {
        let blocks = match &blocks_file {
            None => Blocks::default(),
            Some(path) => read_blocks(path)?,
        };
        let (guard, refusals) = (Guard::new(guard), Refusals::new(REFUSALS_MAX));
        let content = Mutex::new(Content { blocks, guard, refusals, lines: Lines::new() });
        Ok(Self { content, blocks_file })
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or removes a block. Returns the text for [`Records::keep`].
    ///
    /// # Errors
    /// Nothing was changed.
    pub(super) fn change(&self, now: Time, change: Change) -> Result<String, Reply> {
        let mut content = self.content();
        match change {
            Change::Block(block) => content.blocks.add(block).map_err(Reply::Failed)?,
            Change::Unblock(of) => {
                let was_blocked = content.blocks.remove(&of);
                // Whoever is let in again shall not be kept out by what it did before.
                let was_kept_out = match of {
                    Blocked::Address(range) => content.guard.pardon(now, range),
                    _ => false,
                };
                if !was_blocked && !was_kept_out {
                    return Err(Reply::NotFound);
                }
            }
        }
        content.blocks.sweep(now);
        Ok(content.blocks.text(now))
    }

    /// Reads the file of blocks again. If anything is wrong with it, the blocks stay as they were.
    ///
    /// # Errors
    /// Everything that is wrong with it, one line each.
    pub(super) fn reload(&self) -> Result<(), Vec<String>> {
        if let Some(path) = &self.blocks_file {
            let blocks = read_blocks(path)?;
            self.content().blocks = blocks;
        }
        Ok(())
    }

    /// Has blocks outlive the broker. It may take a moment.
    pub(super) fn keep(&self, text: &str) -> Reply {
        match self.blocks_file.as_deref().map(|path| write(path, text)) {
            Some(Err(error)) => Reply::Failed(format!("it holds, but cannot be kept: {error}")),
            _ => Reply::Changed,
        }
    }

    /// All blocks that hold.
    pub(super) fn blocks(&self, now: Time) -> Vec<Block> {
        let content = self.content();
        let holds = |block: &&Block| block.until.is_none_or(|until| now < until);
        content.blocks.iter().filter(holds).cloned().collect()
    }

    /// The last refusals, the latest first.
    pub(super) fn refusals(&self, max: usize) -> Vec<Refusal> {
        self.content().refusals.latest().take(max).cloned().collect()
    }

    /// Remembers a refusal.
    pub(super) fn remember(&self, refusal: Refusal) {
        self.content().refusals.add(refusal);
    }

    /// Writes a line about a refusal, unless there were too many of its address.
    pub(super) fn write_line(&self, refusal: &Refusal) {
        let Refusal { at, visitor, provider, reason, why } = refusal;
        let Some(left_out) = self.content().lines.take(*at, visitor.address) else { return };
        let address = visitor.address.map(|address| address.to_string()).unwrap_or_default();
        warn!(
            client = ?shortened(&visitor.client_id),
            user = ?shortened(visitor.user.as_deref().unwrap_or_default()),
            address,
            listener = %visitor.listener,
            password_given = visitor.has_secret,
            provider = provider.as_deref().unwrap_or_default(),
            reason = reason.name(),
            ?why,
            left_out,
            "refused"
        );
    }
}

impl Gate for Records {
    fn blocked(&self, now: Time, visitor: &Visitor) -> Option<Box<str>> {
        let Visitor { client_id, user, address, .. } = visitor;
        let content = self.content();
        if let Some(block) = content.blocks.find(now, client_id, user.as_deref(), *address) {
            return Some(match &*block.note {
                "" => format!("blocked: {:?}", block.of).into(),
                note => format!("blocked: {:?} ({note})", block.of).into(),
            });
        }
        // Whoever is in is not thrown out for what others try from its address.
        let address = visitor.address.filter(|_| visitor.is_newcomer())?;
        let until = content.guard.kept_out(now, address)?;
        let s = until.since_ms(now).div_ceil(1000);
        Some(format!("too many failures; kept out for {s} s").into())
    }

    fn failed(&self, now: Time, visitor: &Visitor) {
        let Some(address) = visitor.address else { return };
        if let Some(until) = self.content().guard.failed(now, address) {
            let seconds = until.since_ms(now).div_ceil(1000);
            warn!(%address, seconds, "too many failures: the address is kept out");
        }
    }
}

fn read_blocks(path: &Path) -> Result<Blocks, Vec<String>> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Blocks::parse(&name, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Blocks::default()),
        Err(error) => Err(vec![format!("cannot read {name}: {error}")]),
    }
}

/// Replaces the file in one step.
fn write(path: &Path, text: &str) -> io::Result<()> {
    crate::password::replace_file(path, text).inspect_err(|error| {
        error!("{}: {error}", path.display());
    })
}
