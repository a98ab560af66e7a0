//! Many connections at once: set up, subscribed and, if wanted, closed again, with a bounded number
//! in progress.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::link::{Link, Session};
use super::packet::{self, Version};
use crate::Result;

/// Filters of one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;
/// If for so long no connection gets any further, the broker has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// For so long it may take in all: what takes longer says enough.
const TIME_MAX: Duration = Duration::from_secs(180);

/// A connection that is wanted.
pub(crate) struct Opening {
    pub(crate) id: String,
    pub(crate) version: Version,
    pub(crate) session: Session,
    pub(crate) filters: Vec<String>,
    /// Of all filters.
    pub(crate) qos: u8,
}

/// What a connection does when all is confirmed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Then {
    Stay,
    /// Sends DISCONNECT, ends its side of the connection and waits until the broker does.
    Leave,
}

/// What a broker does not have is no fault.
#[derive(Debug)]
pub(crate) struct Unsupported(pub(crate) String);

impl Error for Unsupported {}

impl fmt::Display for Unsupported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A connection in progress.
struct Entry {
    number: usize,
    link: Link,
    opening: Opening,
    stage: Stage,
    filters_sent: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Connecting,
    Connack,
    Suback,
    Close,
    Done,
}

/// Opens all, at most so many at a time, and returns those that stay, in the same order.
pub(crate) fn open_all(
    broker: SocketAddr,
    openings: impl ExactSizeIterator<Item = Opening>,
    in_progress_max: usize,
    then: Then,
) -> Result<Vec<Link>> {
    let (count, mut openings) = (openings.len(), openings.enumerate());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let mut entries: Vec<Option<Entry>> = Vec::new();
    let mut free: Vec<usize> = (0..in_progress_max).collect();
    entries.resize_with(in_progress_max, || None);
    let mut open: Vec<Option<Link>> = Vec::new();
    open.resize_with(count, || None);
    let began = Instant::now();
    let (mut done, mut last_step) = (0, began);
    while done < count {
        while let Some(&slot) = free.last()
            && let Some((number, opening)) = openings.next()
        {
            let mut link = Link::begin(broker, number as u32, opening.version)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut link.stream, Token(slot), interest)?;
            let (stage, filters_sent) = (Stage::Connecting, 0);
            entries[slot] = Some(Entry { number, link, opening, stage, filters_sent });
            free.pop();
        }
        wait(&mut poll, &mut events, Duration::from_millis(500))?;
        for event in &events {
            let slot = event.token().0;
            let Some(entry) = entries.get_mut(slot).and_then(Option::as_mut) else { continue };
            entry.serve(event.is_writable(), &mut buffer, then).map_err(|error| {
                // The kind of the error decides what becomes of the row.
                if error.is::<Unsupported>() {
                    error
                } else {
                    format!("connection {} of {count}: {error}", entry.number + 1).into()
                }
            })?;
            last_step = Instant::now();
            if entry.stage == Stage::Done
                && let Some(mut entry) = entries[slot].take()
            {
                poll.registry().deregister(&mut entry.link.stream)?;
                entry.link.shrink();
                if then == Then::Stay {
                    open[entry.number] = Some(entry.link);
                }
                free.push(slot);
                done += 1;
            }
        }
        if last_step.elapsed() > PATIENCE {
            let left = count - done;
            return Err(format!("{left} of {count} connections get no answer").into());
        }
        if began.elapsed() > TIME_MAX {
            let seconds = TIME_MAX.as_secs();
            return Err(format!("{done} of {count} connections after {seconds} s").into());
        }
    }
    Ok(open.into_iter().flatten().collect())
}

/// Waits for events; an interruption is none.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) -> Result<()> {
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => {
            Err(format!("epoll_wait: {error}").into())
        }
        _ => Ok(()),
    }
}

impl Entry {
    fn serve(&mut self, is_writable: bool, buffer: &mut [u8], then: Then) -> Result<()> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.link.stream.take_error()? {
                return Err(format!("connect: {error}").into());
            }
            if !is_writable {
                return Ok(());
            }
            let Opening { id, version, session, .. } = &self.opening;
            self.link.out.extend(packet::connect(id, *version, *session));
            self.stage = Stage::Connack;
        }
        self.link.flush();
        let mut wrong = None;
        let Entry { link, opening, stage, filters_sent, .. } = self;
        link.read_while(buffer, |first, body, out| {
            match answer(opening, *stage, first, body) {
                Ok(()) => *stage = next_stage(opening, filters_sent, then, out),
                Err(error) => wrong = Some(error),
            }
            // What comes after the last answer is for the load.
            !matches!(stage, Stage::Done | Stage::Close) && wrong.is_none()
        });
        if let Some(error) = wrong {
            return Err(error);
        }
        link.flush();
        if *stage == Stage::Close && !link.is_closed {
            // Some brokers wait for this. It may be too late already.
            let _ = link.stream.shutdown(Shutdown::Write);
        }
        match (link.is_closed, *stage) {
            (true, Stage::Close) => *stage = Stage::Done,
            (true, _) => return Err("closed by the broker".into()),
            (false, _) => {}
        }
        Ok(())
    }
}

/// Judges the packet that came in a stage.
fn answer(opening: &Opening, stage: Stage, first: u8, body: &[u8]) -> Result<()> {
    match (stage, first) {
        (Stage::Connack, packet::CONNACK) => match packet::connack(body) {
            Some((is_present, 0)) if is_present == (opening.session == Session::Resumed) => Ok(()),
            Some((is_present, 0)) => Err(format!("CONNACK: session present {is_present}").into()),
            _ => Err(format!("CONNACK {body:02x?}").into()),
        },
        (Stage::Suback, packet::SUBACK) => {
            let codes = packet::suback(opening.version, body).unwrap_or_default();
            match codes.iter().find(|code| **code != opening.qos) {
                None if !codes.is_empty() => Ok(()),
                Some(&granted) if granted < opening.qos => {
                    let text = format!("grants QoS {granted} for {}", opening.qos);
                    Err(Box::new(Unsupported(text)))
                }
                _ => {
                    let refused = codes.iter().filter(|code| **code >= 0x80).count();
                    let count = codes.len();
                    Err(format!("SUBACK refuses {refused} of {count} subscriptions").into())
                }
            }
        }
        _ => Err(format!("unexpected packet {first:#04x} {body:02x?}").into()),
    }
}

/// What the connection waits for next, once it has asked for it.
fn next_stage(opening: &Opening, filters_sent: &mut usize, then: Then, out: &mut Vec<u8>) -> Stage {
    let left = &opening.filters[*filters_sent..];
    if !left.is_empty() {
        let part = &left[..left.len().min(FILTERS_PER_PACKET)];
        *filters_sent += part.len();
        out.extend(packet::subscribe(opening.version, 1, part, opening.qos));
        return Stage::Suback;
    }
    if then == Then::Leave {
        out.extend(packet::DISCONNECT);
        return Stage::Close;
    }
    Stage::Done
}
