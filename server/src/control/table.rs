//! Rows for people.

use serde_json::{Map, Value};

/// A table: a line with the names of the columns, then one for each row.
pub(super) fn table(rows: &[Map<String, Value>]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let names: Vec<String> = first.keys().map(|name| name.to_uppercase()).collect();
    let lines: Vec<Vec<String>> =
        rows.iter().map(|row| first.keys().map(|name| cell(row.get(name))).collect()).collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.chain([names[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut text = String::new();
    for line in std::iter::once(&names).chain(&lines) {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let whole = cells.collect::<Vec<_>>().join("  ");
        text.push_str(whole.trim_end());
        text.push('\n');
    }
    text
}

/// One row, a line for each column.
pub(super) fn list(row: &Map<String, Value>) -> String {
    let width = row.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    row.iter().map(|(name, value)| format!("{name:width$}  {}\n", cell(Some(value)))).collect()
}

/// What clients say of themselves may hold anything, line breaks too.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::Bool(true)) => "yes".into(),
        Some(Value::Bool(false)) => "no".into(),
        Some(Value::String(text)) if text.is_empty() => "\"\"".into(),
        Some(Value::String(text)) => {
            text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
        }
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| cell(Some(item))).collect();
            items.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be_and_nothing_breaks_a_line() {
        let rows = [
            json!({ "client": "a", "queued": 12, "slow": true }),
            json!({ "client": "long\nname", "queued": null, "slow": false }),
        ];
        let rows: Vec<_> = rows.iter().filter_map(|row| row.as_object().cloned()).collect();
        assert_eq!(
            table(&rows),
            "CLIENT      QUEUED  SLOW\na           12      yes\nlong\\nname  -       no\n"
        );
        assert_eq!(list(&rows[0]), "client  a\nqueued  12\nslow    yes\n");
        assert_eq!(table(&[]), "");
    }
}
