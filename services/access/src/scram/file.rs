//! Credentials in a file: `user:SCRAM-SHA-256$rounds$salt$stored key$server key`, one a line; the last three in
//! Base64. A user may have a line for each hash.

use std::{collections::HashMap, fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::hash::Digest;
use crate::password::{EditError, edit_lines};

/// Rounds that are written. More of them cost the client, once for each login.
const ROUNDS_WRITTEN: u32 = 15_000;
/// The fewest that RFC 7677 allows.
const ROUNDS_MIN: u32 = 4_096;
const ROUNDS_MAX: u32 = 10_000_000;
const SALT_BYTES: usize = 16;

/// What the server knows of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(super) digest: Digest,
    pub(super) rounds: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Vec<u8>,
    pub(super) server_key: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Credentials {
    pub(super) fn new(digest: Digest, password: &str, salt: &[u8], rounds: u32) -> Self {
        let salted = digest.salted_password(prepared(password).as_bytes(), salt, rounds);
        let stored_key = digest.hash(&digest.hmac(&salted, b"Client Key"));
        let server_key = digest.hmac(&salted, b"Server Key");
        Self { digest, rounds, salt: salt.to_vec(), stored_key, server_key }
    }

    /// For a user who does not exist: the same each time, so that it cannot be told from one who does.
    pub(super) fn made_up(digest: Digest, pepper: &[u8], user: &str) -> Self {
        let mut salt = digest.hmac(pepper, user.as_bytes());
        let stored_key = digest.hmac(pepper, &salt);
        let server_key = digest.hmac(pepper, &stored_key);
        salt.truncate(SALT_BYTES);
        Self { digest, rounds: ROUNDS_WRITTEN, salt, stored_key, server_key }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "write SCRAM-SHA-256$rounds$salt$key$key or SCRAM-SHA-512$…";
        let parts: Vec<&str> = text.split('$').collect();
        let [method, rounds, salt, stored_key, server_key] = *parts else { return Err(FORM) };
        let digest = Digest::of_method(method).ok_or(FORM)?;
        let rounds =
            rounds.parse().ok().filter(|rounds| (ROUNDS_MIN..=ROUNDS_MAX).contains(rounds));
        let rounds = rounds.ok_or("its rounds must be 4096 to 10000000")?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| "its salt or keys are no Base64");
        let (salt, stored_key, server_key) =
            (decode(salt)?, decode(stored_key)?, decode(server_key)?);
        let is_key = |key: &[u8]| key.len() == digest.bytes();
        if salt.len() < 8 || !is_key(&stored_key) || !is_key(&server_key) {
            return Err("its salt or keys have another length");
        }
        Ok(Self { digest, rounds, salt, stored_key, server_key })
    }

    fn text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt, &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        format!("{}${}${salt}${stored}${server}", self.digest.method(), self.rounds)
    }
}

/// Passwords that look alike are the same (SASLprep); what has no such form stays as it is.
pub(super) fn prepared(password: &str) -> String {
    stringprep::saslprep(password).map_or_else(|_| password.to_owned(), |text| text.into_owned())
}

/// The users of a file.
#[derive(Clone, Debug, Default)]
pub struct ScramFile {
    users: HashMap<(Box<str>, Digest), Credentials>,
}

impl ScramFile {
    /// Reads the text of a file; `file` is its name for messages.
    ///
    /// # Errors
    /// Every line that is wrong. A file with such a line has no users at all.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let (mut users, mut problems) = (HashMap::new(), Vec::new());
        for (line, number) in text.lines().zip(1..) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, rest) = line.trim_end().split_once(':').unwrap_or(("", ""));
            if user.is_empty() {
                problems
                    .push(format!("{file}:{number}: there is no user; write user:SCRAM-SHA-256$…"));
                continue;
            }
            match Credentials::parse(rest) {
                Ok(found) if users.contains_key(&(user.into(), found.digest)) => {
                    problems.push(format!("{file}:{number}: user {user:?} stands here twice"));
                }
                Ok(found) => drop(users.insert((user.into(), found.digest), found)),
                Err(why) => problems.push(format!("{file}:{number}: user {user:?}: {why}")),
            }
        }
        if problems.is_empty() { Ok(Self { users }) } else { Err(problems) }
    }

    pub(super) fn find(&self, user: &str, digest: Digest) -> Option<Credentials> {
        self.users.get(&(user.into(), digest)).cloned()
    }
}

/// Adds a user's credentials for both hashes, or replaces them. Whether the user was there before.
///
/// # Errors
/// The name cannot be used, the system has no random numbers, or the file cannot be written.
pub fn add_scram_user(path: &Path, user: &str, password: &str) -> Result<bool, EditError> {
    let mut lines = Vec::new();
    for digest in Digest::ALL {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)
            .map_err(|error| EditError::Hash(format!("no random numbers: {error}")))?;
        let credentials = Credentials::new(digest, password, &salt, ROUNDS_WRITTEN);
        lines.push(format!("{user}:{}", credentials.text()));
    }
    edit_lines(path, user, &lines)
}

/// Removes a user's credentials. Whether they were there.
///
/// # Errors
/// The file cannot be read or written.
pub fn remove_scram_user(path: &Path, user: &str) -> Result<bool, EditError> {
    edit_lines(path, user, &[])
}
