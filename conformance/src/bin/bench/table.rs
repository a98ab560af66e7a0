//! Figures side by side, as Markdown: a line for what was measured, a column for each contender.

/// One field of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    Value(f64),
    /// A figure and what part of a processor that was.
    Share(f64, f64),
    /// It does not have that.
    Unsupported,
    /// It did something wrong, so that a number would say nothing.
    Failed,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Better {
    Lower,
    Higher,
    /// Neither: no ratios are shown.
    Neither,
}

/// A table of figures of all contenders. Behind each figure stands how many times that of the
/// first it is, and at the end how the first does beside the best of the others.
pub(crate) struct Comparison {
    /// Stands above the table.
    title: String,
    /// Above the columns that say what was measured.
    heads: Vec<String>,
    contenders: Vec<Column>,
    rows: Vec<Row>,
}

/// A contender.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) is_floor: bool,
}

struct Row {
    labels: Vec<String>,
    better: Better,
    cells: Vec<Cell>,
}

impl Comparison {
    pub(crate) fn new(title: &str, heads: &[&str], contenders: Vec<Column>) -> Comparison {
        let heads = heads.iter().map(|&head| head.to_owned()).collect();
        Comparison { title: title.to_owned(), heads, contenders, rows: Vec::new() }
    }

    /// Adds a line; cells stand in the order of contenders.
    pub(crate) fn row(&mut self, labels: &[&str], better: Better, cells: Vec<Cell>) {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.rows.push(Row { labels, better, cells });
    }

    /// Title and table.
    pub(crate) fn render(&self) -> String {
        let has_peers = self.contenders.iter().skip(1).any(|column| !column.is_floor);
        let has_peers = has_peers && self.rows.iter().any(|row| row.better != Better::Neither);
        let mut heads = self.heads.clone();
        heads.extend(self.contenders.iter().map(|column| column.name.clone()));
        if has_peers {
            heads.push("best other".to_owned());
        }
        let mut lines = vec![self.title.clone(), String::new(), line(&heads)];
        let marks = (0..heads.len()).map(|at| if at == 0 { "---" } else { "--:" });
        lines.push(format!("|{}|", marks.collect::<Vec<_>>().join("|")));
        for row in &self.rows {
            let mut fields = row.labels.clone();
            let first = row.cells.first().copied();
            for (at, &cell) in row.cells.iter().enumerate() {
                let other = first.filter(|_| at > 0 && row.better != Better::Neither);
                fields.push(field(cell, other));
            }
            if has_peers {
                fields.push(self.best_other(row));
            }
            lines.push(line(&fields));
        }
        lines.join("\n") + "\n"
    }

    /// How many times better the first contender is than the best of the others, and which that is. The
    /// floor is no broker.
    fn best_other(&self, row: &Row) -> String {
        let mut best: Option<(f64, &str)> = None;
        for (column, cell) in self.contenders.iter().zip(&row.cells).skip(1) {
            if let (false, Cell::Value(value)) = (column.is_floor, *cell) {
                let is_better = best.is_none_or(|(other, _)| match row.better {
                    Better::Lower => value < other,
                    Better::Higher => value > other,
                    Better::Neither => false,
                });
                if is_better {
                    best = Some((value, &column.name));
                }
            }
        }
        match (row.cells.first(), best) {
            (Some(&Cell::Value(first)), Some((value, name))) if row.better != Better::Neither => {
                let times = if row.better == Better::Lower { value / first } else { first / value };
                format!("{} {name}", ratio(times))
            }
            _ => "-".to_owned(),
        }
    }
}

fn line(fields: &[String]) -> String {
    format!("| {} |", fields.join(" | "))
}

/// A figure and, in brackets, how many times the first one it is.
fn field(cell: Cell, first: Option<Cell>) -> String {
    match (cell, first) {
        (Cell::Unsupported, _) => "-".to_owned(),
        (Cell::Failed, _) => "failed".to_owned(),
        (Cell::Value(value), Some(Cell::Value(first))) if first > 0.0 => {
            format!("{} ({})", number(value), ratio(value / first))
        }
        (Cell::Value(value), _) => number(value),
        (Cell::Share(value, share), _) => format!("{} ({:.0} %)", number(value), share * 100.0),
    }
}

/// With three digits at least.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 {
        grouped(value)
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A whole number, a comma before every three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

fn ratio(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}x")
    } else if value >= 10.0 {
        format!("{value:.1}x")
    } else {
        format!("{value:.2}x")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Vec<Column> {
        let column = |name: &&str| Column { name: (*name).to_owned(), is_floor: *name == "floor" };
        names.iter().map(column).collect()
    }

    #[test]
    fn ratios_are_to_the_first_and_the_best_is_no_floor() {
        let mut table =
            Comparison::new("CPU:", &["scenario", "QoS"], columns(&["ours", "floor", "a", "b"]));
        let cells = [0.5, 0.25, 5.0, 1.5].map(Cell::Value).to_vec();
        table.row(&["pairs", "0"], Better::Lower, cells);
        let cells = vec![Cell::Value(2000.0), Cell::Unsupported, Cell::Failed, Cell::Value(1000.0)];
        table.row(&["pairs", "2"], Better::Higher, cells);
        assert_eq!(
            table.render(),
            "CPU:\n\n\
             | scenario | QoS | ours | floor | a | b | best other |\n\
             |---|--:|--:|--:|--:|--:|--:|\n\
             | pairs | 0 | 0.50 | 0.25 (0.50x) | 5.00 (10.0x) | 1.50 (3.00x) | 3.00x b |\n\
             | pairs | 2 | 2,000 | - | failed | 1,000 (0.50x) | 2.00x b |\n"
        );
    }

    #[test]
    fn nothing_is_compared_with_a_failure() {
        let mut table = Comparison::new("t", &["x"], columns(&["ours", "a"]));
        table.row(&["y"], Better::Lower, vec![Cell::Failed, Cell::Value(1.0)]);
        assert!(table.render().ends_with("| y | failed | 1.00 | - |\n"));
    }

    #[test]
    fn without_others_there_is_no_best() {
        let mut table = Comparison::new("t", &["x"], columns(&["ours", "floor"]));
        table.row(&["y"], Better::Lower, vec![Cell::Value(12.34), Cell::Value(0.0)]);
        assert!(
            table
                .render()
                .ends_with("| x | ours | floor |\n|---|--:|--:|\n| y | 12.3 | 0.00 (0.00x) |\n")
        );
    }

    #[test]
    fn numbers_have_three_digits_and_groups() {
        assert_eq!(number(0.123), "0.12");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(-1234567.0), "-1,234,567");
        assert_eq!(ratio(123.4), "123x");
        assert_eq!(field(Cell::Share(0.5, 0.987), None), "0.50 (99 %)");
    }
}
