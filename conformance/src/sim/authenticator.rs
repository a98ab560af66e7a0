//! Answers the broker's questions from a script; what the script says is in `spec-tests/README.md`.

use std::sync::Arc;

use bytes::Bytes;
use codec::ReasonCode;
use session_core::{Action, Actions, Answer, Grants, Pattern, Principal, Request, Rule, Subject};

use super::config::text;
use crate::lang::{Literal, ParseError, Setting};

/// The script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authenticator {
    /// User names with their passwords; nobody needs one if there are none.
    pub logins: Vec<(String, Vec<u8>)>,
    /// The method `TEST` is known.
    pub knows_test: bool,
    /// No question is answered.
    pub is_silent: bool,
    /// Everybody is let in, and somebody is asked.
    pub is_open: bool,
    /// What nobody may do.
    pub denied: Vec<(Action, String)>,
    /// Client Identifiers of those who may not even be there.
    pub banned: Vec<String>,
}

impl Authenticator {
    /// Whether anybody has to be asked.
    pub fn is_needed(&self) -> bool {
        *self != Self::default()
    }

    /// Takes a right away, if that is what a setting says.
    ///
    /// # Errors
    /// Its value is no text.
    pub fn set_right(&mut self, key: &str, value: &Literal) -> Result<bool, String> {
        match key {
            "deny_publish" => self.denied.push((Action::Publish, text(value)?)),
            "deny_subscribe" => self.denied.push((Action::Subscribe, text(value)?)),
            "deny_receive" => self.denied.push((Action::Receive, text(value)?)),
            "ban" => self.banned.push(text(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// From now on these rights are all that are taken away.
    ///
    /// # Errors
    /// A setting that is about no right, with its place.
    pub fn change_rights(&mut self, settings: &[Setting]) -> Result<(), ParseError> {
        (self.denied, self.banned) = (Vec::new(), Vec::new());
        for Setting { at, key, value } in settings {
            let problem = |message| ParseError { at: *at, message };
            if !self.set_right(key, value).map_err(problem)? {
                return Err(problem(format!("`{key}` is no right")));
            }
        }
        Ok(())
    }

    /// What is answered, if anything is.
    pub fn answer(&self, request: &Request) -> Option<Answer> {
        if self.is_silent {
            return None;
        }
        let client_id = match request {
            Request::Authenticate { connect, .. } => &connect.client_id,
            Request::Continue { client_id, .. } => client_id,
            Request::Judge { subject } => &subject.client_id,
        };
        if self.banned.iter().any(|banned| **banned == **client_id) {
            return Some(Answer::Refuse { reason: ReasonCode::Banned });
        }
        let mut answer = self.answer_of(request);
        if let Answer::Accept { principal, .. } = &mut answer {
            let subject = Subject { client_id: client_id.clone(), ..Subject::default() };
            principal.subject = Some(subject.into());
        }
        Some(answer)
    }

    fn answer_of(&self, request: &Request) -> Answer {
        match request {
            Request::Authenticate { connect, .. } => {
                let user = connect.user_name.as_deref();
                let data = connect.properties.authentication_data().cloned();
                match connect.properties.authentication_method() {
                    None => self.login(user, connect.password.as_deref().unwrap_or_default()),
                    Some("TEST") if self.knows_test => self.step(data.as_deref(), true),
                    Some(_) => Answer::Refuse { reason: ReasonCode::BadAuthenticationMethod },
                }
            }
            Request::Continue { data, again, .. } => self.step(data.as_deref(), *again),
            Request::Judge { .. } => self.accept(None, None),
        }
    }

    fn login(&self, user: Option<&str>, password: &[u8]) -> Answer {
        let is_known = |(name, secret): &(String, Vec<u8>)| {
            Some(name.as_str()) == user && secret.as_slice() == password
        };
        if !self.logins.is_empty() && !self.logins.iter().any(is_known) {
            return Answer::Refuse { reason: ReasonCode::BadUserNameOrPassword };
        }
        self.accept(user, None)
    }

    /// A step of the method `TEST`; `first` is the one in CONNECT or of a re-authentication.
    fn step(&self, data: Option<&[u8]>, first: bool) -> Answer {
        if let Some(reason) = data.and_then(refusal) {
            return Answer::Refuse { reason };
        }
        match (data, first) {
            (Some(b"direct"), true) => self.accept(None, None),
            (Some(b"hello"), true) => {
                Answer::Continue { data: Some(Bytes::from_static(b"challenge")), exchange: None }
            }
            (Some(b"response"), false) => self.accept(None, Some(Bytes::from_static(b"welcome"))),
            _ => Answer::Refuse { reason: ReasonCode::NotAuthorized },
        }
    }

    fn accept(&self, user: Option<&str>, data: Option<Bytes>) -> Answer {
        let principal =
            Principal { name: user.map(Into::into), grants: self.grants(), ..Principal::default() };
        Answer::Accept { principal, data }
    }

    fn grants(&self) -> Grants {
        if self.denied.is_empty() {
            return Grants::All;
        }
        let rule = |allow, actions, filter: &str| {
            Rule::new(allow, actions, Pattern::of_filter(filter), "script")
        };
        let denied = self.denied.iter().map(|(action, filter)| {
            let actions = match action {
                Action::Subscribe => Actions::of(&[Action::Subscribe, Action::Receive]),
                action => Actions::of(&[*action]),
            };
            rule(false, actions, filter)
        });
        Grants::Rules(denied.chain([rule(true, Actions::ALL, "#")]).collect::<Arc<[Rule]>>())
    }
}

/// The code in `refuse 0x97`.
fn refusal(data: &[u8]) -> Option<ReasonCode> {
    let code = core::str::from_utf8(data).ok()?.strip_prefix("refuse 0x")?;
    ReasonCode::from_u8(u8::from_str_radix(code, 16).ok()?)
}
