//! For a page that is kept. It holds no times and no addresses, so that two runs give one page.

use std::fmt::Write as _;

use codec::ProtocolVersion;

use super::{Counts, Results, Verdict, text, title};
use crate::{deviations::Deviation, requirements::Requirement, suite};

/// The run as a page in Markdown.
pub fn markdown(results: &Results<'_>) -> String {
    let mut out = format!("# Conformance of {}\n\n", results.broker);
    out += &counts(results);
    if let Some(why) = &results.run.stopped {
        let _ = writeln!(out, "\n**The run was stopped** {why}.");
    }
    if let Some(deviations) = results.deviations {
        let (options, deviations): (Vec<_>, Vec<_>) =
            deviations.all.iter().partition(|deviation| deviation.allowed);
        out += &section(results, "Deviations", &deviations);
        out += &section(results, "What the standard leaves to the broker", &options);
    }
    out += &failures(results);
    out
}

fn counts(results: &Results<'_>) -> String {
    let mut out = String::from(
        "Scenarios of `spec-tests`, each counted once for every version that it is played for. Those that\n\
         need a configuration or a crash of the broker are skipped: a live broker cannot be asked for them.\n\n\
         | version | played | passed | failed as listed below | failed otherwise | skipped |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    let versions = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];
    for version in versions {
        let counts = results.counts(|played| played.version == version);
        line(&mut out, suite::version_name(version), counts);
    }
    line(&mut out, "all", results.counts(|_| true));
    out
}

fn line(out: &mut String, name: &str, counts: Counts) {
    let Counts { passed, failed, known, mended, skipped, .. } = counts;
    if counts == Counts::default() {
        return;
    }
    let passed = passed + mended;
    let played = passed + failed + known;
    let _ = writeln!(out, "| {name} | {played} | {passed} | {known} | {failed} | {skipped} |");
}

fn section(results: &Results<'_>, heading: &str, deviations: &[&Deviation]) -> String {
    let mut out = String::new();
    if deviations.is_empty() {
        return out;
    }
    let _ = writeln!(out, "\n## {heading}");
    for (index, deviation) in deviations.iter().enumerate() {
        let _ = writeln!(out, "\n{}. {}", index + 1, deviation.does);
        if deviation.sometimes {
            let _ = writeln!(out, "   This shows in some runs only.");
        }
        out.push('\n');
        for requirement in deviation.requirements(results.requirements) {
            let _ = writeln!(out, "   - {}", statement(requirement));
        }
        let scenarios: Vec<_> =
            deviation.scenarios.iter().map(|scenario| format!("`{scenario}`")).collect();
        let _ = writeln!(out, "\n   Shown by {}.", scenarios.join(", "));
    }
    out
}

fn statement(requirement: &Requirement) -> String {
    format!(
        "**{}** ({} section {}, {}): {}",
        requirement.id,
        requirement.table.standard(),
        requirement.section,
        requirement.level,
        escaped(&requirement.summary)
    )
}

fn failures(results: &Results<'_>) -> String {
    let mut out = String::new();
    let bad = results.all().filter(|(_, verdict)| {
        matches!(verdict, Verdict::Failed | Verdict::Mended(_) | Verdict::NotPlayed)
    });
    for (played, verdict) in bad {
        if out.is_empty() {
            out += "\n## To be looked at\n";
        }
        let _ = writeln!(out, "\n### {}: {}\n", title(played), verdict.name());
        for requirement in results.requirements.claimed(&played.file.scenario, played.version) {
            let _ = writeln!(out, "- {}", statement(requirement));
        }
        let Some(outcome) = &played.outcome else { continue };
        let _ = writeln!(out, "\n```text");
        if let Some(failure) = &outcome.failure {
            let _ = writeln!(out, "{failure}");
            out += &text::table(&failure.diff, "");
        }
        for line in outcome.trace.lines() {
            let _ = writeln!(out, "| {line}");
        }
        out += "```\n";
    }
    out
}

/// A text in which `<`, `*` and `_` are only themselves.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "\\`*_<>|[]".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
