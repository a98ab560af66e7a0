//! The table of statements for people to read.

use std::fmt::Write as _;

use super::{Coverage, Row, Verdict, Verdicts};
use crate::requirements::Table;

/// All statements by table and section, with a summary first.
pub fn markdown(coverage: &Coverage<'_>, verdicts: &Verdicts) -> String {
    let rows: Vec<_> = coverage.rows.iter().zip(verdicts.iter().copied()).collect();
    let of = |table| rows.iter().filter(move |(row, _)| row.requirement.table == table);
    let mut text = format!("{INTRODUCTION}{}", summary(&rows));
    for table in [Table::V5, Table::V3] {
        let _ = writeln!(text, "\n## {}", title(table));
        let mut section = "";
        for (row, verdict) in of(table) {
            if row.requirement.section != section {
                section = &row.requirement.section;
                let _ = write!(text, "\n### {section}\n\n{HEAD}");
            }
            text += &line(row, *verdict);
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Conformance

What the standards demand of a server, statement by statement: the scenarios that prove it, and the code that
keeps it. The summaries are ours. A scenario that is named here passes in memory on 1, 2 and 5 shards; those
that a live broker can be asked also pass over TCP. This file is written by

```
cargo run -p conformance -- report --format markdown --output docs/conformance.md
```

and the tests fail if it is not fresh, or if a statement is neither covered nor explained. Any broker can be
measured the same way: see [README.md](../README.md#checking-any-broker).

";

fn title(table: Table) -> String {
    format!("MQTT {}", table.standard())
}

const HEAD: &str = "| statement | level | says | verdict | scenarios | kept in |\n\
                    |---|---|---|---|---|---|\n";

fn summary(rows: &[(&Row<'_>, Verdict)]) -> String {
    let columns = [
        Verdict::Passed,
        Verdict::Failed,
        Verdict::NotPlayed,
        Verdict::Exception,
        Verdict::Open,
        Verdict::Client,
    ];
    let mut text = "| standard | statements |".to_owned();
    columns.iter().for_each(|verdict| text += &format!(" {} |", verdict.name()));
    text += "\n|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for table in [Table::V5, Table::V3] {
        let of: Vec<_> = rows.iter().filter(|(row, _)| row.requirement.table == table).collect();
        let _ = write!(text, "| {} | {} |", title(table), of.len());
        for column in columns {
            let _ = write!(text, " {} |", of.iter().filter(|(_, found)| *found == column).count());
        }
        text.push('\n');
    }
    text
}

fn line(row: &Row<'_>, verdict: Verdict) -> String {
    let requirement = row.requirement;
    let mut scenarios: Vec<String> = row.scenarios.iter().map(|file| file.name()).collect();
    scenarios.extend(row.no_scenario.map(|reason| format!("*{reason}*")));
    let mut code: Vec<String> = row.code.iter().map(|place| format!("`{place}`")).collect();
    code.extend(row.no_code.map(|reason| format!("*{reason}*")));
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        requirement.id,
        requirement.level,
        cell(&requirement.summary),
        verdict.name(),
        cell(&scenarios.join("<br>")),
        cell(&code.join("<br>")),
    )
}

/// Text that does not end its cell, nor is read as a tag. Breaks between entries stay.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace("&lt;br>", "<br>")
}
