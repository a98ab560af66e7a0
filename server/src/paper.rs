//! What goes along with the program: completions of shells, manual pages.

use std::{fs, io, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Arguments;

/// Writes what a shell completes.
///
/// # Errors
/// Standard output takes nothing.
pub(crate) fn completions(shell: Shell) -> Result<(), String> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "cairnmq", &mut text);
    match io::Write::write_all(&mut io::stdout().lock(), &text) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write: {error}"))
        }
        _ => Ok(()),
    }
}

/// Writes a manual page for the program and for each of its commands.
///
/// # Errors
/// The folder takes nothing.
pub(crate) fn manual(folder: &Path) -> Result<(), String> {
    let write = || {
        fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Arguments::command(), folder)
    };
    write().map_err(|error| format!("cannot write into {}: {error}", folder.display()))
}
