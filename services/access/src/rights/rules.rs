//! Our own rule files.

use std::{collections::HashMap, sync::Arc};

use codec::QoS;
use regex::Regex;
use session_core::{Action, Actions, AddressRange};
use settings::{Section, Span};

use crate::matching::whole;

use super::{ACTIONS, Entry, Text, Who, template::Template};

/// Reads all rules.
///
/// # Errors
/// Everything that is wrong, one line each, in the order of the file.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Entry>, Vec<String>> {
    let mut entries = Vec::new();
    settings::read(file, text, |top| {
        let mut names = Names::default();
        top.table("patterns", |section| names.read_patterns(section));
        top.table("groups", |section| names.read_groups(section));
        let names = names.finish();
        top.tables("rule", |section| entries.extend(names.read_rule(section)));
    })?;
    Ok(entries)
}

/// What rules may name.
#[derive(Default)]
struct Names {
    patterns: HashMap<String, Regex>,
    groups: HashMap<Box<str>, Vec<Box<str>>>,
    groups_of_users: Arc<HashMap<Box<str>, Vec<Box<str>>>>,
}

impl Names {
    fn read_patterns(&mut self, section: &mut Section<'_, '_>) {
        for (name, text, span) in section.named_strings() {
            match whole(&text) {
                Ok(regex) => drop(self.patterns.insert(name, regex)),
                Err(error) => section.problem(&span, error),
            }
        }
    }

    fn read_groups(&mut self, section: &mut Section<'_, '_>) {
        for (group, users) in section.named_lists() {
            for user in users {
                let groups = self.groups.entry(user.into()).or_default();
                groups.push(group.as_str().into());
            }
        }
    }

    fn finish(mut self) -> Self {
        self.groups_of_users = Arc::new(std::mem::take(&mut self.groups));
        self
    }

    fn read_rule(&self, section: &mut Section<'_, '_>) -> Option<Entry> {
        let span = section.span();
        let (allowed, denied) = (section.one_or_more("allow"), section.one_or_more("deny"));
        if allowed.is_empty() == denied.is_empty() {
            section.problem(&span, "a rule has either `allow` or `deny`, with one action or more");
        }
        let allow = !allowed.is_empty();
        let named = if allow { allowed } else { denied };
        let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
        let has_qos = section.has("qos_min") || section.has("qos_max");
        let (actions, connect) = read_actions(section, named, allow || !has_qos);
        let topics = self.read_topics(section);
        let who = self.read_who(section);
        let (qos_min, qos_max) = read_qos(section);
        judge_conditions(section, &names, has_qos, qos_min > qos_max);
        let mut retain = None;
        if section.has("retain") {
            let mut value = false;
            section.boolean("retain", &mut value);
            retain = Some(value);
        }
        if topics.is_empty() && actions != Actions::of(&[]) {
            section.problem(&span, "`topics` is missing: what may be published or subscribed to");
        }
        let source = Arc::from(without_column(&section.place(&span)));
        Some(Entry { allow, actions, connect, who, topics, qos_min, qos_max, retain, source })
    }

    fn read_topics(&self, section: &mut Section<'_, '_>) -> Vec<Template> {
        let mut topics = Vec::new();
        for (text, span) in section.one_or_more("topics") {
            match Template::parse(&text, |name| self.patterns.get(name).cloned()) {
                Ok(template) => topics.push(template),
                Err(problem) => section.problem(&span, problem),
            }
        }
        topics
    }

    fn read_who(&self, section: &mut Section<'_, '_>) -> Who {
        Who {
            client_id: self.read_texts(section, "client_id"),
            user: self.read_texts(section, "user"),
            group: self.read_texts(section, "group"),
            address: read_ranges(section),
            listener: self.read_texts(section, "listener"),
            certificate: self.read_texts(section, "certificate"),
            client_type: self.read_texts(section, "client_type"),
            groups: Arc::clone(&self.groups_of_users),
            nameless: false,
            plain: false,
        }
    }

    /// Texts, and `~name` for a regular expression. An empty list takes nobody.
    fn read_texts(&self, section: &mut Section<'_, '_>, key: &'static str) -> Option<Vec<Text>> {
        if !section.has(key) {
            return None;
        }
        let mut texts = Vec::new();
        let found = section.one_or_more(key);
        if found.is_empty() {
            section.problem(
                &section.span(),
                format!("`{key}` is empty, so that the rule would fit nobody"),
            );
        }
        for (text, span) in found {
            match text.strip_prefix('~') {
                None if text.contains('*') => section.problem(
                    &span,
                    format!("`{text}` is a text; for more than one write `~name`, and name a regular expression in [patterns]"),
                ),
                None => texts.push(Text::Is(text.into())),
                Some(name) => match self.patterns.get(name) {
                    Some(regex) => texts.push(Text::Fits(regex.clone())),
                    None => section.problem(&span, format!("there is no `{name}` in [patterns]")),
                },
            }
        }
        Some(texts)
    }
}

fn read_actions(
    section: &Section<'_, '_>,
    found: Vec<(String, Span)>,
    receives: bool,
) -> (Actions, bool) {
    let (mut actions, mut connect) = (Vec::new(), false);
    for (name, span) in found {
        if let Some((_, action)) = ACTIONS.iter().find(|(known, _)| *known == name) {
            actions.push(*action);
            // Who may subscribe gets what it subscribed to, and who may not gets nothing by a wider subscription.
            if *action == Action::Subscribe && receives {
                actions.push(Action::Receive);
            }
        } else if name == "connect" {
            connect = true;
        } else {
            let known = "`connect`, `publish`, `subscribe` or `receive`";
            section.problem(&span, format!("an action is {known}, not `{name}`"));
        }
    }
    (Actions::of(&actions), connect)
}

/// What a rule may not ask for: it would fit nothing, or more than it looks like.
fn judge_conditions(
    section: &Section<'_, '_>,
    names: &[String],
    has_qos: bool,
    is_qos_empty: bool,
) {
    let span = section.span();
    let has = |name: &str| names.iter().any(|known| known == name);
    if is_qos_empty {
        section.problem(&span, "`qos_min` is above `qos_max`, so that the rule would fit nothing");
    }
    if has_qos && (has("receive") || has("connect")) {
        section.problem(&span, "a QoS is a condition for `publish` and `subscribe` only");
    }
    if section.has("retain") && (names.len() != 1 || !has("publish")) {
        section.problem(
            &span,
            "`retain` is a condition for `publish` only; give it a rule of its own",
        );
    }
    if section.has("topics") && names.len() == 1 && has("connect") {
        section.problem(&span, "`connect` has no `topics`");
    }
}

fn read_ranges(section: &mut Section<'_, '_>) -> Option<Vec<AddressRange>> {
    if !section.has("address") {
        return None;
    }
    let mut ranges = Vec::new();
    for (text, span) in section.one_or_more("address") {
        match text.parse() {
            Ok(range) => ranges.push(range),
            Err(problem) => section.problem(&span, problem),
        }
    }
    Some(ranges)
}

fn read_qos(section: &mut Section<'_, '_>) -> (QoS, QoS) {
    let (mut least, mut most) = (0, 2);
    section.number("qos_min", 0, 2, &mut least);
    section.number("qos_max", 0, 2, &mut most);
    let qos = |bits| QoS::from_bits(bits).unwrap_or_default();
    (qos(least), qos(most))
}

/// `file:line` of `file:line:column`.
fn without_column(place: &str) -> &str {
    place.rsplit_once(':').map_or(place, |(line, _)| line)
}
