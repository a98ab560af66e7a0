//! For people at a terminal.

use std::fmt::Write as _;

use super::{Counts, Results, Verdict, title};
use crate::{
    play::Row,
    requirements::{Requirement, Requirements},
    run::Played,
};

/// Lines of a trace that are shown of a failure, the last ones.
const TRACE_LINES: usize = 12;

/// What is shown of a scenario as soon as it ends: nothing if all is well, unless `trace`.
pub fn progress(
    played: &Played<'_>,
    verdict: Verdict<'_>,
    requirements: &Requirements,
    trace: bool,
) -> String {
    let mut out = String::new();
    let Some(outcome) = &played.outcome else { return out };
    let name = match verdict {
        Verdict::Failed => "FAILED",
        Verdict::Known(_) => "known",
        Verdict::Mended(_) => "MENDED",
        _ => "passed",
    };
    if !trace && matches!(verdict, Verdict::Passed | Verdict::Known(_)) {
        return out;
    }
    let _ = writeln!(out, "{name} {}", title(played));
    if let Verdict::Mended(deviation) = verdict {
        let _ = writeln!(out, "  It is listed as a deviation, but passed: {}", deviation.does);
    }
    if let Some(failure) = &outcome.failure {
        if let Verdict::Known(deviation) = verdict {
            let _ = writeln!(out, "  {}", deviation.does);
        }
        out += &explained(played, requirements);
        let path = played.file.path.display();
        let _ = writeln!(
            out,
            "  {path}:{}:{}: {}",
            failure.at.line, failure.at.column, failure.statement
        );
        out += &table(&failure.diff, "    ");
        if failure.diff.is_empty() {
            failure.problems.iter().for_each(|problem| {
                let _ = writeln!(out, "    {problem}");
            });
        } else if let [.., last] = failure.problems.as_slice()
            && !last.starts_with("received: ")
        {
            let _ = writeln!(out, "    {last}");
        }
    }
    let lines: Vec<_> = outcome.trace.lines().collect();
    let hidden = if trace { 0 } else { lines.len().saturating_sub(TRACE_LINES) };
    if hidden > 0 {
        let _ = writeln!(out, "    | … {hidden} lines before");
    }
    for line in lines.iter().skip(hidden) {
        let _ = writeln!(out, "    | {line}");
    }
    out
}

/// The statements that the scenario claims, with what they say.
fn explained(played: &Played<'_>, requirements: &Requirements) -> String {
    let claimed = requirements.claimed(&played.file.scenario, played.version);
    let line = |requirement: &&Requirement| {
        format!(
            "  [{}] of {}, {}: {}\n",
            requirement.id,
            requirement.table.standard(),
            requirement.section,
            requirement.summary
        )
    };
    claimed.iter().map(line).collect()
}

/// The fields of a failure in columns.
pub(super) fn table(rows: &[Row], indent: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = |text: fn(&Row) -> &str, head: &str| {
        rows.iter().map(|row| text(row).chars().count()).chain([head.len()]).max().unwrap_or(0)
    };
    let field = width(|row| &row.field, "field");
    let expected = width(|row| &row.expected, "expected");
    let mut out = format!("{indent}  {:field$}  {:expected$}  received\n", "field", "expected");
    for row in rows {
        let mark = if row.differs { "≠" } else { " " };
        let line = format!(
            "{indent}{mark} {:field$}  {:expected$}  {}",
            row.field, row.expected, row.received
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Everything that [`progress`] says, then how many there are of each.
pub fn text(results: &Results<'_>, trace: bool) -> String {
    let mut out = String::new();
    for (played, verdict) in results.all() {
        out += &progress(played, verdict, results.requirements, trace);
    }
    out + &sum(results)
}

/// The last line, and why the run was stopped if it was.
pub fn sum(results: &Results<'_>) -> String {
    let Counts { passed, failed, known, mended, skipped, not_played } = results.counts(|_| true);
    let mut out = format!("{passed} passed, {failed} failed, {skipped} skipped");
    for (count, what) in
        [(known, "failed as listed"), (mended, "passed though listed"), (not_played, "not played")]
    {
        if count > 0 {
            let _ = write!(out, ", {count} {what}");
        }
    }
    out.push('\n');
    if let Some(why) = &results.run.stopped {
        let _ = writeln!(out, "STOPPED {why}");
    }
    out
}
