//! The table of statements as JUnit XML, which build servers read: one test case each.

use std::fmt::Write as _;

use super::{Coverage, Row, Verdict, Verdicts};
use crate::{requirements::Table, results::junit::escaped};

/// All statements; one test suite for each table.
pub fn junit(coverage: &Coverage<'_>, verdicts: &Verdicts) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for table in [Table::V5, Table::V3] {
        let rows = coverage.rows.iter().zip(verdicts.iter().copied());
        let rows: Vec<_> = rows.filter(|(row, _)| row.requirement.table == table).collect();
        let count = |fits: fn(Verdict) -> bool| rows.iter().filter(|(_, v)| fits(*v)).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"MQTT {}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            table.standard(),
            rows.len(),
            count(fails),
            count(is_skipped),
        );
        rows.iter().for_each(|(row, verdict)| out += &test_case(row, *verdict));
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

fn fails(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Failed | Verdict::Open)
}

fn is_skipped(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Client | Verdict::Exception | Verdict::NotPlayed)
}

fn test_case(row: &Row<'_>, verdict: Verdict) -> String {
    let requirement = row.requirement;
    let class = format!("{}.{}", requirement.table.name(), requirement.section);
    let head = format!(
        "    <testcase classname=\"{}\" name=\"{}\"",
        escaped(&class),
        escaped(&requirement.id)
    );
    let element = match (fails(verdict), is_skipped(verdict)) {
        (true, _) => "failure",
        (_, true) => "skipped",
        _ => return head + "/>\n",
    };
    let why = row.no_scenario.unwrap_or(&requirement.summary);
    let message = escaped(&format!("{}: {why}", verdict.name()));
    format!("{head}><{element} message=\"{message}\"/></testcase>\n")
}
