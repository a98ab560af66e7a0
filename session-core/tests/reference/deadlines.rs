//! What becomes of clients as time passes: a model with a clock, for one broker and its clients.

use std::collections::{BTreeMap, VecDeque};

use session_core::{Cause, Time};

const NEVER_S: u32 = u32::MAX;

pub(crate) fn after_ms(time: Time, ms: u64) -> Time {
    Time(time.0 + ms)
}

fn after_s(time: Time, s: u32) -> Time {
    after_ms(time, u64::from(s) * 1000)
}

/// What somebody sees, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Closed { client: usize, cause: Cause },
    Will { payload: String },
}

/// A message that waits for a client.
pub(crate) struct Waiting {
    pub(crate) payload: String,
    pub(crate) at: Time,
    pub(crate) expiry_s: Option<u32>,
    /// On a connection that broke before it was acknowledged.
    pub(crate) sent: bool,
}

impl Waiting {
    /// What its receiver is to see; nothing once it has expired, unless it was sent before
    /// `[MQTT-4.4.0-1]`.
    pub(crate) fn seen(&self, now: Time) -> Option<(String, Option<u32>)> {
        let waited_ms = now.0 - self.at.0;
        let Some(expiry_s) = self.expiry_s else { return Some((self.payload.clone(), None)) };
        let alive = waited_ms < u64::from(expiry_s) * 1000;
        let left_s = expiry_s.saturating_sub(u32::try_from(waited_ms / 1000).expect("short"));
        (alive || self.sent).then(|| (self.payload.clone(), Some(left_s)))
    }
}

/// A Will and its Will Delay Interval.
pub(crate) type Promise = (String, u32);

pub(crate) struct Session {
    pub(crate) expiry_s: u32,
    pub(crate) will: Option<Promise>,
    /// While nobody is connected: when the Will is due, and when the session ends.
    pub(crate) will_due: Option<Time>,
    pub(crate) ends: Option<Time>,
    pub(crate) queue: VecDeque<Waiting>,
}

#[derive(Clone, Copy)]
pub(crate) enum Conn {
    Opened { until: Time },
    Connected { heard: Time, silence_ms: u64 },
}

/// What is known of the clients, by their numbers.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) conns: BTreeMap<usize, Conn>,
    pub(crate) sessions: BTreeMap<usize, Session>,
    /// The Server Keep Alive, where the broker has one.
    pub(crate) keep_alive_s_max: u16,
    pub(crate) events: Vec<(Time, Event)>,
}

impl Model {
    /// The next thing that happens by itself.
    pub(crate) fn next(&self) -> Option<(Time, usize, Deadline)> {
        let conns = self.conns.iter().filter_map(|(client, conn)| match *conn {
            Conn::Opened { until } => Some((until, *client, Deadline::Connect)),
            Conn::Connected { silence_ms: 0, .. } => None,
            // [MQTT-3.1.2-22]
            Conn::Connected { heard, silence_ms } => {
                Some((after_ms(heard, silence_ms), *client, Deadline::KeepAlive))
            }
        });
        let absent = self.sessions.iter();
        let wills = absent
            .clone()
            .filter_map(|(client, session)| Some((session.will_due?, *client, Deadline::Will)));
        let ends = absent
            .filter_map(|(client, session)| Some((session.ends?, *client, Deadline::Session)));
        conns.chain(wills).chain(ends).min_by_key(|(time, ..)| *time)
    }

    /// Does what was due by now, as of now: a broker that slept is late.
    pub(crate) fn catch_up(&mut self, now: Time) {
        while let Some((_, client, deadline)) = self.next().filter(|(time, ..)| *time <= now) {
            match deadline {
                Deadline::Connect => self.close(client, Cause::ConnectTimeout, now),
                Deadline::KeepAlive => self.close(client, Cause::KeepAliveTimeout, now),
                Deadline::Will => self.publish_will(client, now),
                Deadline::Session => self.end_session(client, now),
            }
        }
    }

    /// The broker closes a connection.
    pub(crate) fn close(&mut self, client: usize, cause: Cause, now: Time) {
        self.events.push((now, Event::Closed { client, cause }));
        self.lose(client, false, now);
    }

    /// A connection is gone; `is_over` tells that its session is too.
    pub(crate) fn lose(&mut self, client: usize, is_over: bool, now: Time) {
        let Some(Conn::Connected { .. }) = self.conns.remove(&client) else { return };
        let session = self.sessions.get_mut(&client).expect("a connected client has one");
        let expiry_s = if is_over { 0 } else { session.expiry_s };
        // [MQTT-3.1.2-23]
        session.ends = (expiry_s != NEVER_S).then(|| after_s(now, expiry_s));
        // [MQTT-3.1.2-8]: once the delay has passed or the session ends, whichever is first.
        session.will_due =
            session.will.as_ref().map(|(_, delay_s)| after_s(now, (*delay_s).min(expiry_s)));
        self.catch_up_with(client, now);
    }

    /// What is due of the absence of one client.
    fn catch_up_with(&mut self, client: usize, now: Time) {
        let due = |time: Option<Time>| time.is_some_and(|time| time <= now);
        let Some(session) = self.sessions.get(&client) else { return };
        let (will_due, ends) = (due(session.will_due), due(session.ends));
        if will_due {
            self.publish_will(client, now);
        }
        if ends {
            self.end_session(client, now);
        }
    }

    /// `[MQTT-3.1.2-10]` The Will is gone with it.
    fn publish_will(&mut self, client: usize, now: Time) {
        let session = self.sessions.get_mut(&client).expect("a Will has a session");
        session.will_due = None;
        if let Some((payload, _)) = session.will.take() {
            self.events.push((now, Event::Will { payload }));
        }
    }

    fn end_session(&mut self, client: usize, now: Time) {
        self.publish_will(client, now);
        self.sessions.remove(&client);
    }

    /// Returns whether a session is present.
    pub(crate) fn connect(&mut self, client: usize, clean_start: bool, now: Time) -> bool {
        if let Some(Conn::Connected { .. }) = self.conns.get(&client) {
            // [MQTT-3.1.4-3]; U5-3.1.4-c: with a clean start the old session ends.
            self.events.push((now, Event::Closed { client, cause: Cause::TakenOver }));
            self.lose(client, clean_start, now);
        }
        self.catch_up_with(client, now);
        if clean_start && self.sessions.contains_key(&client) {
            // [MQTT-3.1.2-4]
            self.end_session(client, now);
        }
        self.sessions.contains_key(&client)
    }
}

pub(crate) enum Deadline {
    Connect,
    KeepAlive,
    Will,
    Session,
}
