//! Tables whose columns are parted by tabs and named by their first line.

/// A table.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    columns: Vec<&'a str>,
    rows: Vec<Row<'a>>,
}

/// A line of a table.
#[derive(Clone, Debug)]
struct Row<'a> {
    line: usize,
    values: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// Takes a table apart. Empty lines, and lines that begin with `#`, are left out.
    ///
    /// # Errors
    /// A line has more or fewer values than there are columns, or there is no line at all.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let mut rows = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|(index, line)| Row { line: index + 1, values: line.split('\t').collect() });
        let columns = rows.next().ok_or("no line that names the columns")?.values;
        let rows: Vec<_> = rows.collect();
        match rows.iter().find(|row| row.values.len() != columns.len()) {
            None => Ok(Self { columns, rows }),
            Some(Row { line, values }) => {
                Err(format!("line {line}: {} values for {} columns", values.len(), columns.len()))
            }
        }
    }

    /// Whether there is such a column.
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains(&column)
    }

    /// Makes something of each row: `make` is given the number of its line and a function that
    /// finds a value by its column's name, empty where there is no such column.
    ///
    /// # Errors
    /// The first error of `make`, with the line.
    pub fn map<T>(
        &self,
        mut make: impl FnMut(usize, &dyn Fn(&str) -> &'a str) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        self.rows
            .iter()
            .map(|row| {
                let value = |column: &str| {
                    let at = self.columns.iter().position(|known| *known == column);
                    at.and_then(|at| row.values.get(at)).map_or("", |value| value.trim())
                };
                make(row.line, &value).map_err(|error| format!("line {}: {error}", row.line))
            })
            .collect()
    }

    /// Checks that these columns are there.
    ///
    /// # Errors
    /// The first that is not.
    pub fn demand(&self, columns: &[&str]) -> Result<(), String> {
        match columns.iter().find(|column| !self.has(column)) {
            None => Ok(()),
            Some(column) => Err(format!("no column {column}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn values_are_found_by_the_names_of_columns() {
        let table = Table::parse("b\ta\n# not a row\n1\t2\n\n3\t\n").unwrap();
        let rows = table.map(|line, value| Ok((line, value("a"), value("b"), value("c")))).unwrap();
        assert_eq!(rows, [(3, "2", "1", ""), (5, "", "3", "")]);
        assert_eq!(table.demand(&["a", "c"]).unwrap_err(), "no column c");
    }

    #[test]
    fn a_line_of_another_length_is_an_error() {
        assert_eq!(Table::parse("a\tb\n1\n").unwrap_err(), "line 2: 1 values for 2 columns");
        assert!(Table::parse("").is_err());
    }
}
