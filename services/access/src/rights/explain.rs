//! Why something is allowed or not, for people.

use std::fmt;

use codec::QoS;
use session_core::{Action, Grants, Subject};

use super::{ACTIONS, Policy};

/// Something that a client may want to do.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The client.
    pub subject: &'a Subject,
    /// What it wants to do.
    pub action: Action,
    /// A topic, or a filter to subscribe to.
    pub topic: &'a str,
    /// Of the message, or asked for.
    pub qos: QoS,
    /// Whether the message is to be retained.
    pub retain: bool,
}

/// The answer, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// One line for each rule that was looked at, in their order; the last is the one that decides.
    pub steps: Vec<String>,
    /// What was decided, in one line.
    pub verdict: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

impl Policy {
    /// Which rule decides, and why no earlier one does.
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        let Question { subject, action, topic, .. } = question;
        let grants = match self.judge(subject) {
            Ok(grants) => grants,
            Err(denial) => {
                let rule = denial.rule.as_deref().unwrap_or("no rule allows it");
                let verdict = format!("denied: it may not connect ({rule})");
                return Explanation { allowed: false, steps: Vec::new(), verdict };
            }
        };
        let verdict = decide(&grants, question);
        let deciding = verdict.rule.map(|rule| rule.source.clone());
        let mut steps = Vec::new();
        for entry in &self.entries {
            let said = match entry.who.takes(subject) {
                Err(unmet) => format!("does not fit: `{unmet}` is another"),
                Ok(()) if !entry.actions.contains(*action) => "speaks of other actions".to_owned(),
                Ok(()) if Some(&entry.source) == deciding.as_ref() => {
                    steps.push(format!("{}: decides", entry.source));
                    break;
                }
                Ok(()) if entry.compile(subject).next().is_none() => {
                    "does not fit: a value for its topics is not known, or is no level".to_owned()
                }
                Ok(()) => "does not fit: topic, QoS or RETAIN".to_owned(),
            };
            steps.push(format!("{}: {said}", entry.source));
        }
        let name = ACTIONS.iter().find(|(_, known)| known == action).map_or("", |(name, _)| *name);
        let what = format!("{name} {topic}");
        let verdict = match (verdict.allowed, &deciding) {
            (true, Some(source)) => format!("allowed: {what} ({source})"),
            (true, None) => format!("allowed: {what}"),
            (false, Some(source)) => format!("denied: {what} ({source})"),
            (false, None) => format!("denied: {what} (no rule fits)"),
        };
        Explanation { allowed: verdict.starts_with("allowed"), steps, verdict }
    }
}

fn decide<'a>(grants: &'a Grants, question: &Question<'_>) -> session_core::Verdict<'a> {
    let Question { action, topic, qos, retain, .. } = *question;
    match action {
        Action::Publish => grants.judge_publish(topic, qos, retain),
        Action::Subscribe => grants.judge_subscribe(topic, qos),
        Action::Receive => grants.judge_receive(topic),
    }
}
