//! What `run` and `sim` print.

use conformance::{run::Played, suite};

/// A failure, and with `trace` a success.
pub(super) fn played(played: &Played<'_>, trace: bool) {
    let Some(outcome) = &played.outcome else { return };
    let mut text = String::new();
    let version = suite::version_name(played.version);
    let path = played.file.path.display();
    match &outcome.failure {
        Some(failure) => {
            text += &format!("FAILED {path} ({version})\n  {path}:{failure}\n");
        }
        None if trace => text += &format!("passed {path} ({version})\n"),
        None => return,
    }
    for line in outcome.trace.lines() {
        text += &format!("    | {line}\n");
    }
    print!("{text}");
}

/// Prints the last line; whether nothing failed.
pub(super) fn sum(played: &[Played<'_>]) -> bool {
    let count = |fits: fn(&Played<'_>) -> bool| played.iter().filter(|p| fits(p)).count();
    let skipped = count(|played| played.outcome.is_none());
    let failed = count(|played| played.outcome.as_ref().is_some_and(|o| o.failure.is_some()));
    let passed = played.len() - skipped - failed;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}
