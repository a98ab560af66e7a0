//! The table of statements as text: one for each, with what covers it below.

use std::fmt::Write as _;

use super::{Coverage, Row, Verdicts};

/// All statements.
pub fn text(coverage: &Coverage<'_>, verdicts: &Verdicts) -> String {
    let mut text = String::new();
    for (row, verdict) in coverage.rows.iter().zip(verdicts) {
        let (table, id) = (row.requirement.table.name(), &row.requirement.id);
        let (verdict, level) = (verdict.name(), &row.requirement.level);
        let _ = writeln!(text, "{table} {id} {verdict} ({level}): {}", row.requirement.summary);
        covers(row).into_iter().for_each(|line| {
            let _ = writeln!(text, "    {line}");
        });
    }
    text
}

fn covers(row: &Row<'_>) -> Vec<String> {
    if !row.requirement.binds.server() {
        return vec!["binds clients".to_owned()];
    }
    let mut lines: Vec<String> =
        row.code.iter().map(|place| format!("code      {place}")).collect();
    lines.extend(row.no_code.map(|reason| format!("no code   {reason}")));
    lines.extend(row.scenarios.iter().map(|file| format!("scenario  {}", file.name())));
    lines.extend(row.no_scenario.map(|reason| format!("no scenario  {reason}")));
    if !row.is_explained() {
        lines.push("NOT COVERED".to_owned());
    }
    lines
}
