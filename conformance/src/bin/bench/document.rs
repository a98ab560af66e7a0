//! The document with all tables: each stands between two marks, so that a run may replace some of
//! them and leave the others.

use crate::Result;

/// Characters of a line.
const LINE_MAX: usize = 120;

/// A table by its name in the marks, with all that belongs to it.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

/// The document with these sections, and with those of the document as it was that are not among
/// them, in the order of `names`. What stood before the first section is replaced by `head`.
pub(crate) fn merge(
    before: &str,
    head: &str,
    sections: &[Section],
    names: &[&str],
) -> Result<String> {
    let is_new = before.trim().is_empty();
    let is_whole = names.iter().all(|name| sections.iter().any(|section| section.name == *name));
    if !is_new && !is_whole && names.iter().all(|name| section_in(before, name).is_none()) {
        return Err("the document has no tables that could stay: write all of them first".into());
    }
    let mut document = head.trim_end().to_owned() + "\n";
    for name in names {
        let new = sections.iter().find(|section| section.name == *name);
        let text = new.map(|section| section.text.as_str()).or_else(|| section_in(before, name));
        if let Some(text) = text {
            let (begin, end) = marks(name);
            document += &format!("\n{begin}\n{}\n{end}\n", text.trim());
        }
    }
    Ok(document)
}

/// The text with line breaks between its words, so that lines are no longer than those of other documents.
/// Only for paragraphs.
pub(crate) fn wrap(text: &str) -> String {
    let (mut wrapped, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        let bytes = word.chars().count();
        if length > 0 {
            let fits = length + 1 + bytes <= LINE_MAX;
            wrapped.push(if fits { ' ' } else { '\n' });
            length = if fits { length + 1 } else { 0 };
        }
        wrapped += word;
        length += bytes;
    }
    wrapped
}

/// What stands between the marks of a table.
fn section_in<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (begin, end) = marks(name);
    let (_, rest) = document.split_once(&begin)?;
    rest.split_once(&end).map(|(text, _)| text)
}

fn marks(name: &str) -> (String, String) {
    (format!("<!-- table: {name} -->"), format!("<!-- end of table: {name} -->"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["a", "b", "c"];

    fn section(name: &'static str, text: &str) -> Section {
        Section { name, text: text.to_owned() }
    }

    #[test]
    fn a_run_replaces_its_tables_and_leaves_the_others() {
        let all = [section("b", "old b"), section("a", "old a"), section("c", "old c\n\n")];
        let first = merge("", "# Head", &all, &NAMES).expect("new");
        assert_eq!(
            first,
            "# Head\n\n\
             <!-- table: a -->\nold a\n<!-- end of table: a -->\n\n\
             <!-- table: b -->\nold b\n<!-- end of table: b -->\n\n\
             <!-- table: c -->\nold c\n<!-- end of table: c -->\n"
        );
        let second = merge(&first, "# New head\n", &[section("b", "new b")], &NAMES);
        let expected = first.replace("old b", "new b").replace("# Head", "# New head");
        assert_eq!(second.expect("merged"), expected);
    }

    #[test]
    fn paragraphs_are_wrapped_between_words() {
        let text = vec!["four"; 30].join(" ");
        let wrapped = wrap(&text);
        let lines: Vec<usize> = wrapped.lines().map(str::len).collect();
        assert_eq!(lines, [119, 29]);
        assert_eq!(wrapped.replace('\n', " "), text);
        assert_eq!(wrap(&"x".repeat(130)), "x".repeat(130));
    }

    #[test]
    fn a_table_may_be_added() {
        let first = merge("", "#", &[section("c", "c")], &NAMES).expect("new");
        let both = merge(&first, "#", &[section("a", "a")], &NAMES).expect("merged");
        assert!(both.find("table: a").expect("a") < both.find("table: c").expect("c"));
    }

    #[test]
    fn a_document_of_somebody_else_is_not_lost() {
        assert!(merge("by hand", "#", &[section("a", "a")], &NAMES).is_err());
        let all = NAMES.map(|name| section(name, name));
        assert!(merge("by hand", "#", &all, &NAMES).is_ok());
    }
}
