//! `cairnmq passwd`: users of a password file.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use access::{PasswordFile, Verification, add_scram_user, add_user, remove_user};
use clap::Subcommand;

/// What to do with a password file. Passwords are asked for, or read from standard input if that is no terminal: one
/// line.
#[derive(Debug, Subcommand)]
pub(crate) enum PasswdCommand {
    /// Adds a user, or gives it another password; makes the file if it is not there.
    Add {
        /// The password file.
        file: PathBuf,
        /// The user.
        user: String,
        /// It is a file of SCRAM credentials.
        #[arg(long)]
        scram: bool,
    },
    /// Removes a user; status 1 if there is none.
    Remove {
        /// The password file, or one of SCRAM credentials.
        file: PathBuf,
        /// The user.
        user: String,
    },
    /// Says whether a password is the user's; status 1 if not.
    Verify {
        /// The password file.
        file: PathBuf,
        /// The user.
        user: String,
    },
}

/// Carries a command out. Returns whether it found what it looked for.
///
/// # Errors
/// The file cannot be used, in words.
pub(crate) fn run(command: &PasswdCommand) -> Result<bool, String> {
    match command {
        PasswdCommand::Add { file, user, scram } => {
            let password = ask(&format!("Password of {user}: "))?;
            if io::stdin().is_terminal() && ask("Once more: ")? != password {
                return Err("the passwords are not the same".to_owned());
            }
            if password.is_empty() {
                return Err("the password is empty".to_owned());
            }
            let was_there = match scram {
                true => add_scram_user(file, user, &password),
                false => add_user(file, user, password.as_bytes()),
            };
            let was_there = was_there.map_err(|error| error.to_string())?;
            say(match was_there {
                true => "the user has a new password",
                false => "the user was added",
            });
            Ok(true)
        }
        PasswdCommand::Remove { file, user } => {
            let found = remove_user(file, user).map_err(|error| error.to_string())?;
            say(if found { "the user was removed" } else { "there is no such user" });
            Ok(found)
        }
        PasswdCommand::Verify { file, user } => {
            let name = file.display().to_string();
            let text = fs::read_to_string(file);
            let text = text.map_err(|error| format!("cannot read {name}: {error}"))?;
            let users = PasswordFile::parse(&name, &text).map_err(|lines| lines.join("\n"))?;
            let password = ask(&format!("Password of {user}: "))?;
            let verified = users.verify(user, password.as_bytes());
            say(match verified {
                Verification::Right => "right",
                Verification::Wrong => "wrong",
                Verification::UnknownUser => "there is no such user",
            });
            Ok(verified == Verification::Right)
        }
    }
}

fn ask(prompt: &str) -> Result<String, String> {
    let read = match io::stdin().is_terminal() {
        true => rpassword::prompt_password(prompt),
        false => {
            let mut line = String::new();
            io::stdin().read_line(&mut line).map(|_| line.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    read.map_err(|error| format!("cannot read a password: {error}"))
}

fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
