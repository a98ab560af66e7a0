//! What an HTTP server answers.

use std::sync::Arc;

use codec::ReasonCode;
use serde::{Deserialize, Deserializer};
use session_core::{ClientLimits, Grants, Rates, Time};

use super::rights::{self, Lists};
use crate::{Attempt, Identity, Verdict};

/// The longest text of a server that goes into a log, characters.
const WHY_MAX: usize = 200;

/// The answer: this broker's own form, and that of TBMQ's providers. A field that nobody knows is an error: it
/// could have been meant to restrict something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    result: ResultWord,
    #[serde(default)]
    user: Option<Box<str>>,
    #[serde(default)]
    groups: Option<Vec<Box<str>>>,
    #[serde(default, alias = "clientType")]
    client_type: Option<Box<str>>,
    #[serde(default, deserialize_with = "list")]
    publish: Option<Vec<String>>,
    #[serde(default, deserialize_with = "list")]
    subscribe: Option<Vec<String>>,
    #[serde(default, rename = "authRules")]
    auth_rules: Option<AuthRules>,
    #[serde(default)]
    expires_in_s: Option<u32>,
    #[serde(default)]
    limits: Option<AnswerLimits>,
    #[serde(default)]
    why: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum ResultWord {
    #[serde(rename = "accept", alias = "success")]
    Accept,
    #[serde(rename = "refuse", alias = "failure")]
    Refuse,
    #[serde(rename = "skip", alias = "skipped")]
    Skip,
}

/// Limits of this client; rates as `10:1,300:60`. What is not there is not limited.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct AnswerLimits {
    publish_rate_in: String,
    byte_rate_in: String,
    publish_rate_out: String,
    byte_rate_out: String,
    subscriptions_max: Option<u32>,
}

impl AnswerLimits {
    fn read(&self) -> Result<Arc<ClientLimits>, String> {
        let rates = |name: &str, text: &str| {
            text.parse::<Rates>()
                .map_err(|_| format!("`{name}` in its answer is no rate such as 10:1"))
        };
        Ok(Arc::new(ClientLimits {
            publishes_in: rates("publish_rate_in", &self.publish_rate_in)?,
            bytes_in: rates("byte_rate_in", &self.byte_rate_in)?,
            publishes_out: rates("publish_rate_out", &self.publish_rate_out)?,
            bytes_out: rates("byte_rate_out", &self.byte_rate_out)?,
            subscriptions_max: self.subscriptions_max,
            ..ClientLimits::default()
        }))
    }
}

/// Rights as TBMQ writes them: regular expressions over whole topics. No list means nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthRules {
    #[serde(default, rename = "pub")]
    publish: Option<Vec<String>>,
    #[serde(default, rename = "sub")]
    subscribe: Option<Vec<String>>,
}

/// A list that is `null` is there, and allows nothing.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    Option::deserialize(from).map(|list| Some(list.unwrap_or_default()))
}

/// What an answer with a status of 2xx means.
///
/// # Errors
/// It means nothing, in words that hold nothing of what was asked.
pub(super) fn verdict(
    now: Time,
    provider: &str,
    attempt: &Attempt,
    body: &[u8],
) -> Result<Verdict, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        // The text of the error may repeat what the server wrote, and that may repeat the password.
        format!(
            "its answer is not understood, see line {} column {} of it",
            error.line(),
            error.column()
        )
    })?;
    let told = answer.why.as_deref().filter(|why| !repeats_password(why, attempt));
    let why = |default: &str| -> Box<str> { told.map_or_else(|| default.into(), shown) };
    Ok(match answer.result {
        ResultWord::Skip => Verdict::Skip { why: why("the server does not know it") },
        ResultWord::Refuse => {
            let reason = match (&attempt.user_name, &attempt.password) {
                (None, None) => ReasonCode::NotAuthorized,
                _ => ReasonCode::BadUserNameOrPassword,
            };
            Verdict::Refuse { reason, why: why("the server refuses it") }
        }
        ResultWord::Accept => Verdict::Accept(Box::new(identity(now, provider, attempt, answer)?)),
    })
}

fn identity(
    now: Time,
    provider: &str,
    attempt: &Attempt,
    answer: Answer,
) -> Result<Identity, String> {
    let limits = answer.limits.as_ref().map(AnswerLimits::read).transpose()?;
    let own = match (answer.publish, answer.subscribe, answer.auth_rules) {
        (None, None, None) => None,
        (publish, subscribe, None) => {
            Some(rights::of_filters(provider, &lists(publish, subscribe))?)
        }
        (None, None, Some(AuthRules { publish, subscribe })) => {
            Some(rights::of_expressions(provider, &lists(publish, subscribe))?)
        }
        _ => return Err("its answer has `authRules` and lists of its own; one has to go".into()),
    };
    if answer.expires_in_s == Some(0) {
        return Err("its answer has lapsed when it comes: `expires_in_s` is 0".into());
    }
    Ok(Identity {
        user: answer.user.or_else(|| attempt.user_name.clone()),
        groups: answer.groups.unwrap_or_default(),
        client_type: answer.client_type,
        expires: answer.expires_in_s.map(|s| now.plus_s(s)),
        own: own.map(|rules| Grants::Rules(rules.into())),
        limits,
        data: None,
    })
}

fn lists(publish: Option<Vec<String>>, subscribe: Option<Vec<String>>) -> Lists {
    Lists { publish: publish.unwrap_or_default(), subscribe: subscribe.unwrap_or_default() }
}

/// Whether a text of the server holds what must not get into a log.
fn repeats_password(text: &str, attempt: &Attempt) -> bool {
    let Some(password) = &attempt.password else { return false };
    let password = password.reveal();
    !password.is_empty() && text.as_bytes().windows(password.len()).any(|part| part == password)
}

/// A text of the server for the log: not too long, and without what could be taken for another line.
fn shown(text: &str) -> Box<str> {
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(WHY_MAX).map(shown).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use codec::QoS;
    use serde_json::json;

    use super::*;
    use crate::http::tests::attempt;

    fn read(body: &str) -> Result<Verdict, String> {
        let attempt = Attempt { user_name: Some("alice".into()), ..attempt("c1") };
        verdict(Time(1000), "http", &attempt, body.as_bytes())
    }

    fn accepted(body: &str) -> Identity {
        match read(body).unwrap_or_else(|problem| panic!("{body}: {problem}")) {
            Verdict::Accept(identity) => *identity,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn may(grants: &Option<Grants>, publish: &str, subscribe: &str) -> (bool, bool) {
        let grants = grants.as_ref().expect("it has rights of its own");
        (
            grants.may_publish(publish, QoS::AtLeastOnce, false),
            grants.may_subscribe(subscribe, QoS::AtLeastOnce),
        )
    }

    #[test]
    fn an_accepted_client_is_what_the_answer_says() {
        let identity = accepted(
            r#"{"result": "accept", "user": "a.lice", "groups": ["ops", "eu"],
                "client_type": "application", "publish": ["up/+/x"], "subscribe": ["down/#"],
                "expires_in_s": 60, "limits": {}}"#,
        );
        assert_eq!(identity.user.as_deref(), Some("a.lice"));
        assert_eq!(identity.groups, ["ops".into(), "eu".into()]);
        assert_eq!(identity.client_type.as_deref(), Some("application"));
        assert_eq!(identity.expires, Some(Time(61_000)));
        assert_eq!(may(&identity.own, "up/1/x", "down/a/#"), (true, true));
        assert_eq!(may(&identity.own, "down/a", "up/1/x"), (false, false));
        assert!(identity.own.unwrap().may_receive("down/a"));
    }

    #[test]
    fn a_bare_accept_has_the_user_name_that_was_asked_about_and_rights_by_rules() {
        let identity = accepted(r#"{"result": "accept"}"#);
        assert_eq!(identity, Identity { user: Some("alice".into()), ..Identity::default() });
    }

    #[test]
    fn of_two_lists_a_missing_one_allows_nothing() {
        let identity = accepted(r#"{"result": "accept", "publish": ["a"]}"#);
        assert_eq!(may(&identity.own, "a", "a"), (true, false));
        for body in [
            r#"{"result": "accept", "publish": []}"#,
            r#"{"result": "accept", "publish": null}"#,
            r#"{"result": "success", "authRules": {}}"#,
            r#"{"result": "success", "authRules": {"pub": null, "sub": []}}"#,
        ] {
            assert_eq!(may(&accepted(body).own, "a", "a"), (false, false), "{body}");
        }
    }

    #[test]
    fn answers_in_the_form_of_tbmq_are_read() {
        let identity = accepted(
            r#"{"result": "success", "clientType": "APPLICATION",
                "authRules": {"pub": ["up/.*"], "sub": ["down/.*", "news"]}}"#,
        );
        assert_eq!(identity.client_type.as_deref(), Some("APPLICATION"));
        assert_eq!(may(&identity.own, "up/1", "down/#"), (true, true));
        assert_eq!(may(&identity.own, "x", "news/x"), (false, false));
        assert!(matches!(read(r#"{"result": "failure"}"#), Ok(Verdict::Refuse { .. })));
        assert!(matches!(read(r#"{"result": "skipped"}"#), Ok(Verdict::Skip { .. })));
    }

    #[test]
    fn a_refusal_tells_administrators_why_in_one_line() {
        let refused = read("{\"result\": \"refuse\", \"why\": \"no\\ncontract\"}").unwrap();
        let (reason, why) = (ReasonCode::BadUserNameOrPassword, "no contract".into());
        assert_eq!(refused, Verdict::Refuse { reason, why });
        let long = format!("{{\"result\": \"skip\", \"why\": \"{}\"}}", "x".repeat(5000));
        assert_eq!(read(&long), Ok(Verdict::Skip { why: "x".repeat(WHY_MAX).into() }));
    }

    #[test]
    fn nothing_but_a_whole_and_known_answer_lets_anybody_in() {
        for body in [
            "",
            "accept",
            "null",
            "true",
            "[]",
            "{}",
            r#"{"result": null}"#,
            r#"{"result": true}"#,
            r#"{"result": "Accept"}"#,
            r#"{"result": "accepted"}"#,
            r#"{"result": "accept"} {"result": "refuse"}"#,
            r#"{"result": "accept""#,
            r#"{"result": "refuse", "result": "accept"}"#,
            r#"{"result": "accept", "publsh": ["a"]}"#,
            r#"{"result": "accept", "publish": "a"}"#,
            r#"{"result": "accept", "publish": ["a/#/b"]}"#,
            r#"{"result": "accept", "publish": [""]}"#,
            r#"{"result": "accept", "publish": ["a"], "authRules": {}}"#,
            r#"{"result": "accept", "authRules": {"pub": ["(a|b)/c"]}}"#,
            r#"{"result": "accept", "authRules": {"publish": ["a"]}}"#,
            r#"{"result": "accept", "expires_in_s": 0}"#,
            r#"{"result": "accept", "expires_in_s": -1}"#,
            r#"{"result": "accept", "expires_in_s": "60"}"#,
            r#"{"result": "accept", "limits": {"rate": "1:1"}}"#,
            r#"{"result": "accept", "limits": {"publish_rate_in": "fast"}}"#,
            r#"{"result": "accept", "groups": [1]}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }

    proptest::proptest! {
        /// Fail closed: of whatever bytes come, only a JSON object that says so lets anybody in.
        #[test]
        fn whatever_comes_lets_nobody_in_unless_it_says_so(
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
            word in "[a-z]{0,8}",
        ) {
            let attempt = attempt("c1");
            proptest::prop_assert!(verdict(Time(0), "http", &attempt, &body).is_err());
            let worded = format!("{{\"result\": \"{word}\"}}");
            let is_in = matches!(
                verdict(Time(0), "http", &attempt, worded.as_bytes()),
                Ok(Verdict::Accept(_))
            );
            proptest::prop_assert_eq!(is_in, word == "accept" || word == "success");
        }

        /// What an expression of TBMQ becomes never fits more topics than the expression.
        #[test]
        fn no_expression_becomes_wider(
            text in r"(\^)?(a|b|\.|\*|\+|/|\[\^/\]\+|\[\^/\]\*|\.\*|\\\.){1,6}(\$)?",
            topic in "[ab./]{1,6}",
        ) {
            let Ok(meant) = regex::Regex::new(&format!("^(?:{text})$")) else { return Ok(()) };
            let body = json!({"result": "success", "authRules": {"pub": [text]}}).to_string();
            let attempt = attempt("c1");
            let Ok(Verdict::Accept(identity)) = verdict(Time(0), "http", &attempt, body.as_bytes())
            else {
                return Ok(());
            };
            let is_filter = text.split('/').any(|level| level == "+");
            let may = identity.own.unwrap().may_publish(&topic, QoS::AtMostOnce, false);
            proptest::prop_assert!(!may || is_filter || meant.is_match(&topic), "{text} {topic}");
        }
    }

    #[test]
    fn limits_come_with_the_answer() {
        let body = r#"{"result": "accept", "limits": {"publish_rate_in": "10:1,300:60", "subscriptions_max": 3}}"#;
        let Ok(Verdict::Accept(identity)) = read(body) else { panic!("not accepted") };
        let limits = identity.limits.unwrap();
        assert_eq!(
            (limits.publishes_in.to_string(), limits.subscriptions_max),
            ("10:1,300:60".into(), Some(3))
        );
        assert!(limits.bytes_out.is_unlimited());
    }

    #[test]
    fn an_answer_that_repeats_the_password_does_not_bring_it_into_the_log() {
        let problem = read(r#"{"result": "geheim", "geheim": 1}"#).unwrap_err();
        assert!(!problem.contains("geheim"), "{problem}");
        let problem = read(r#"{"result": "accept", "publish": ["geheim/#/x"]}"#).unwrap_err();
        assert!(!problem.contains("geheim"), "{problem}");
        let password = Some(crate::Secret::new("geheim"));
        let attempt = Attempt { password, ..attempt("c1") };
        let body = br#"{"result": "skip", "why": "no geheim here"}"#;
        let why = "the server does not know it".into();
        assert_eq!(verdict(Time(0), "http", &attempt, body), Ok(Verdict::Skip { why }));
    }
}
