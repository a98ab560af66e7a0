//! What a client may do: rules, read from a file, and compiled for each client.

mod explain;
mod mosquitto;
mod rules;
mod template;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use regex::Regex;
use session_core::{Action, Actions, AddressRange, Grants, Pattern, Rule, Subject};

use codec::QoS;
pub(crate) use template::Template;

pub use explain::{Explanation, Question};
pub use mosquitto::SubscribeMode;

/// Lists of rules that are kept for clients to come.
const SHARED_MAX: usize = 1024;

/// All rules. The first that fits decides; none fits means no.
#[derive(Debug, Default)]
pub struct Policy {
    entries: Vec<Entry>,
    /// Some entry speaks of connecting; then what no entry allows to connect may not.
    judges_connect: bool,
    /// The entries that speak of these users only.
    by_user: HashMap<Box<str>, Vec<u32>>,
    /// All other entries.
    of_anybody: Vec<u32>,
    /// What is the same for many clients is there once: by the numbers of the entries that speak of them.
    shared: Mutex<HashMap<EntryNumbers, Arc<[Rule]>>>,
}

/// The places of entries in their list.
type EntryNumbers = Box<[u32]>;

/// A rule as it is written.
#[derive(Clone, Debug)]
struct Entry {
    allow: bool,
    actions: Actions,
    /// It speaks of connecting.
    connect: bool,
    who: Who,
    topics: Vec<Template>,
    qos_min: QoS,
    qos_max: QoS,
    retain: Option<bool>,
    /// Such as `rules.toml:12`.
    source: Arc<str>,
}

/// The clients that a rule speaks of: all conditions have to hold, and an absent one does.
#[derive(Clone, Debug, Default)]
struct Who {
    client_id: Option<Vec<Text>>,
    user: Option<Vec<Text>>,
    group: Option<Vec<Text>>,
    address: Option<Vec<AddressRange>>,
    listener: Option<Vec<Text>>,
    certificate: Option<Vec<Text>>,
    client_type: Option<Vec<Text>>,
    /// Groups that the rule file itself makes, by user.
    groups: Arc<HashMap<Box<str>, Vec<Box<str>>>>,
    /// Only clients without a name.
    nameless: bool,
    /// Only clients whose Client Identifier and name hold no wildcard.
    plain: bool,
}

/// A text, or a regular expression that has to fit the whole of one.
#[derive(Clone, Debug)]
enum Text {
    Is(Box<str>),
    Fits(Regex),
}

impl Text {
    fn takes(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => **wanted == *text,
            Self::Fits(regex) => regex.is_match(text),
        }
    }
}

/// A condition that does not hold.
type Unmet = &'static str;

impl Who {
    /// # Errors
    /// The name of the first condition that does not hold.
    fn takes(&self, subject: &Subject) -> Result<(), Unmet> {
        let one = |wanted: &Option<Vec<Text>>, found: Option<&str>| {
            wanted.as_ref().is_none_or(|all| {
                found.is_some_and(|found| all.iter().any(|text| text.takes(found)))
            })
        };
        let made = subject.user.as_deref().and_then(|user| self.groups.get(user));
        let in_group = self.group.as_ref().is_none_or(|all| {
            let groups = subject.groups.iter().chain(made.into_iter().flatten());
            groups.into_iter().any(|group| all.iter().any(|text| text.takes(group)))
        });
        let at_address = self.address.as_ref().is_none_or(|all| {
            subject.address.is_some_and(|found| all.iter().any(|range| range.contains(found)))
        });
        let conditions = [
            (one(&self.client_id, Some(&subject.client_id)), "client_id"),
            (one(&self.user, subject.user.as_deref()), "user"),
            (in_group, "group"),
            (at_address, "address"),
            (one(&self.listener, Some(&subject.listener)), "listener"),
            (one(&self.certificate, subject.common_name.as_deref()), "certificate"),
            (one(&self.client_type, subject.client_type.as_deref()), "client_type"),
            (!self.nameless || subject.user.is_none(), "user"),
            (!self.plain || is_plain(subject), "client_id"),
        ];
        conditions.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, name)| Err(name))
    }
}

fn is_plain(subject: &Subject) -> bool {
    let is_plain = |text: &str| !text.contains(['+', '#']);
    is_plain(&subject.client_id) && subject.user.as_deref().is_none_or(is_plain)
}

/// Why a client may not connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The rule that says so; absent if none allows it.
    pub rule: Option<Arc<str>>,
}

impl Policy {
    /// No rule: nobody may do anything.
    pub fn deny_all() -> Self {
        Self::default()
    }

    /// Reads an own rule file; `file` is its name for messages and for [`Rule::source`].
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub fn parse_rules(file: &str, text: &str) -> Result<Self, Vec<String>> {
        rules::parse(file, text).map(Self::of)
    }

    /// Reads mosquitto's `acl_file`.
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub fn parse_mosquitto(
        file: &str,
        text: &str,
        subscribe: SubscribeMode,
    ) -> Result<Self, Vec<String>> {
        mosquitto::parse(file, text, subscribe).map(Self::of)
    }

    fn of(entries: Vec<Entry>) -> Self {
        let judges_connect = entries.iter().any(|entry| entry.connect);
        let (mut by_user, mut of_anybody) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for (entry, number) in entries.iter().zip(0..) {
            let users = entry.who.user.iter().flatten().map(|text| match text {
                Text::Is(user) => Some(user.clone()),
                Text::Fits(_) => None,
            });
            match (entry.who.user.is_some(), users.collect::<Option<Vec<_>>>()) {
                (true, Some(users)) => {
                    for user in users {
                        by_user.entry(user).or_default().push(number);
                    }
                }
                _ => of_anybody.push(number),
            }
        }
        Self { entries, judges_connect, by_user, of_anybody, shared: Mutex::default() }
    }

    /// The entries that speak of a client, in their order. Those of other users are not looked at.
    fn fitting(&self, subject: &Subject) -> Vec<(u32, &Entry)> {
        let user = subject.user.as_ref().and_then(|user| self.by_user.get(user));
        let numbers = user.into_iter().flatten().chain(&self.of_anybody).copied();
        let entries =
            numbers.filter_map(|number| Some((number, self.entries.get(number as usize)?)));
        let mut fitting: Vec<_> =
            entries.filter(|(_, entry)| entry.who.takes(subject).is_ok()).collect();
        fitting.sort_by_key(|(number, _)| *number);
        fitting
    }

    /// What a client may do. What came with its credentials ([`Subject::own`]) is all of it, if there is any; rules
    /// that deny are asked before.
    ///
    /// # Errors
    /// It may not connect.
    pub fn judge(&self, subject: &Subject) -> Result<Grants, Denial> {
        let fitting = self.fitting(subject);
        self.judge_connect(&fitting)?;
        if let Some(own) = &subject.own {
            return Ok(with_own(own, &fitting, subject));
        }
        let compile = || fitting.iter().flat_map(|(_, entry)| entry.compile(subject)).collect();
        if fitting.iter().any(|(_, entry)| !entry.topics.iter().all(Template::is_fixed)) {
            return Ok(Grants::Rules(compile()));
        }
        let key: EntryNumbers = fitting.iter().map(|(number, _)| *number).collect();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = shared.get(&key) {
            return Ok(Grants::Rules(Arc::clone(rules)));
        }
        let rules: Arc<[Rule]> = compile();
        if shared.len() >= SHARED_MAX {
            shared.clear();
        }
        shared.insert(key, Arc::clone(&rules));
        Ok(Grants::Rules(rules))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn judge_connect(&self, fitting: &[(u32, &Entry)]) -> Result<(), Denial> {
        if !self.judges_connect {
            return Ok(());
        }
        match fitting.iter().find(|(_, entry)| entry.connect) {
            Some((_, entry)) if entry.allow => Ok(()),
            entry => Err(Denial { rule: entry.map(|(_, entry)| Arc::clone(&entry.source)) }),
        }
    }
}

/// Rights of credentials, behind what rules deny.
fn with_own(own: &Grants, fitting: &[(u32, &Entry)], subject: &Subject) -> Grants {
    let denying = fitting.iter().filter(|(_, entry)| !entry.allow);
    let denying: Vec<Rule> = denying.flat_map(|(_, entry)| entry.compile(subject)).collect();
    let own = match own {
        own if denying.is_empty() => return own.clone(),
        Grants::All => ["#", "$SYS/#"]
            .map(|filter| Rule::new(true, Actions::ALL, Pattern::of_filter(filter), "credentials"))
            .to_vec(),
        Grants::Rules(rules) => rules.to_vec(),
    };
    Grants::Rules(denying.into_iter().chain(own).collect())
}

impl Entry {
    /// The rules that it is for a client: one for each topic pattern that can be filled.
    fn compile<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = Rule> + 'a {
        let none = self.actions == Actions::of(&[]);
        let patterns = self.topics.iter().filter(move |_| !none);
        let fill = |template: &Template| match self.allow {
            true => template.allowed(subject),
            false => template.denied(subject),
        };
        patterns.filter_map(fill).map(|pattern| Rule {
            allow: self.allow,
            actions: self.actions,
            pattern,
            qos_min: self.qos_min,
            qos_max: self.qos_max,
            retain: self.retain,
            source: Arc::clone(&self.source),
        })
    }
}

/// The names of actions in files and explanations.
const ACTIONS: [(&str, Action); 3] =
    [("publish", Action::Publish), ("subscribe", Action::Subscribe), ("receive", Action::Receive)];

#[cfg(test)]
mod tests;
