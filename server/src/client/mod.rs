//! `cairnmq pub` and `cairnmq sub`: a client for the command line, by the same codec as the broker.
//!
//! What to send when, and what a packet means, is decided by [`publisher`] and [`subscriber`], which do no I/O;
//! [`talk`] moves bytes.

mod args;
mod link;
mod only_5;
mod publisher;
mod show;
mod source;
mod subscriber;
mod talk;
mod tls;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use codec::{Packet, ReasonCode};
use signal_hook::consts::{SIGINT, SIGTERM};

use args::Template;
pub(crate) use args::{PubArguments, SubArguments};
use publisher::Publisher;
use source::{Next, Source};
use subscriber::Subscriber;
use talk::Talk;

/// The status of a subscriber that has waited for too long, as mosquitto's.
pub(crate) const TIMED_OUT: u8 = 27;
/// How long one wait for bytes takes at most: signals and deadlines are looked at in between.
const PATIENCE: Duration = Duration::from_millis(200);

/// Messages that are sent before it is looked what the broker says.
const BURST: usize = 64;

/// Publishes what is wanted.
///
/// # Errors
/// What went wrong, one line each.
pub(crate) fn publish(arguments: PubArguments) -> Result<(), Vec<String>> {
    let template = arguments.template().map_err(one)?;
    let mut source = Source::open(&arguments).map_err(one)?;
    let (mut talk, connack) = Talk::begin(&arguments.connection, true).map_err(one)?;
    let mut publisher = match Publisher::new(arguments.qos(), &connack) {
        Ok(publisher) => publisher,
        // A goodbye, so that no Will is published.
        Err(problem) => {
            talk.end();
            return Err(one(problem));
        }
    };
    let stop = on_signals()?;
    while !publisher.is_done() && !stop.load(Ordering::Relaxed) {
        let patience = send_some(&mut talk, &mut publisher, &mut source, &template).map_err(one)?;
        if publisher.is_done() {
            break;
        }
        for packet in talk.receive(patience).map_err(one)? {
            if let Packet::Disconnect(said) = &packet {
                return Err(vec![talk::farewell(said)]);
            }
            let heard = publisher.hear(&packet);
            if heard.is_unheard && arguments.verbose {
                // Whoever closed standard error does not want to know.
                let _ = writeln!(io::stderr(), "cairnmq: the broker took it; nobody subscribes");
            }
            if let Some(answer) = heard.answer {
                talk.send(&answer).map_err(one)?;
            }
        }
    }
    talk.end();
    let problems = publisher.problems();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Sends what may be sent now. Returns how long to listen afterwards.
///
/// # Errors
/// The connection is lost.
fn send_some(
    talk: &mut Talk,
    publisher: &mut Publisher,
    source: &mut Source,
    template: &Template,
) -> Result<Duration, String> {
    for _ in 0..BURST {
        if !publisher.may_send() {
            return Ok(PATIENCE);
        }
        match source.next(Instant::now()) {
            Next::Payload(payload) => match publisher.publish(template, &payload) {
                Ok(packet) => talk.send(&packet)?,
                Err(problem) => publisher.give_up(problem),
            },
            Next::Wait(wait) => return Ok(PATIENCE.min(wait)),
            Next::Broken(problem) => publisher.give_up(problem),
            Next::End => publisher.finish(),
        }
    }
    // What the broker says is heard in between, even if nothing has to be waited for.
    Ok(Duration::ZERO)
}

/// Subscribes, and shows what comes. Returns the status to end with.
///
/// # Errors
/// What went wrong, one line each.
pub(crate) fn subscribe(arguments: &SubArguments) -> Result<u8, Vec<String>> {
    arguments.check().map_err(one)?;
    let (mut talk, _) =
        Talk::begin(&arguments.connection, !arguments.connection.keep_session).map_err(one)?;
    let mut subscriber = Subscriber::new(arguments);
    for packet in subscriber.begin() {
        talk.send(&packet).map_err(one)?;
    }
    let stop = on_signals()?;
    let deadline =
        arguments.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        for packet in talk.receive(PATIENCE).map_err(one)? {
            if let Packet::Disconnect(said) = &packet {
                return Err(vec![talk::farewell(said)]);
            }
            let heard = subscriber.hear(packet);
            if let Some(message) = heard.message {
                match show::show(&mut out, arguments, &message).and_then(|()| out.flush()) {
                    // Whoever closed the pipe has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        talk.end();
                        return Ok(0);
                    }
                    Err(error) => return Err(vec![format!("cannot write: {error}")]),
                    Ok(()) => {}
                }
            }
            for answer in heard.answers {
                talk.send(&answer).map_err(one)?;
            }
            if subscriber.is_over() {
                break;
            }
        }
        let problems = subscriber.problems();
        if !problems.is_empty() {
            talk.end();
            return Err(problems.to_vec());
        }
        if subscriber.is_over() || stop.load(Ordering::Relaxed) {
            talk.end();
            return Ok(0);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            talk.end();
            return Ok(TIMED_OUT);
        }
    }
}

fn one(problem: String) -> Vec<String> {
    vec![problem]
}

/// Whether SIGINT or SIGTERM came; a second one ends the program at once.
fn on_signals() -> Result<Arc<AtomicBool>, Vec<String>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| one(format!("cannot wait for signals: {error}")))?;
    }
    Ok(stop)
}

/// A reason as people read it.
fn reason(reason: ReasonCode) -> String {
    format!("0x{:02X} {}", reason.code(), reason.name())
}
