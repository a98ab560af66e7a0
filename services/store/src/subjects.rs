//! Whose right a message rests on, as bytes.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use codec::QoS;
use session_core::{Action, Actions, Grants, Level, Pattern, Rule, Subject};

use crate::wire::{Reader, Write};

/// Subjects that were read: many messages rest on the right of the same, which is kept once.
#[derive(Debug, Default)]
pub(crate) struct Subjects(HashMap<Box<[u8]>, Arc<Subject>>);

impl Subjects {
    /// The subject that these bytes are.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Arc<Subject>> {
        if let Some(known) = self.0.get(bytes) {
            return Some(known.clone());
        }
        let mut rest = Reader(bytes);
        let subject = Arc::new(subject(&mut rest).filter(|_| rest.is_at_end())?);
        self.0.insert(bytes.into(), subject.clone());
        Some(subject)
    }
}

/// The bytes of a subject. `None` if its own rights hold a test that is not known by its bytes; no provider gives
/// such.
pub(crate) fn encode(of: &Subject) -> Option<Vec<u8>> {
    let Subject { client_id, user, groups, client_type, address, listener, common_name, .. } = of;
    let mut out =
        Vec::with_capacity(client_id.len().saturating_add(listener.len()).saturating_add(64));
    out.bytes(client_id.as_bytes());
    put_maybe(&mut out, user.as_deref());
    out.u16(u16::try_from(groups.len()).ok()?);
    groups.iter().for_each(|group| out.bytes(group.as_bytes()));
    put_maybe(&mut out, client_type.as_deref());
    match address {
        None => out.u8(0),
        Some(IpAddr::V4(address)) => {
            out.u8(4);
            out.extend(address.octets());
        }
        Some(IpAddr::V6(address)) => {
            out.u8(6);
            out.extend(address.octets());
        }
    }
    out.bytes(listener.as_bytes());
    put_maybe(&mut out, common_name.as_deref());
    out.bytes(of.provider.as_bytes());
    put_own(&mut out, of.own.as_ref())?;
    Some(out)
}

fn subject(rest: &mut Reader<'_>) -> Option<Subject> {
    Some(Subject {
        client_id: rest.text()?.into(),
        user: maybe(rest)?,
        groups: many(rest, |rest| Some(rest.text()?.into()))?.into(),
        client_type: maybe(rest)?,
        address: match rest.u8()? {
            0 => None,
            4 => Some(Ipv4Addr::from(rest.array::<4>()?).into()),
            6 => Some(Ipv6Addr::from(rest.array::<16>()?).into()),
            _ => return None,
        },
        listener: rest.text()?.into(),
        common_name: maybe(rest)?,
        provider: rest.text()?.into(),
        own: own(rest)?,
    })
}

fn put_maybe(out: &mut Vec<u8>, text: Option<&str>) {
    out.u8(u8::from(text.is_some()));
    if let Some(text) = text {
        out.bytes(text.as_bytes());
    }
}

fn maybe(rest: &mut Reader<'_>) -> Option<Option<Box<str>>> {
    match rest.u8()? {
        0 => Some(None),
        1 => Some(Some(rest.text()?.into())),
        _ => None,
    }
}

/// So many of something. Room is made as the bytes turn up that pay for it.
fn many<T>(rest: &mut Reader<'_>, one: impl Fn(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count = rest.u16()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(one(rest)?);
    }
    Some(all)
}

const NOTHING: u8 = 0;
const ALL: u8 = 1;
const RULES: u8 = 2;

fn put_own(out: &mut Vec<u8>, own: Option<&Grants>) -> Option<()> {
    match own {
        None => out.u8(NOTHING),
        Some(Grants::All) => out.u8(ALL),
        Some(Grants::Rules(rules)) => {
            out.u8(RULES);
            out.u16(u16::try_from(rules.len()).ok()?);
            for rule in &**rules {
                put_rule(out, rule)?;
            }
        }
    }
    Some(())
}

fn own(rest: &mut Reader<'_>) -> Option<Option<Grants>> {
    Some(match rest.u8()? {
        NOTHING => None,
        ALL => Some(Grants::All),
        RULES => Some(Grants::Rules(many(rest, rule)?.into())),
        _ => return None,
    })
}

const ACTIONS: [Action; 3] = [Action::Publish, Action::Subscribe, Action::Receive];

fn put_rule(out: &mut Vec<u8>, of: &Rule) -> Option<()> {
    let Rule { allow, actions, pattern, qos_min, qos_max, retain, source } = of;
    out.u8(u8::from(*allow));
    for action in ACTIONS {
        out.u8(u8::from(actions.contains(action)));
    }
    out.u8(*qos_min as u8);
    out.u8(*qos_max as u8);
    out.u8(match retain {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    });
    out.bytes(source.as_bytes());
    out.u16(u16::try_from(pattern.levels().len()).ok()?);
    for level in pattern.levels() {
        match level {
            Level::Is(text) => {
                out.u8(0);
                out.bytes(text.as_bytes());
            }
            Level::Any => out.u8(1),
            Level::Rest => out.u8(2),
            Level::Passes(_) => return None,
        }
    }
    Some(())
}

fn rule(rest: &mut Reader<'_>) -> Option<Rule> {
    let allow = rest.u8()? > 0;
    let mut actions = Vec::new();
    for action in ACTIONS {
        if rest.u8()? > 0 {
            actions.push(action);
        }
    }
    let (qos_min, qos_max) = (QoS::from_bits(rest.u8()?)?, QoS::from_bits(rest.u8()?)?);
    let retain = match rest.u8()? {
        0 => None,
        1 => Some(false),
        2 => Some(true),
        _ => return None,
    };
    let source = rest.text()?.into();
    let levels = many(rest, |rest| {
        Some(match rest.u8()? {
            0 => Level::Is(rest.text()?.into()),
            1 => Level::Any,
            2 => Level::Rest,
            _ => return None,
        })
    })?;
    let (actions, pattern) = (Actions::of(&actions), Pattern::new(levels));
    Some(Rule { allow, actions, pattern, qos_min, qos_max, retain, source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use session_core::LevelTest;

    use super::*;

    fn rule_with(level: Level) -> Rule {
        let levels = [Level::Is("+/#".into()), level, Level::Rest];
        let actions = Actions::of(&[Action::Publish, Action::Receive]);
        Rule {
            qos_max: QoS::AtLeastOnce,
            retain: Some(false),
            ..Rule::new(true, actions, Pattern::new(levels), "token")
        }
    }

    fn subjects() -> Vec<Subject> {
        let bare = Subject { client_id: "c".into(), ..Subject::default() };
        let full = Subject {
            user: Some("".into()),
            groups: ["a".into(), "b".into()].into(),
            client_type: Some("device".into()),
            address: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            listener: "tls".into(),
            common_name: Some("cn".into()),
            provider: "jwt".into(),
            own: Some(Grants::Rules([rule_with(Level::Any)].into())),
            ..bare.clone()
        };
        let address = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        let others = [Some(Grants::All), Some(Grants::none())];
        let others = others.map(|own| Subject { address, own, ..full.clone() });
        [bare, full].into_iter().chain(others).collect()
    }

    #[test]
    fn subjects_are_read_back_and_kept_once() {
        let mut read = Subjects::default();
        for subject in subjects() {
            let bytes = encode(&subject).unwrap();
            let first = read.read(&bytes).unwrap();
            assert_eq!(*first, subject);
            assert!(Arc::ptr_eq(&first, &read.read(&bytes).unwrap()));
            for end in 0..bytes.len() {
                assert_eq!(read.read(&bytes[..end]), None, "{end} of {bytes:?}");
            }
            assert_eq!(read.read(&[&bytes[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn a_test_of_a_level_is_no_bytes() {
        let test = Level::Passes(LevelTest::new("[a-z]+", |_| true));
        let own = Some(Grants::Rules([rule_with(test)].into()));
        assert_eq!(encode(&Subject { own, ..Subject::default() }), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let _ = Subjects::default().read(&bytes);
            for subject in subjects() {
                let mut bytes = encode(&subject).unwrap();
                let at = at.index(bytes.len());
                bytes[at] = to;
                if let Some(read) = Subjects::default().read(&bytes) {
                    // What is read is what is written, but for numbers that mean the same.
                    prop_assert_eq!(encode(&read).map(|again| again.len()), Some(bytes.len()));
                }
            }
        }
    }
}
