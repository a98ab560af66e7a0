//! Users and hashed passwords in a file of mosquitto's form: `user:hash`, one a line.

mod edit;
mod hash;

use std::collections::HashMap;

use codec::ReasonCode;
use session_core::{Subject, Time};

use crate::{Attempt, Identity, Provider, Verdict, Work};
use hash::Hash;

pub use edit::{EditError, add_user, remove_user};
pub(crate) use edit::{edit_lines, replace_file};

/// The users of a password file.
#[derive(Clone, Debug)]
pub struct PasswordFile {
    users: HashMap<Box<str>, Hash>,
}

impl PasswordFile {
    /// Reads the text of a file; `file` is its name for messages. Empty lines and lines that begin with `#` say
    /// nothing.
    ///
    /// # Errors
    /// Every line that is wrong. Not one of them is a user, and a file with such a line has no users at all.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let mut users = HashMap::new();
        let mut problems = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some((user, hash))) => {
                    if users.insert(user.into(), hash).is_some() {
                        problems.push(format!("{file}:{number}: user {user:?} stands here twice"));
                    }
                }
                Err(problem) => problems.push(format!("{file}:{number}: {problem}")),
            }
        }
        if problems.is_empty() { Ok(Self { users }) } else { Err(problems) }
    }

    /// Whether this is the user's password. It takes as long for a user who does not exist.
    pub fn verify(&self, user: &str, password: &[u8]) -> Verification {
        match self.users.get(user) {
            Some(hash) if hash.is_of(password) => Verification::Right,
            Some(_) => Verification::Wrong,
            None => {
                let _ = Hash::of_nobody().is_of(password);
                Verification::UnknownUser
            }
        }
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// What a file says of a user and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It is the user's password.
    Right,
    /// It is not.
    Wrong,
    /// There is no such user.
    UnknownUser,
}

/// The user and hash of a line; `None` if it says nothing.
fn parse_line(line: &str) -> Result<Option<(&str, Hash)>, String> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (user, hash) = line.trim_end().split_once(':').ok_or("there is no `:`; write user:hash")?;
    if user.is_empty() {
        return Err("the user name is empty; write user:hash".to_owned());
    }
    let hash = Hash::parse(hash)
        .map_err(|problem| format!("the hash of user {user:?} cannot be used: {problem}"))?;
    Ok(Some((user, hash)))
}

/// Lets users of a password file in.
#[derive(Clone, Debug)]
pub struct PasswordProvider {
    name: Box<str>,
    file: PasswordFile,
}

impl PasswordProvider {
    /// A provider of this name.
    pub fn new(name: &str, file: PasswordFile) -> Self {
        Self { name: name.into(), file }
    }
}

impl Provider for PasswordProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn work(&self) -> Work {
        Work::Compute
    }

    fn keeps(&self, subject: &Subject) -> bool {
        subject.user.as_ref().is_some_and(|user| self.file.users.contains_key(user))
    }

    fn begin(&self, _now: Time, attempt: &Attempt) -> Verdict {
        let (Some(user), Some(password)) = (&attempt.user_name, &attempt.password) else {
            return Verdict::Skip { why: "no user name and password".into() };
        };
        match self.file.verify(user, password.reveal()) {
            Verification::Right => Verdict::Accept(Box::new(Identity {
                user: Some(user.clone()),
                ..Identity::default()
            })),
            Verification::Wrong => Verdict::Refuse {
                reason: ReasonCode::BadUserNameOrPassword,
                why: "wrong password".into(),
            },
            Verification::UnknownUser => Verdict::Skip { why: "unknown user".into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Secret, attempt::tests::attempt};

    fn file(users: &[(&str, &str)]) -> PasswordFile {
        let lines = users.iter().map(|(user, password)| {
            format!("{user}:{}\n", Hash::new(password.as_bytes()).unwrap().text())
        });
        PasswordFile::parse("passwords", &lines.collect::<String>()).expect("valid lines")
    }

    fn verdict(user: Option<&str>, password: Option<&str>) -> Verdict {
        let provider = PasswordProvider::new("file", file(&[("alice", "secret"), ("bob", "x")]));
        let attempt = Attempt {
            user_name: user.map(Into::into),
            password: password.map(|password| Secret::new(password.as_bytes().to_vec())),
            ..attempt("c")
        };
        provider.begin(Time(0), &attempt)
    }

    #[test]
    fn a_user_with_its_password_is_let_in() {
        let Verdict::Accept(identity) = verdict(Some("alice"), Some("secret")) else {
            panic!("refused")
        };
        assert_eq!(identity.user.as_deref(), Some("alice"));
    }

    #[test]
    fn a_wrong_password_ends_the_chain_and_an_unknown_user_does_not() {
        for wrong in ["", "Secret", "secret\0"] {
            let verdict = verdict(Some("alice"), Some(wrong));
            assert!(matches!(verdict, Verdict::Refuse { .. }), "{wrong:?}");
        }
        for (user, password) in [
            (Some("carol"), Some("secret")),
            (Some(""), Some("secret")),
            (Some("alice"), None),
            (None, Some("secret")),
            (None, None),
        ] {
            assert!(
                matches!(verdict(user, password), Verdict::Skip { .. }),
                "{user:?} {password:?}"
            );
        }
    }

    /// CVE-2018-12551: malformed and blank lines were users without a password.
    #[test]
    fn a_malformed_or_blank_line_is_an_error_and_never_a_user() {
        let good = Hash::new(b"x").unwrap().text();
        let text =
            format!("\n# who\n  \nalice:{good}\nbob\n:{good}\ncarol:\ndave:plain\nalice:{good}\n");
        let problems = PasswordFile::parse("p", &text).expect_err("wrong lines");
        assert_eq!(
            problems,
            [
                "p:5: there is no `:`; write user:hash",
                "p:6: the user name is empty; write user:hash",
                "p:7: the hash of user \"carol\" cannot be used: write $7$…, $6$… or $argon2id$v=19$…",
                "p:8: the hash of user \"dave\" cannot be used: write $7$…, $6$… or $argon2id$v=19$…",
                "p:9: user \"alice\" stands here twice",
            ]
        );
        assert!(PasswordFile::parse("p", "").unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_is_a_mistake_of_the_parser(text in ".{0,200}") {
            let _ = PasswordFile::parse("p", &text);
            let _ = Hash::parse(&text);
        }
    }
}
