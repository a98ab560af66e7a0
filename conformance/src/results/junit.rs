//! JUnit XML, which build servers read.

use std::fmt::Write as _;

use super::{Results, Verdict, text};
use crate::suite;

/// The run as JUnit XML: one test suite for each version.
pub fn junit(results: &Results<'_>) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let mut versions: Vec<_> = results.run.played.iter().map(|played| played.version).collect();
    versions.sort_unstable();
    versions.dedup();
    for version in versions {
        let counts = results.counts(|played| played.version == version);
        let tests = results.run.played.iter().filter(|played| played.version == version);
        let time: f64 = tests.clone().map(|played| played.time.as_secs_f64()).sum();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" \
             time=\"{time:.3}\">",
            escaped(&format!("{} {}", results.broker, suite::version_name(version))),
            tests.count(),
            counts.failed + counts.mended,
            counts.not_played,
            counts.skipped + counts.known,
        );
        results
            .all()
            .filter(|(played, _)| played.version == version)
            .for_each(|(played, verdict)| out += &test_case(results, played, verdict));
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

fn test_case(
    results: &Results<'_>,
    played: &crate::run::Played<'_>,
    verdict: Verdict<'_>,
) -> String {
    let name = played.file.name();
    let (folder, name) = name.rsplit_once('/').unwrap_or(("", &name));
    let class = format!("{}.{folder}", suite::version_name(played.version)).replace('/', ".");
    let mut out = format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
        escaped(&class),
        escaped(name),
        played.time.as_secs_f64()
    );
    let element = match verdict {
        Verdict::Passed => {
            out += "/>\n";
            return out;
        }
        Verdict::Failed | Verdict::Mended(_) => "failure",
        Verdict::Known(_) | Verdict::Skipped => "skipped",
        Verdict::NotPlayed => "error",
    };
    let message = match verdict {
        Verdict::Known(deviation) => format!("known: {}", deviation.does),
        Verdict::Skipped => "a live broker cannot be asked".to_owned(),
        Verdict::NotPlayed => {
            format!("the run was stopped {}", results.run.stopped.as_deref().unwrap_or_default())
        }
        _ => match played.outcome.as_ref().and_then(|outcome| outcome.failure.as_ref()) {
            Some(failure) => failure.to_string().lines().take(2).collect::<Vec<_>>().join(" "),
            None => verdict.name().to_owned(),
        },
    };
    let _ = write!(out, ">\n      <{element} message=\"{}\"", escaped(&message));
    if element == "failure" {
        let text = text::progress(played, verdict, results.requirements, true);
        let _ = writeln!(out, ">{}</{element}>", escaped(&text));
    } else {
        out += "/>\n";
    }
    out + "    </testcase>\n"
}

/// A text as XML holds it. What XML cannot hold at all becomes a mark in its place.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            '\t' => out += "&#9;",
            '\r' => out += "&#13;",
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
