//! What a worker counts. Each has its own numbers, which only it writes and anybody reads: they are added up when they
//! are read, so that counting costs no lock and no cache line goes back and forth.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use codec::{Message, QoS};

/// What is counted since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Connections that were accepted.
    Accepted,
    /// Those that were turned away before MQTT began.
    TurnedAway,
    /// Clients that were let in.
    Connected,
    /// Connections that were refused before a client was let in.
    Refused,
    /// Connections of clients that ended.
    Disconnected,
    /// Bytes that were read, in MQTT's own form.
    BytesIn,
    /// Bytes that were written.
    BytesOut,
    /// Packets that came, of any type.
    PacketsIn,
    /// Packets that were queued for sockets.
    PacketsOut,
    /// PUBLISH packets of QoS 0 that came.
    PublishesIn0,
    /// Of QoS 1.
    PublishesIn1,
    /// Of QoS 2.
    PublishesIn2,
    /// PUBLISH packets of QoS 0 that were queued for sockets.
    PublishesOut0,
    /// Of QoS 1.
    PublishesOut1,
    /// Of QoS 2.
    PublishesOut2,
    /// Bytes of the payloads that came.
    PayloadBytesIn,
    /// Bytes of the payloads that went out.
    PayloadBytesOut,
    /// Times that a client wanted to do what it may not, as far as lines tell of them.
    Denied,
    /// Times that a client was refused because of its rate, as far as lines tell of them.
    OverRate,
    /// Records that were given to the log.
    Records,
}

impl Counter {
    const COUNT: usize = Self::Records as usize + 1;

    const fn publishes_in(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::PublishesIn0,
            QoS::AtLeastOnce => Self::PublishesIn1,
            QoS::ExactlyOnce => Self::PublishesIn2,
        }
    }

    const fn publishes_out(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::PublishesOut0,
            QoS::AtLeastOnce => Self::PublishesOut1,
            QoS::ExactlyOnce => Self::PublishesOut2,
        }
    }
}

/// Upper bounds of the classes of [`Counts::latency`], microseconds; a last class is for what took longer.
pub const LATENCY_US: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000,
];

/// How many took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// For each class how many; they add up to all.
    pub classes: [u64; LATENCY_US.len() + 1],
    /// The sum of all, microseconds.
    pub sum_us: u64,
}

/// The numbers of all workers together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    counters: [u64; Counter::COUNT],
    /// From the arrival of a PUBLISH to its first delivery, of some messages. One whose receivers are all away is not
    /// counted, nor one that takes longer than a second while others come.
    pub latency: Histogram,
}

impl Counts {
    /// One of them.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }
}

/// The numbers of one worker.
#[derive(Debug)]
pub(crate) struct Board {
    counters: [AtomicU64; Counter::COUNT],
    classes: [AtomicU64; LATENCY_US.len() + 1],
    sum_us: AtomicU64,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; Counter::COUNT],
            classes: [const { AtomicU64::new(0) }; LATENCY_US.len() + 1],
            sum_us: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn add(&self, counter: Counter, count: usize) {
        add(&self.counters[counter as usize], count as u64);
    }

    /// A PUBLISH came.
    #[inline]
    pub(crate) fn published(&self, qos: QoS, payload_bytes: usize) {
        self.add(Counter::publishes_in(qos), 1);
        self.add(Counter::PayloadBytesIn, payload_bytes);
    }

    /// A PUBLISH goes out to so many.
    #[inline]
    pub(crate) fn delivered(&self, qos: QoS, payload_bytes: usize, receivers: usize) {
        self.add(Counter::publishes_out(qos), receivers);
        self.add(Counter::PayloadBytesOut, payload_bytes * receivers);
    }

    fn observe(&self, us: u64) {
        let class = LATENCY_US.partition_point(|bound| *bound < us);
        add(&self.classes[class], 1);
        add(&self.sum_us, us);
    }

    /// Adds these numbers to others.
    pub(crate) fn fold(&self, into: &mut Counts) {
        for (sum, counter) in into.counters.iter_mut().zip(&self.counters) {
            *sum += counter.load(Relaxed);
        }
        for (sum, class) in into.latency.classes.iter_mut().zip(&self.classes) {
            *sum += class.load(Relaxed);
        }
        into.latency.sum_us += self.sum_us.load(Relaxed);
    }
}

/// Only the owner writes, so nothing comes between.
#[inline]
fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(count), Relaxed);
}

/// Messages of more bytes are not followed: whoever follows one keeps it for a while.
const SAMPLE_BYTES_MAX: usize = 16 * 1024;
/// Another message is followed after so long.
const SAMPLE_US_MAX: u64 = 1_000_000;

/// One message at a time is followed on its way through all workers.
#[derive(Debug)]
pub(crate) struct Sampler {
    start: Instant,
    /// [`Message::address`] of the one that is followed; 0 is none.
    address: AtomicUsize,
    since_us: AtomicU64,
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), address: AtomicUsize::new(0), since_us: AtomicU64::new(0) }
    }

    /// Follows a message that has just come, if no other is followed.
    #[inline]
    pub(crate) fn follow(&self, message: &Message) -> Option<Message> {
        let before = self.address.load(Relaxed);
        if before != 0 && self.now_us() < self.since_us.load(Relaxed) + SAMPLE_US_MAX {
            return None;
        }
        if message.payload().len() > SAMPLE_BYTES_MAX {
            return None;
        }
        self.since_us.store(self.now_us(), Relaxed);
        self.address.compare_exchange(before, message.address(), Relaxed, Relaxed).ok()?;
        Some(message.clone())
    }

    /// Looks at the message that this worker follows: whether it goes on.
    pub(crate) fn goes_on(&self, message: &Message) -> bool {
        let address = message.address();
        if self.address.load(Relaxed) != address {
            return false;
        }
        if message.is_unique() {
            // Nobody has it any more, and nobody got it.
            let _ = self.address.compare_exchange(address, 0, Relaxed, Relaxed);
            return false;
        }
        true
    }

    /// A message goes out.
    #[inline]
    pub(crate) fn see(&self, message: &Message, board: &Board) {
        let address = message.address();
        if self.address.load(Relaxed) == address
            && self.address.compare_exchange(address, 0, Relaxed, Relaxed).is_ok()
        {
            board.observe(self.now_us().saturating_sub(self.since_us.load(Relaxed)));
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use codec::Properties;

    use super::*;

    fn message() -> Message {
        Message::new("t", &Properties::default(), b"payload").unwrap()
    }

    #[test]
    fn numbers_of_all_workers_add_up() {
        let boards = [Board::new(), Board::new()];
        for board in &boards {
            board.add(Counter::BytesIn, 3);
            board.published(QoS::ExactlyOnce, 5);
            board.delivered(QoS::AtMostOnce, 5, 10);
            board.observe(50);
            board.observe(51);
            board.observe(2_000_000);
        }
        let mut counts = Counts::default();
        boards.iter().for_each(|board| board.fold(&mut counts));
        let numbers = [
            Counter::BytesIn,
            Counter::PublishesIn2,
            Counter::PayloadBytesIn,
            Counter::PublishesOut0,
            Counter::PayloadBytesOut,
        ]
        .map(|counter| counts.get(counter));
        assert_eq!(numbers, [6, 2, 10, 20, 100]);
        assert_eq!(counts.latency.classes[..3], [2, 2, 0]);
        assert_eq!(counts.latency.classes.last(), Some(&2));
        assert_eq!(counts.latency.sum_us, 2 * 2_000_101);
    }

    #[test]
    fn one_message_at_a_time_is_followed() {
        let (sampler, board) = (Sampler::new(), Board::new());
        let counted = |board: &Board| {
            let mut counts = Counts::default();
            board.fold(&mut counts);
            counts.latency.classes.iter().sum::<u64>()
        };
        let first = message();
        let followed = sampler.follow(&first).unwrap();
        assert!(sampler.follow(&message()).is_none(), "one is followed already");
        sampler.see(&message(), &board);
        assert_eq!(counted(&board), 0, "it was another one");
        assert!(sampler.goes_on(&followed));
        sampler.see(&first, &board);
        sampler.see(&first, &board);
        assert_eq!((counted(&board), sampler.goes_on(&followed)), (1, false));

        let second = message();
        let followed = sampler.follow(&second).unwrap();
        drop(second);
        assert!(!sampler.goes_on(&followed), "nobody got it");
        assert!(sampler.follow(&message()).is_some());
    }
}
