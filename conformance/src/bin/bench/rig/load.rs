//! The load: groups of publishers and subscribers on one thread, with everything checked.
//!
//! Nothing here looks at all clients for every event: publishers that may send stand in a list, and
//! what is outstanding is counted as it changes.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::client::{Account, Expected, Publisher, Subscriber};
use super::flow::{Group, Window};
use super::ledger::{Faults, Ledger};
use super::link::{Link, Session};
use super::open::{Opening, Then, open_all, wait};
use super::packet::{self, Label, Template, Version};
use super::plan::{GroupPlan, Plan, Routing, SubscriberPlan};
use super::share::ShareLedger;
use crate::Result;

/// Without any progress for so long, what has not come counts as lost.
const STALL: Duration = Duration::from_secs(10);
/// So long, a subscriber that leaves waits for the broker to have read everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that a publisher prepares for one write.
const BATCH_BYTES: usize = 32 * 1024;
/// Messages that it may send at once however many others wait.
const SHARE_MIN: u64 = 32;
/// Connections that are set up at a time.
const OPENING_MAX: usize = 100;

/// Connected publishers and subscribers.
pub(crate) struct Load {
    pub(super) qos: u8,
    batch: usize,
    /// Publishers set RETAIN.
    is_retained: bool,
    padding: Vec<u8>,
    pub(super) poll: Poll,
    pub(super) groups: Vec<Group>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) publishers: Vec<Publisher>,
    /// Publishers that may send.
    ready: VecDeque<usize>,
    /// By stream: the packet, the messages that were sent, and how many subscribers get each.
    templates: Vec<Template>,
    sent: Vec<u32>,
    receivers: Vec<u32>,
    /// Subscribers have gone: what is sent waits for them.
    are_absent: bool,
    /// Deliveries that are to come in all.
    pub(super) expected: u64,
    /// Deliveries that have come or can no longer come.
    passed: u64,
    /// Publishers that have something left to send.
    unfinished: usize,
    /// QoS 1 and 2 messages that the broker has not acknowledged, and QoS 2 identifiers that it has
    /// not released.
    open: u64,
    broken: u64,
    stalled: u64,
    /// When time began, for labels, and where the age of each delivery is written.
    pub(super) clock: Instant,
    pub(super) ages: Option<Vec<u64>>,
}

/// Subscribers that have gone without an end of their sessions.
pub(crate) struct Absent(Vec<Subscriber>);

/// What ends a run.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    /// Messages of each publisher.
    pub(crate) messages: u64,
    /// No message is sent after that.
    pub(crate) time: Duration,
}

/// What a run did.
#[derive(Clone, Copy)]
pub(crate) struct Done {
    pub(crate) deliveries: u64,
    pub(crate) took: Duration,
}

impl Load {
    /// Connects all of a plan, subscribers first, each confirmed by the broker.
    pub(crate) fn connect(broker: SocketAddr, plan: &Plan) -> Result<Load> {
        let mut load = Load {
            qos: plan.qos,
            batch: plan.batch,
            is_retained: plan.is_retained,
            padding: packet::padding(plan.payload_bytes),
            poll: Poll::new()?,
            groups: Vec::new(),
            subscribers: Vec::new(),
            publishers: Vec::new(),
            ready: VecDeque::new(),
            templates: Vec::new(),
            sent: Vec::new(),
            receivers: Vec::new(),
            are_absent: false,
            expected: 0,
            passed: 0,
            unfinished: 0,
            open: 0,
            broken: 0,
            stalled: 0,
            clock: Instant::now(),
            ages: None,
        };
        let openings = load.subscriber_openings(plan);
        let links = open_all(broker, openings.into_iter(), OPENING_MAX, Then::Stay)?;
        let openings = publisher_openings(plan);
        let publishers = open_all(broker, openings.into_iter(), OPENING_MAX, Then::Stay)?;
        let (mut links, mut publishers) = (links.into_iter(), publishers.into_iter());
        for group in &plan.groups {
            load.add_group(plan, group, &mut links, &mut publishers);
        }
        load.register()?;
        Ok(load)
    }

    fn subscriber_openings(&self, plan: &Plan) -> Vec<Opening> {
        let subscribers = plan.groups.iter().flat_map(|group| &group.subscribers);
        let opening = |(number, subscriber): (usize, &SubscriberPlan)| Opening {
            id: format!("s-{number}"),
            version: subscriber.version,
            session: plan.session,
            filters: subscriber.filters.clone(),
            qos: self.qos,
        };
        subscribers.enumerate().map(opening).collect()
    }

    fn add_group(
        &mut self,
        plan: &Plan,
        group: &GroupPlan,
        links: &mut impl Iterator<Item = Link>,
        publishers: &mut impl Iterator<Item = Link>,
    ) {
        let number = self.groups.len();
        let (first, streams) = (self.templates.len(), group.topics());
        let (first_subscriber, first_publisher) = (self.subscribers.len(), self.publishers.len());
        self.sent.resize(first + streams, 0);
        self.receivers.extend(group.receivers());
        for ((member, planned), link) in group.subscribers.iter().enumerate().zip(links) {
            let account = match group.routing {
                Routing::Each => Account::Own(Ledger::new(first, streams)),
                Routing::Some => Account::Own(Ledger::only(first, &planned.expects)),
                Routing::Share => Account::Member(member),
            };
            let id = format!("s-{}", self.subscribers.len());
            let (held, awaits_suback) = (0, false);
            let subscriber = Subscriber { id, link, group: number, account, held, awaits_suback };
            self.subscribers.push(subscriber);
        }
        for (planned, link) in group.publishers.iter().zip(publishers) {
            let at = self.templates.len();
            let template = |topic: &String| {
                let payload_bytes = plan.payload_bytes;
                Template::new(planned.version, topic, plan.qos, plan.is_retained, payload_bytes)
            };
            self.templates.extend(planned.topics.iter().map(template));
            let streams = at..self.templates.len();
            self.publishers.push(Publisher::new(link, number, streams, plan.in_flight_max));
        }
        let members = group.subscribers.len();
        let is_share = group.routing == Routing::Share;
        self.groups.push(Group {
            routing: group.routing,
            publishers: first_publisher..self.publishers.len(),
            subscribers: first_subscriber..self.subscribers.len(),
            first_stream: first,
            streams,
            share: is_share.then(|| ShareLedger::new(first, streams, members)),
            window: Window::new(group.routing, plan.window, members),
            waiting: VecDeque::new(),
        });
    }

    /// Subscribers have even tokens, publishers odd ones.
    fn register(&mut self) -> Result<()> {
        let subscribers = self.subscribers.iter_mut().map(|subscriber| &mut subscriber.link);
        let publishers = self.publishers.iter_mut().map(|publisher| &mut publisher.link);
        let subscribers = subscribers.enumerate().map(|(at, link)| (2 * at, link));
        let publishers = publishers.enumerate().map(|(at, link)| (2 * at + 1, link));
        for (token, link) in subscribers.chain(publishers) {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut link.stream, Token(token), interest)?;
        }
        Ok(())
    }

    /// From now on the time of every acknowledgement is taken.
    pub(crate) fn time_acknowledgements(&mut self) {
        self.publishers.iter_mut().for_each(Publisher::time_acknowledgements);
    }

    /// The times that were taken, of all publishers together.
    pub(crate) fn times(&self) -> impl Iterator<Item = Duration> {
        let times = self.publishers.iter().filter_map(|publisher| publisher.times.as_ref());
        times.flat_map(|times| &times.took).copied()
    }

    /// Has all subscribers leave, once the broker has read their acknowledgements: what is published
    /// from now on waits for them.
    pub(crate) fn leave(&mut self) -> Absent {
        self.are_absent = true;
        let mut absent = Absent(self.subscribers.drain(..).collect());
        for group in &mut self.groups {
            group.subscribers = 0..0;
            group.window = Window::Open;
        }
        for subscriber in &mut absent.0 {
            // mosquitto is thousands of them behind, and would deliver those messages again.
            if !subscriber.link.ping(PATIENCE) {
                self.broken += 1;
            }
            subscriber.link.is_closed = true;
            // If the broker has closed it meanwhile, that is all the same.
            let _ = subscriber.link.stream.shutdown(Shutdown::Both);
        }
        absent
    }

    /// Has subscribers return, and publishers leave for good, as after a restart of the broker. What
    /// waits for the subscribers comes with the next [`Load::run`].
    pub(crate) fn resume(&mut self, broker: SocketAddr, absent: Absent) -> Result<()> {
        self.publishers.clear();
        self.ready.clear();
        self.are_absent = false;
        let opening = |subscriber: &Subscriber| Opening {
            id: subscriber.id.clone(),
            version: subscriber.link.version,
            session: Session::Resumed,
            filters: Vec::new(),
            qos: self.qos,
        };
        let openings: Vec<Opening> = absent.0.iter().map(opening).collect();
        let links = open_all(broker, openings.into_iter(), OPENING_MAX, Then::Stay)?;
        for (mut subscriber, link) in absent.0.into_iter().zip(links) {
            subscriber.link = link;
            let at = self.subscribers.len();
            let group = &mut self.groups[subscriber.group];
            let begin = if group.subscribers.is_empty() { at } else { group.subscribers.start };
            group.subscribers = begin..at + 1;
            self.subscribers.push(subscriber);
        }
        self.register()
    }

    /// Has a subscriber to everything of the first group come when all has been published; retained
    /// messages come with the next [`Load::run`].
    pub(crate) fn join(&mut self, broker: SocketAddr, filter: &str) -> Result<()> {
        let (id, version) = ("late".to_owned(), Version::V3);
        let (session, qos) = (Session::Clean, self.qos);
        let opening = Opening { id: id.clone(), version, session, filters: Vec::new(), qos };
        let links = open_all(broker, [opening].into_iter(), 1, Then::Stay)?;
        self.publishers.clear();
        for mut link in links {
            // The answer may come after the first messages, so the load takes it.
            link.out.extend(packet::subscribe(version, 1, &[filter.to_owned()], self.qos));
            let group = &mut self.groups[0];
            let account = Account::Own(Ledger::new(group.first_stream, group.streams));
            let (id, held, awaits_suback) = (id.clone(), 0, true);
            self.subscribers.push(Subscriber { id, link, group: 0, account, held, awaits_suback });
            group.subscribers = 0..1;
        }
        self.expected = self.sent.iter().map(|&sent| u64::from(sent)).sum();
        self.register()
    }

    /// Waits until the broker has read all that publishers sent. What it has not acknowledged by then
    /// is a fault.
    pub(crate) fn ping_publishers(&mut self) {
        for publisher in &mut self.publishers {
            if !publisher.link.ping(PATIENCE) {
                self.broken += 1;
            }
        }
    }

    /// Has every publisher send `count` messages and returns how long it took until all had come
    /// and every acknowledgement was made. Ends early, with faults, when nothing happens any more.
    pub(crate) fn run(&mut self, count: u64) -> Duration {
        self.run_until(Limit { messages: count, time: Duration::MAX }).took
    }

    /// The same, but nobody begins a message after the limit.
    pub(crate) fn run_until(&mut self, limit: Limit) -> Done {
        self.give_out(|_| limit.messages);
        self.work(limit.time)
    }

    /// Has every publisher send one message to each of its topics.
    pub(crate) fn run_once(&mut self) -> Done {
        self.give_out(|publisher| publisher.streams.len() as u64);
        self.work(Duration::MAX)
    }

    /// Sends what was given out, until it has come or `time` is over.
    fn work(&mut self, time: Duration) -> Done {
        let (began, passed_before) = (Instant::now(), self.passed);
        let mut deadline = began.checked_add(time);
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        self.take_leftovers(&mut buffer);
        let mut last_progress = Instant::now();
        loop {
            self.publish();
            if self.is_done() || self.broken > 0 {
                break;
            }
            let pause = if self.ready.is_empty() { 100 } else { 0 };
            let pause = Duration::from_millis(pause);
            if wait(&mut self.poll, &mut events, pause).is_err() {
                self.broken += 1;
            }
            for event in &events {
                self.serve(event.token().0, &mut buffer);
            }
            let now = Instant::now();
            if !events.is_empty() {
                last_progress = now;
            } else if now - last_progress > STALL {
                self.stalled += 1;
                break;
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                deadline = None;
                self.stop();
            }
        }
        Done { deliveries: self.passed - passed_before, took: began.elapsed() }
    }

    /// What has gone wrong so far.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults { broken: self.broken, stalled: self.stalled, ..Faults::default() };
        for subscriber in &self.subscribers {
            if let Account::Own(ledger) = &subscriber.account {
                faults.add(ledger.faults(&self.sent));
            }
        }
        for share in self.groups.iter().filter_map(|group| group.share.as_ref()) {
            faults.add(share.faults(&self.sent));
        }
        faults
    }

    /// Connections and packets that went wrong.
    pub(super) fn broken(&self) -> u64 {
        self.broken
    }

    /// Each publisher has so many messages to send.
    fn give_out(&mut self, count: impl Fn(&Publisher) -> u64) {
        self.unfinished = 0;
        self.ready.clear();
        self.groups.iter_mut().for_each(|group| group.waiting.clear());
        for at in 0..self.publishers.len() {
            let publisher = &mut self.publishers[at];
            publisher.is_ready = false;
            publisher.left = count(publisher);
            self.unfinished += usize::from(publisher.left > 0);
            self.wake(at);
        }
    }

    /// Nobody sends anything more.
    fn stop(&mut self) {
        self.publishers.iter_mut().for_each(|publisher| publisher.left = 0);
        self.unfinished = 0;
    }

    /// What came while connections were set up is read now: no event will tell of it.
    fn take_leftovers(&mut self, buffer: &mut [u8]) {
        for at in 0..self.subscribers.len() {
            if self.subscribers[at].link.has_leftovers() {
                self.serve(2 * at, buffer);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.unfinished == 0
            && self.open == 0
            && (self.are_absent || self.passed >= self.expected)
            && self.publishers.iter().all(|publisher| publisher.link.is_flushed())
            && self.subscribers.iter().all(|subscriber| subscriber.link.is_flushed())
    }

    fn wake(&mut self, at: usize) {
        let publisher = &mut self.publishers[at];
        if publisher.left > 0 && !publisher.is_ready {
            publisher.is_ready = true;
            self.ready.push_back(at);
        }
    }

    /// Lets everybody who may send once.
    fn publish(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(at) = self.ready.pop_front() else { return };
            self.publishers[at].is_ready = false;
            if self.fill(at) {
                self.wake(at);
            }
        }
    }

    /// Has one publisher send what it may; whether it could go on at once.
    fn fill(&mut self, at: usize) -> bool {
        let publisher = &mut self.publishers[at];
        let group = &mut self.groups[publisher.group];
        if !publisher.link.is_flushed() {
            return false;
        }
        // Equal shares, so that the first publishers do not take the whole window; but not so small that
        // nothing is measured but system calls.
        let share = group.window.room().div_ceil(group.publishers.len() as u64);
        let batch = share.max(SHARE_MIN).min(self.batch as u64);
        let mut count = 0;
        let may_go_on = loop {
            if publisher.left == 0 || (self.qos > 0 && publisher.is_full()) {
                break false;
            }
            if group.window.room() == 0 {
                publisher.is_ready = true;
                group.waiting.push_back(at);
                break false;
            }
            if count >= batch || publisher.link.out.len() >= BATCH_BYTES {
                break true;
            }
            let stream = publisher.next_stream;
            let label = Label { stream: stream as u32, sequence: self.sent[stream], time: 0 };
            publisher.publish(&self.templates[stream], self.qos, label, &self.padding);
            self.sent[stream] += 1;
            let receivers = u64::from(self.receivers[stream]);
            group.window.send(receivers);
            self.expected += receivers;
            count += 1;
        };
        if count > 0 {
            if self.qos > 0 {
                self.open += count;
            }
            self.unfinished -= usize::from(publisher.left == 0);
            publisher.link.flush();
        }
        may_go_on && publisher.link.is_flushed()
    }

    /// Sends one message of a publisher now, with a time; whether it could be sent.
    pub(super) fn publish_one(&mut self, at: usize, time: u64) -> bool {
        let publisher = &mut self.publishers[at];
        if self.qos > 0 && publisher.is_full() {
            return false;
        }
        let stream = publisher.next_stream;
        let label = Label { stream: stream as u32, sequence: self.sent[stream], time };
        publisher.left = 1;
        publisher.publish(&self.templates[stream], self.qos, label, &self.padding);
        publisher.link.flush();
        self.sent[stream] += 1;
        let receivers = u64::from(self.receivers[stream]);
        self.groups[publisher.group].window.send(receivers);
        self.expected += receivers;
        self.open += u64::from(self.qos > 0);
        true
    }

    /// Serves whoever has an event.
    pub(super) fn serve(&mut self, token: usize, buffer: &mut [u8]) {
        let is_well = if token.is_multiple_of(2) {
            self.serve_subscriber(token / 2, buffer)
        } else {
            self.serve_publisher(token / 2, buffer)
        };
        self.broken += u64::from(!is_well);
    }

    fn serve_publisher(&mut self, at: usize, buffer: &mut [u8]) -> bool {
        let Some(publisher) = self.publishers.get_mut(at) else { return true };
        let before = publisher.in_flight;
        let is_well = publisher.serve(self.qos, buffer);
        self.open -= (before - publisher.in_flight) as u64;
        self.wake(at);
        is_well
    }

    fn serve_subscriber(&mut self, at: usize, buffer: &mut [u8]) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(at) else { return true };
        let group = &mut self.groups[subscriber.group];
        let of_share = |share: &Option<ShareLedger>| share.as_ref().map_or(0, ShareLedger::passed);
        let before = subscriber.passed() + of_share(&group.share);
        let held_before = subscriber.held;
        let expected = Expected {
            qos: self.qos,
            is_retained: self.is_retained,
            padding: &self.padding,
            templates: &self.templates,
        };
        let (ages, clock) = (&mut self.ages, self.clock);
        let now = ages.as_ref().map_or(0, |_| clock.elapsed().as_nanos() as u64);
        let is_well = subscriber.serve(&expected, group.share.as_mut(), buffer, |time| {
            if let Some(ages) = ages {
                ages.push(now.saturating_sub(time));
            }
        });
        self.open = self.open + subscriber.held - held_before;
        let after = subscriber.passed() + of_share(&group.share);
        self.passed += after - before;
        let members = &self.subscribers[group.subscribers.clone()];
        let opens = group.window.receive(before, after, members.iter().map(Subscriber::passed));
        if opens {
            self.ready.append(&mut group.waiting);
        }
        is_well
    }
}

fn publisher_openings(plan: &Plan) -> Vec<Opening> {
    let publishers = plan.groups.iter().flat_map(|group| &group.publishers);
    let opening = |(number, version): (usize, Version)| Opening {
        id: format!("p-{number}"),
        version,
        session: Session::Clean,
        filters: Vec::new(),
        qos: 0,
    };
    publishers.map(|publisher| publisher.version).enumerate().map(opening).collect()
}
