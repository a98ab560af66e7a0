//! Changes of a password file, line by line: what else stands in it stays as it is.

use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::hash::Hash;

/// Why a file cannot be changed.
#[derive(Debug)]
pub enum EditError {
    /// The user name cannot stand in a file.
    Name,
    /// The password cannot be hashed.
    Hash(String),
    /// The file cannot be read or written.
    File(PathBuf, io::Error),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str(
                "a user name has at least one character, no `:` and no control character, and does not begin with `#`",
            ),
            Self::Hash(why) => f.write_str(why),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for EditError {}

/// Adds a user, or gives it another password. Makes the file, readable by its owner only, if it is not there.
/// Whether the user was there before.
///
/// # Errors
/// The name cannot be used, or the file not be written.
pub fn add_user(path: &Path, user: &str, password: &[u8]) -> Result<bool, EditError> {
    if !is_name(user) {
        return Err(EditError::Name);
    }
    let line = format!("{user}:{}", Hash::new(password).map_err(EditError::Hash)?.text());
    edit_lines(path, user, &[line])
}

/// Puts lines in the place of a user's, or removes them. Whether it had any.
pub(crate) fn edit_lines(path: &Path, user: &str, lines: &[String]) -> Result<bool, EditError> {
    if !is_name(user) {
        return Err(EditError::Name);
    }
    let text = read(path)?;
    let (new, found) = with_lines(&text, user, lines);
    if new != text {
        write(path, &new)?;
    }
    Ok(found)
}

/// Removes a user. Whether it was there.
///
/// # Errors
/// The file cannot be read or written.
pub fn remove_user(path: &Path, user: &str) -> Result<bool, EditError> {
    edit_lines(path, user, &[])
}

fn is_name(user: &str) -> bool {
    !user.is_empty()
        && !user.starts_with('#')
        && !user.contains(|c: char| c == ':' || c.is_control())
}

/// The text with other lines in the place of the user's, at its end if it had none; whether it had any.
fn with_lines(text: &str, user: &str, lines: &[String]) -> (String, bool) {
    let mut out = String::with_capacity(text.len() + 128);
    let mut found = false;
    let put = |out: &mut String| lines.iter().for_each(|line| out.extend([line, "\n"]));
    for old in text.lines() {
        let is_users = old.split_once(':').is_some_and(|(name, _)| name == user);
        if !is_users {
            out.extend([old, "\n"]);
        } else if !std::mem::replace(&mut found, true) {
            put(&mut out);
        }
    }
    if !found {
        put(&mut out);
    }
    (out, found)
}

fn read(path: &Path) -> Result<String, EditError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| EditError::File(path.to_owned(), error)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), EditError> {
    replace_file(path, text).map_err(|error| EditError::File(path.to_owned(), error))
}

/// Replaces the file in one step: whoever reads it meanwhile sees the old one or the new one. A new file can be read by
/// its owner only.
pub(crate) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    // A link stays one: the file that it names is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::password::{PasswordFile, Verification};

    #[test]
    fn users_come_and_go_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        assert!(!add_user(&path, "alice", b"one").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = format!("# people\n{}\n", fs::read_to_string(&path).unwrap());
        fs::write(&path, text).unwrap();
        assert!(!add_user(&path, "bob", b"two").unwrap());
        assert!(add_user(&path, "alice", b"three").unwrap());

        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# people\nalice:$argon2id$") && text.contains("\n\nbob:"),
            "{text}"
        );
        let file = PasswordFile::parse("p", &text).unwrap();
        assert_eq!(file.verify("alice", b"three"), Verification::Right);
        assert_eq!(file.verify("alice", b"one"), Verification::Wrong);
        assert_eq!(file.verify("bob", b"two"), Verification::Right);

        assert!(remove_user(&path, "alice").unwrap() && !remove_user(&path, "alice").unwrap());
        let file = PasswordFile::parse("p", &fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((file.len(), file.verify("alice", b"three")), (1, Verification::UnknownUser));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn names_that_would_be_something_else_in_a_file_are_refused() {
        for name in ["", "a:b", "a\nb", "#a", "a\0"] {
            assert!(matches!(add_user(Path::new("/nowhere"), name, b"x"), Err(EditError::Name)));
        }
    }
}
