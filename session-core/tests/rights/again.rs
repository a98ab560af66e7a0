//! Rights that change while something else is under way: what was asked or found out earlier does not stand in
//! the place of what holds now.

use codec::{Connect, Message, Properties, QoS, ReasonCode, Will};
use session_core::{
    Action, Actions, Answer, Authentication, Command, Grants, Input, Principal, Request,
    ShardConfig, Subject, Ticket,
};

use super::world::*;

const ENDED: [&str; 2] = ["1 Disconnect NotAuthorized", "1 closed Refused(NotAuthorized)"];

impl World {
    /// What the next answers say, without a word that rights have changed: new credentials tell of others.
    fn with(&mut self, grants: Grants) -> &mut Self {
        self.grants = grants;
        self
    }

    fn accept(&mut self, ticket: Ticket, user: &str, grants: Grants) -> Vec<String> {
        let subject = Some(Subject { user: Some(user.into()), ..Subject::default() }.into());
        let principal = Principal { grants, subject, ..Principal::default() };
        let answer = Box::new(Answer::Accept { principal, data: None });
        self.input(Input::Answer { ticket, answer })
    }

    /// Lets in somebody who may do everything.
    fn accept_as(&mut self, ticket: Ticket, subject: Subject) {
        let principal = Principal { subject: Some(subject.into()), ..Principal::default() };
        let answer = Box::new(Answer::Accept { principal, data: None });
        self.input(Input::Answer { ticket, answer });
    }

    fn last_question(&self) -> (Ticket, &Request) {
        let (ticket, request) = self.asked.last().expect("a question");
        (*ticket, request)
    }
}

fn reading() -> session_core::Rule {
    rule(true, Actions::of(&[Action::Subscribe, Action::Receive]), "#")
}

/// Everything may be read, and published what a filter names.
fn publishing(filter: &str) -> Grants {
    Grants::Rules([reading(), rule(true, Actions::ALL, filter)].into())
}

/// A new client looks at what is retained.
fn retained_for(world: &mut World, slot: u32) -> Vec<String> {
    world.connect(slot, v5(&format!("reader-{slot}")));
    let mut seen = world.packet(slot, subscribe(&["#"]));
    assert_eq!(seen.remove(0), format!("{slot} SubAck [GrantedQoS1]"));
    world.input(Input::Closed { conn: conn(slot) });
    seen
}

/// The question was about who the client has been before: its answer tells nothing of who it is now, and is
/// asked for anew. With a log, questions wait for what is not durable, and an answer may come as late as that.
#[test]
fn an_answer_about_who_it_was_does_not_undo_a_reauthentication() {
    let mut world = World::new(|_| {});
    world.connect(1, with_method("c"));
    world.is_silent = true;
    world.rights_change(Grants::All);
    let (judged, _) = world.last_question();
    world.packet(1, auth(ReasonCode::ReAuthenticate));
    let (renewed, _) = world.last_question();
    assert_eq!(world.accept(renewed, "new", only("a")), ["1 Auth Success"]);
    assert_eq!(world.accept(judged, "old", Grants::All), [""; 0]);
    let denied = "1 denied Publish b by no rule, untold 0";
    assert_eq!(world.packet(1, publish("b", QoS::AtMostOnce, 0)), [denied]);

    let (again, request) = world.last_question();
    let Request::Judge { subject } = request else { panic!("{request:?}") };
    assert_eq!((again > renewed, subject.user.as_deref()), (true, Some("new")));
    assert_eq!(world.accept(again, "new", only("b")), [""; 0]);
    assert_eq!(world.packet(1, publish("b", QoS::AtMostOnce, 0)), [""; 0]);
}

/// An older question about the same client is answered by nobody's word any more.
#[test]
fn an_answer_from_before_the_last_change_is_not_listened_to() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("c"));
    world.is_silent = true;
    world.rights_change(Grants::All);
    let (first, _) = world.last_question();
    world.rights_change(Grants::All);
    let (second, _) = world.last_question();
    world.accept(second, "c", only("a"));
    world.accept(first, "c", Grants::All);
    let denied = "1 denied Publish b by no rule, untold 0";
    assert_eq!(world.packet(1, publish("b", QoS::AtMostOnce, 0)), [denied]);
}

#[test]
fn an_answer_about_a_publisher_from_before_the_last_change_is_not_listened_to() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("writer"));
    world.packet(1, retained("a"));
    world.input(Input::Closed { conn: conn(1) });
    world.is_silent = true;
    world.rights_change(Grants::All);
    let (first, _) = world.last_question();
    world.rights_change(Grants::All);
    let (second, _) = world.last_question();
    world.accept(second, "writer", Grants::none());
    world.accept(first, "writer", Grants::All);
    world.is_silent = false;
    assert_eq!(retained_for(&mut world, 2), [""; 0]);
}

/// A client that is about to prove itself anew when its token lapses has the same moment as one that begins then.
#[test]
fn who_is_about_to_prove_itself_anew_keeps_its_moment() {
    for answered in [true, false] {
        let mut world = World::new(|config| config.limits.reauthenticate_grace_ms = 500);
        world.expires = Some(session_core::Time(2000));
        world.connect(1, with_method("c"));
        world.wait(999);
        world.is_silent = true;
        world.packet(1, auth(ReasonCode::ReAuthenticate));
        assert_eq!(world.wait(1), [""; 0], "lapsed");
        assert_eq!(world.wait(499), [""; 0]);
        if answered {
            let (ticket, _) = world.last_question();
            assert_eq!(world.accept(ticket, "c", Grants::All), ["1 Auth Success"]);
            assert_eq!(world.wait(5000), [""; 0]);
        } else {
            assert_eq!(world.wait(1), ENDED, "the moment is over");
        }
    }
}

/// A challenge that is not answered in time is no lapse: it gives nobody a moment more.
#[test]
fn a_challenge_that_is_not_met_ends_in_its_own_time() {
    let mut world = World::new(|config| config.limits.reauthenticate_grace_ms = 60_000);
    world.expires = Some(session_core::Time(1_000_000));
    world.connect(1, with_method("c"));
    world.is_silent = true;
    world.packet(1, auth(ReasonCode::ReAuthenticate));
    let (ticket, _) = world.last_question();
    let answer = Box::new(Answer::Continue { data: None, exchange: None });
    world.input(Input::Answer { ticket, answer });
    assert_eq!(world.wait(9_999), [""; 0]);
    assert_eq!(world.wait(1), ENDED);
}

/// Who comes back with credentials that allow more is not held to what was found out about the earlier ones.
#[test]
fn what_is_retained_with_new_credentials_is_judged_by_them() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("writer"));
    world.packet(1, retained("a"));
    world.rights_change(publishing("a"));
    assert_eq!(retained_for(&mut world, 2), ["2 PUBLISH a"]);
    world.input(Input::Closed { conn: conn(1) });
    let own = Some(publishing("#"));
    let subject = Subject { client_id: "writer".into(), own, ..Subject::default() };
    world.is_silent = true;
    world.connect(1, v5("writer"));
    let (ticket, _) = world.last_question();
    world.accept_as(ticket, subject);
    world.is_silent = false;
    world.with(publishing("#")).packet(1, retained("b"));
    assert_eq!(retained_for(&mut world, 3), ["3 PUBLISH a", "3 PUBLISH b"]);
}

/// The same holds for a Will: its client was let in with the right to it.
#[test]
fn a_will_with_new_credentials_is_judged_by_them() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("mortal"));
    world.packet(1, retained("a"));
    world.rights_change(publishing("a"));
    world.connect(2, v5("watcher"));
    world.packet(2, subscribe(&["last"]));
    world.is_silent = true;
    let (qos, retain) = (QoS::AtMostOnce, false);
    let will = Will { qos, retain, delay_s: 0, message: message_of("last") };
    world.connect(3, Connect { will: Some(Box::new(will)), ..v5("mortal") });
    let (ticket, _) = world.last_question();
    world.accept_as(
        ticket,
        Subject { client_id: "mortal".into(), own: Some(Grants::All), ..Subject::default() },
    );
    assert_eq!(world.input(Input::Closed { conn: conn(3) }), ["2 PUBLISH last"]);
}

/// Rights end here and there, one after the other: what somebody sends to be retained before it hears of it is
/// not found out about by looking at what is there.
#[test]
fn what_comes_by_rights_that_have_just_ended_is_found_out_about() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("writer"));
    world.is_silent = true;
    world.rights_change(Grants::none());
    world.packet(1, retained("a"));
    world.packet(1, retained("b"));
    let questions: Vec<Ticket> = world.asked.iter().skip(1).map(|(ticket, _)| *ticket).collect();
    let [_, about_the_publisher] = questions[..] else { panic!("{:?}", world.asked) };
    let subject = Subject { client_id: "writer".into(), ..Subject::default() };
    let principal =
        Principal { grants: Grants::none(), subject: Some(subject.into()), ..Principal::default() };
    let answer = Box::new(Answer::Accept { principal, data: None });
    world.input(Input::Answer { ticket: about_the_publisher, answer });
    world.is_silent = false;
    world.grants = Grants::All;
    assert_eq!(retained_for(&mut world, 2), [""; 0]);
    // Later nobody is asked about who publishes.
    world.wait(20_000);
    world.connect(3, v5("other"));
    let before = world.asked.len();
    world.packet(3, retained("c"));
    assert_eq!(world.asked.len(), before);
}

/// Rights may change while the broker is not there.
#[test]
fn what_is_retained_is_judged_again_after_a_restart() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("writer"));
    world.packet(1, retained("a"));
    world.packet(1, retained("b"));
    world.with(publishing("a")).restart(asking());
    let (_, request) = world.last_question();
    let Request::Judge { subject } = request else { panic!("{request:?}") };
    assert_eq!((&*subject.client_id, &*subject.provider), ("writer", "test"));
    assert_eq!(retained_for(&mut world, 2), ["2 PUBLISH a"]);
    // Where nobody is asked, everybody may do everything.
    let asked = world.asked.len();
    world.restart(ShardConfig { authentication: Authentication::Anonymous, ..asking() });
    assert_eq!(retained_for(&mut world, 3), ["3 PUBLISH a", "3 PUBLISH b"]);
    assert_eq!(world.asked.len(), asked);
}

/// What was found out about a publisher of whom nothing was left at the last change is forgotten.
#[test]
fn rights_that_come_back_are_not_withheld_from_who_had_nothing_retained_then() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("writer"));
    world.packet(1, retained("a"));
    world.rights_change(publishing("x"));
    world.connect(2, v5("broom"));
    let message = Message::new("a", &Properties::new(), b"").expect("short");
    let (qos, retain) = (QoS::AtMostOnce, true);
    let clear = Box::new(Command::Publish { message, qos, retain });
    world.input(Input::Command { ticket: Ticket(0), command: clear });
    world.rights_change(Grants::All);
    world.packet(1, retained("a"));
    assert_eq!(retained_for(&mut world, 3), ["3 PUBLISH a"]);
    // Its Will rests on the same rights.
    world.connect(4, v5("watcher"));
    world.packet(4, subscribe(&["last"]));
    let will = Will { qos, retain: false, delay_s: 0, message: message_of("last") };
    world.connect(5, Connect { will: Some(Box::new(will)), ..v5("writer") });
    assert_eq!(world.input(Input::Closed { conn: conn(5) }), ["4 PUBLISH last"]);
}

fn message_of(topic: &str) -> Message {
    Message::new(topic, &Properties::new(), b"x").expect("short")
}
