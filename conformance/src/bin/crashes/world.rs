//! What all clients share, and how each is driven.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use codec::{Packet, QoS};

use crate::{
    findings::Findings,
    ledger::{Claim, Receiver},
    link::{Identity, Link},
};

/// Messages that may wait for the slowest subscriber: less than a session's queue holds, so that
/// nothing is dropped by right.
const WAITING_MAX: u64 = 8000;

/// What does not come for so long, on a machine that is busy, will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Connect and subscribe.
    SetUp,
    /// Everything, until the broker is killed.
    Load,
    /// Finish what was begun, and begin nothing.
    Drain,
}

/// What all clients share.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) part: Part,
    pub(crate) findings: Findings,
    /// From just before the broker is killed: connections may break.
    pub(crate) is_killed: AtomicBool,
    /// From just after it was killed: nobody connects any more.
    pub(crate) is_over: AtomicBool,
    /// Every packet that came to any client.
    pub(crate) packets: AtomicU64,
    /// Clients that have not done their part.
    pub(crate) busy: AtomicU64,
    /// The QoS of each publisher.
    pub(crate) publishers: Vec<QoS>,
    /// How many messages each publisher has begun.
    pub(crate) begun: Vec<AtomicU64>,
    /// Messages that were refused or abandoned.
    pub(crate) gone: AtomicU64,
    pub(crate) receivers: Vec<Mutex<Receiver>>,
    /// The most messages that waited for one session when it came back.
    pub(crate) backlog_max: AtomicU64,
}

impl World {
    pub(crate) fn receiver(&self, at: usize) -> MutexGuard<'_, Receiver> {
        self.receivers[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait for what must come. Once something was found, only for what else is lost.
    pub(crate) fn patience(&self) -> Duration {
        if self.findings.is_empty() { PATIENCE } else { PATIENCE / 20 }
    }

    /// Messages that everybody should have sooner or later.
    pub(crate) fn due(&self) -> u64 {
        let begun: u64 = self.begun.iter().map(|begun| begun.load(SeqCst)).sum();
        begun.saturating_sub(self.gone.load(SeqCst))
    }

    /// Messages that the slowest subscriber does not have yet.
    pub(crate) fn waiting(&self) -> u64 {
        let all = 0..self.receivers.len();
        let slowest = all
            .map(|at| self.receiver(at))
            .filter(|receiver| receiver.claim != Claim::Share)
            .map(|receiver| receiver.distinct)
            .min();
        self.due().saturating_sub(slowest.unwrap_or(0))
    }

    /// Whether publishers may begin one more message.
    pub(crate) fn has_room(&self) -> bool {
        self.part == Part::Load && !self.is_killed.load(SeqCst) && self.waiting() < WAITING_MAX
    }
}

/// What all clients have in common.
pub(crate) struct Common {
    pub(crate) identity: Identity,
    /// CONNACK told of a session that lasts.
    pub(crate) has_session: bool,
}

impl Common {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, has_session: false }
    }
}

/// A client with a persistent session.
pub(crate) trait Client: Send {
    fn common(&mut self) -> &mut Common;

    /// A connection is there; `is_resumed` says that the session is, too.
    fn begin(&mut self, link: &mut Link, is_resumed: bool, world: &World);

    /// Sends what it has to say by itself.
    fn turn(&mut self, link: &mut Link, world: &World);

    /// Answers a packet; `false` if this client should not have got one like it.
    fn packet(&mut self, packet: &Packet, link: &mut Link, world: &World) -> bool;

    /// It has nothing to finish.
    fn is_settled(&self, world: &World) -> bool;

    /// It stays connected for what others still send.
    fn stays(&self, _world: &World) -> bool {
        false
    }
}

/// Lets a client do its part.
pub(crate) fn drive(client: &mut dyn Client, world: &World) {
    let mut is_busy = true;
    while !world.is_over.load(SeqCst) {
        let identity = client.common().identity.clone();
        let is_over = || world.is_over.load(SeqCst);
        match Link::connect(world.address, &identity, is_over) {
            Ok((mut link, is_present)) => {
                let had = std::mem::replace(&mut client.common().has_session, true);
                if had && !is_present {
                    world.findings.add("session lost", || identity.client_id.clone());
                }
                if !had && is_present {
                    world.findings.add("session made up", || identity.client_id.clone());
                }
                let ended = serve(client, &mut link, had && is_present, world, &mut is_busy);
                match ended {
                    Ok(()) => return,
                    Err(error) => tell_end(&identity, &error, world),
                }
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                tell_end(&identity, &error, world);
            }
            // Not there yet, or no longer.
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Serves one connection until it breaks, or the part is done.
fn serve(
    client: &mut dyn Client,
    link: &mut Link,
    is_resumed: bool,
    world: &World,
    is_busy: &mut bool,
) -> std::io::Result<()> {
    client.begin(link, is_resumed, world);
    loop {
        client.turn(link, world);
        link.flush()?;
        if world.part != Part::Load {
            if client.is_settled(world) && std::mem::replace(is_busy, false) {
                world.busy.fetch_sub(1, SeqCst);
            }
            // Under load everything is read until the connection breaks: what the broker
            // acknowledged with its last breath counts, too.
            if world.is_over.load(SeqCst) || (!*is_busy && !client.stays(world)) {
                return Ok(());
            }
        }
        link.receive()?;
        while let Some(packet) = link.next() {
            world.packets.fetch_add(1, Relaxed);
            if !client.packet(&packet, link, world) {
                let client_id = &client.common().identity.client_id;
                world.findings.add("unexpected packet", || format!("{client_id}: {packet:?}"));
            }
        }
    }
}

fn tell_end(identity: &Identity, error: &std::io::Error, world: &World) {
    let is_malformed = error.kind() == ErrorKind::InvalidData;
    if is_malformed || !world.is_killed.load(SeqCst) {
        let client_id = &identity.client_id;
        world.findings.add("connection ended by the broker", || format!("{client_id}: {error}"));
    }
}
