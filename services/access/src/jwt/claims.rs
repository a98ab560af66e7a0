//! What a token says, and whether it holds.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use session_core::{Action, Actions, Grants, Rule, Subject, Time};

use crate::{Identity, rights::Template};

/// What a token has to say, and where it says what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimsConfig {
    /// `exp` may be missing: such a token never lapses.
    pub may_last_for_ever: bool,
    /// Clocks may differ by so many seconds.
    pub leeway_s: u32,
    /// `iss` has to be this.
    pub issuer: Option<String>,
    /// `aud` has to be or hold this.
    pub audience: Option<String>,
    /// Claims that have to be there with these values; `${clientid}` and `${username}` are what the client says.
    pub required: BTreeMap<String, String>,
    /// The claim that is the user's name.
    pub user: String,
    /// The claim that lists its groups.
    pub groups: String,
    /// The claim that says what kind of client it is.
    pub client_type: String,
    /// The claims that list what it may publish and subscribe to. If either is there, nothing else may be done.
    pub publish: String,
    /// See `publish`.
    pub subscribe: String,
}

impl Default for ClaimsConfig {
    fn default() -> Self {
        Self {
            may_last_for_ever: false,
            leeway_s: 10,
            issuer: None,
            audience: None,
            required: BTreeMap::new(),
            user: "sub".into(),
            groups: "groups".into(),
            client_type: "client_type".into(),
            publish: "publish".into(),
            subscribe: "subscribe".into(),
        }
    }
}

impl ClaimsConfig {
    pub(super) fn judge(&self) -> Result<(), String> {
        let wrong = self.required.values().find(|value| {
            value.contains("${") && !matches!(&***value, "${clientid}" | "${username}")
        });
        wrong.map_or(Ok(()), |value| {
            Err(format!("`{value}` is neither a text nor ${{clientid}} nor ${{username}}"))
        })
    }
}

/// What a client says of itself.
pub(super) struct Who<'a> {
    pub(super) client_id: &'a str,
    pub(super) user_name: Option<&'a str>,
}

/// The claims of a token that was verified.
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    /// Who has shown the token.
    ///
    /// # Errors
    /// Why it is nobody, in words that hold nothing of the token.
    pub(super) fn identity(
        &self,
        now: Time,
        config: &ClaimsConfig,
        who: &Who<'_>,
        provider: &str,
    ) -> Result<Identity, String> {
        let expires = self.expires(now, config)?;
        self.judge(config, who)?;
        let user = self.text(&config.user).map(Box::from);
        let client_type = self.text(&config.client_type).map(Box::from);
        let subject =
            Subject { client_id: who.client_id.into(), user: user.clone(), ..Subject::default() };
        let own = self.rights(config, &subject, provider)?;
        let groups = self.texts(&config.groups)?.unwrap_or_default();
        let groups = groups.into_iter().map(Box::from).collect();
        Ok(Identity { user, groups, client_type, expires, own, ..Identity::default() })
    }

    /// When the token lapses.
    fn expires(&self, now: Time, config: &ClaimsConfig) -> Result<Option<Time>, String> {
        let leeway_ms = u64::from(config.leeway_s) * 1000;
        if let Some(since) = self.time("nbf")?
            && now.plus_ms(leeway_ms) < since
        {
            return Err("its token is not valid yet".to_owned());
        }
        let Some(expires) = self.time("exp")? else {
            return match config.may_last_for_ever {
                true => Ok(None),
                false => Err("its token never lapses, which is not allowed here".to_owned()),
            };
        };
        let ends = expires.plus_ms(leeway_ms);
        if ends <= now { Err("its token has lapsed".to_owned()) } else { Ok(Some(ends)) }
    }

    fn judge(&self, config: &ClaimsConfig, who: &Who<'_>) -> Result<(), String> {
        if let Some(issuer) = &config.issuer
            && self.text("iss") != Some(issuer)
        {
            return Err("its token is of another issuer".to_owned());
        }
        if let Some(audience) = &config.audience
            && !self.texts("aud").ok().flatten().unwrap_or_default().contains(&&**audience)
        {
            return Err("its token is for another audience".to_owned());
        }
        for (claim, wanted) in &config.required {
            // Compared as text: whatever a client calls itself is no pattern.
            let wanted = match &**wanted {
                "${clientid}" => Some(who.client_id),
                "${username}" => who.user_name,
                text => Some(text),
            };
            let found = match self.0.get(claim) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => Some(value.to_string()),
                _ => None,
            };
            if wanted.is_none() || found.as_deref() != wanted {
                return Err(format!("the claim `{claim}` of its token is missing, or another"));
            }
        }
        Ok(())
    }

    /// What the token allows; `None` if it says nothing of rights.
    fn rights(
        &self,
        config: &ClaimsConfig,
        subject: &Subject,
        provider: &str,
    ) -> Result<Option<Grants>, String> {
        let (publish, subscribe) = (self.texts(&config.publish)?, self.texts(&config.subscribe)?);
        if publish.is_none() && subscribe.is_none() {
            return Ok(None);
        }
        let source = format!("the token of {provider}");
        let mut rules = Vec::new();
        let lists: [(_, &[Action]); 2] =
            [(publish, &[Action::Publish]), (subscribe, &[Action::Subscribe, Action::Receive])];
        for (texts, actions) in lists {
            for text in texts.unwrap_or_default() {
                let template = Template::parse(text, |_| None)
                    .map_err(|_| "a right in its token is no topic pattern".to_owned())?;
                let pattern = template.allowed(subject);
                let rule = |pattern| Rule::new(true, Actions::of(actions), pattern, &source);
                rules.extend(pattern.map(rule));
            }
        }
        Ok(Some(Grants::Rules(Arc::from(rules))))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// One text or a list of them.
    fn texts(&self, claim: &str) -> Result<Option<Vec<&str>>, String> {
        let wrong = || format!("the claim `{claim}` of its token is no list of texts");
        match self.0.get(claim) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text])),
            Some(Value::Array(list)) => {
                let texts = list.iter().map(|item| item.as_str().ok_or_else(wrong));
                texts.collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// Seconds since 1970, perhaps with a fraction.
    fn time(&self, claim: &str) -> Result<Option<Time>, String> {
        const SECONDS_MAX: f64 = 1e12;
        match self.0.get(claim) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(seconds) if (0.0..SECONDS_MAX).contains(&seconds) => {
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "in range"
                    )]
                    let ms = (seconds * 1000.0) as u64;
                    Ok(Some(Time(ms)))
                }
                _ => Err(format!("the claim `{claim}` of its token is no time")),
            },
        }
    }
}
