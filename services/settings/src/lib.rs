//! From TOML to typed values, with every problem named by its place.

use std::{cell::RefCell, fmt::Display, ops::Range};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// Part of the file, in bytes.
pub type Span = Range<usize>;

/// A value that is one of a few words.
pub trait Choice: Copy + 'static {
    /// The words, and what they mean.
    const CHOICES: &'static [(&'static str, Self)];
}

/// Lets `interpret` take what it knows from the text and reports whatever else is there.
///
/// # Errors
/// Everything that is wrong, one line each, in the order of the file.
pub fn read(
    file: &str,
    text: &str,
    interpret: impl FnOnce(&mut Section<'_, '_>),
) -> Result<(), Vec<String>> {
    let document = Document { file, text, problems: RefCell::default() };
    match DeTable::parse(text) {
        Ok(table) => {
            let mut section = Section::new(&document, String::new(), table.get_ref(), table.span());
            interpret(&mut section);
            section.finish();
        }
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            document.problem(&error.span().unwrap_or_default(), message);
        }
    }
    let mut problems = document.problems.take();
    problems.sort_by_key(|(at, _)| *at);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.into_iter().map(|(_, problem)| problem).collect()),
    }
}

/// The whole file.
struct Document<'t> {
    file: &'t str,
    text: &'t str,
    /// Each with its position.
    problems: RefCell<Vec<(usize, String)>>,
}

impl Document<'_> {
    /// `file:line:column`, counted from 1, the column in characters.
    fn place(&self, span: &Span) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|char| *char != '\n').count() + 1;
        format!("{}:{line}:{column}", self.file)
    }

    fn problem(&self, span: &Span, problem: impl Display) {
        let line = format!("{}: {problem}", self.place(span));
        self.problems.borrow_mut().push((span.start, line));
    }
}

/// One table of the file. Whatever is asked for is a known key; at the end, all others are
/// reported.
pub struct Section<'d, 't> {
    document: &'d Document<'t>,
    /// ` in [limits]`; empty for the top of the file.
    label: String,
    table: &'d DeTable<'t>,
    span: Span,
    known: Vec<&'static str>,
    /// The keys are names that the operator gives.
    any_key: bool,
}

impl<'d, 't> Section<'d, 't> {
    fn new(document: &'d Document<'t>, label: String, table: &'d DeTable<'t>, span: Span) -> Self {
        Self { document, label, table, span, known: Vec::new(), any_key: false }
    }

    /// `file:line:column`.
    pub fn place(&self, span: &Span) -> String {
        self.document.place(span)
    }

    /// Reports a problem.
    pub fn problem(&self, span: &Span, problem: impl Display) {
        self.document.problem(span, problem);
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Puts a boolean into `value`, if the key is there.
    pub fn boolean(&mut self, key: &'static str, value: &mut bool) {
        match self.get(key) {
            Some((DeValue::Boolean(found), _)) => *value = *found,
            Some((other, span)) => self.wrong_type(key, "true or false", other, &span),
            None => {}
        }
    }

    /// Puts a whole number of this range into `value`, if the key is there.
    pub fn number<N>(&mut self, key: &'static str, least: N, most: N, value: &mut N)
    where
        N: TryFrom<i128> + Into<i128> + Copy + Display,
    {
        let (found, span) = match self.get(key) {
            Some((DeValue::Integer(found), span)) => (found, span),
            Some((DeValue::Float(_), span)) => {
                return self.problem(&span, format!("`{key}` must be a whole number"));
            }
            Some((other, span)) => return self.wrong_type(key, "a number", other, &span),
            None => return,
        };
        let number = i128::from_str_radix(found.as_str(), found.radix()).ok();
        let range = least.into()..=most.into();
        match number.filter(|number| range.contains(number)).map(N::try_from) {
            Some(Ok(number)) => *value = number,
            _ => {
                let found = found.as_str();
                self.problem(&span, format!("`{key}` must be {least} to {most}, not {found}"));
            }
        }
    }

    /// A string, if the key is there.
    pub fn string(&mut self, key: &'static str) -> Option<(String, Span)> {
        match self.get(key)? {
            (DeValue::String(found), span) => Some((found.to_string(), span)),
            (other, span) => {
                self.wrong_type(key, "a string", other, &span);
                None
            }
        }
    }

    /// A string; it is a problem if the key is not there.
    pub fn required_string(&mut self, key: &'static str) -> Option<(String, Span)> {
        if !self.has(key) {
            self.known.push(key);
            self.problem(&self.span, format!("`{key}` is missing{}", self.label));
            return None;
        }
        self.string(key)
    }

    /// A list of strings; empty if the key is not there.
    pub fn strings(&mut self, key: &'static str) -> Vec<(String, Span)> {
        const WANTED: &str = "a list of strings";
        let mut strings = Vec::new();
        match self.get(key) {
            Some((DeValue::Array(array), _)) => {
                for item in array.iter() {
                    match item.get_ref() {
                        DeValue::String(found) => strings.push((found.to_string(), item.span())),
                        other => {
                            let found = type_name(other);
                            let problem = format!("`{key}` must be {WANTED}, not of {found}");
                            self.problem(&item.span(), problem);
                        }
                    }
                }
            }
            Some((other, span)) => self.wrong_type(key, WANTED, other, &span),
            None => {}
        }
        strings
    }

    /// Puts one of a few words into `value`, if the key is there.
    pub fn choice<C: Choice>(&mut self, key: &'static str, value: &mut C) {
        self.choice_of(key, C::CHOICES, value);
    }

    /// Puts what one of these words means into `value`, if the key is there.
    pub fn choice_of<C: Copy>(&mut self, key: &'static str, choices: &[(&str, C)], value: &mut C) {
        let Some((found, span)) = self.string(key) else { return };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == found) {
            *value = *choice;
            return;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let list = names.join("`, `");
        let hint = suggestion(&found, &names);
        self.problem(&span, format!("`{key}` must be one of `{list}`, not `{found}`{hint}"));
    }

    /// A table, if it is there.
    pub fn table(&mut self, key: &'static str, interpret: impl FnOnce(&mut Section<'d, 't>)) {
        match self.get(key) {
            Some((DeValue::Table(table), span)) => {
                let mut section = Section::new(self.document, format!(" in [{key}]"), table, span);
                interpret(&mut section);
                section.finish();
            }
            Some((other, span)) => {
                self.wrong_type(key, &format!("a table ([{key}])"), other, &span);
            }
            None => {}
        }
    }

    /// A list of tables, each in turn.
    pub fn tables(&mut self, key: &'static str, mut interpret: impl FnMut(&mut Section<'d, 't>)) {
        let wanted = format!("a list of tables ([[{key}]])");
        match self.get(key) {
            Some((DeValue::Array(array), _)) => {
                for item in array.iter() {
                    if let DeValue::Table(table) = item.get_ref() {
                        let label = format!(" in [[{key}]]");
                        let mut section = Section::new(self.document, label, table, item.span());
                        interpret(&mut section);
                        section.finish();
                    } else {
                        self.wrong_type(key, &wanted, item.get_ref(), &item.span());
                    }
                }
            }
            Some((other, span)) => self.wrong_type(key, &wanted, other, &span),
            None => {}
        }
    }

    /// One string, or a list of them; empty if the key is not there.
    pub fn one_or_more(&mut self, key: &'static str) -> Vec<(String, Span)> {
        match self.get(key) {
            Some((DeValue::String(found), span)) => vec![(found.to_string(), span)],
            Some(_) => self.strings(key),
            None => Vec::new(),
        }
    }

    /// A table whose keys are those of a type, if it is there.
    pub fn typed<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let value: Spanned<DeValue<'t>> = self.table.get(key)?.clone();
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(read) => Some(read),
            Err(error) => {
                let message = error.message().lines().collect::<Vec<_>>().join("; ");
                self.problem(&error.span().unwrap_or(span), format!("{message} in `{key}`"));
                None
            }
        }
    }

    /// All keys with one string each, whatever they are called.
    pub fn named_strings(&mut self) -> Vec<(String, String, Span)> {
        self.any_key = true;
        let mut all = Vec::new();
        for (key, value) in self.table {
            match value.get_ref() {
                DeValue::String(found) => {
                    all.push((key.get_ref().to_string(), found.to_string(), value.span()));
                }
                other => self.wrong_type(key.get_ref(), "a string", other, &value.span()),
            }
        }
        all
    }

    /// All keys with a list of strings each, whatever they are called.
    pub fn named_lists(&mut self) -> Vec<(String, Vec<String>)> {
        self.any_key = true;
        let mut all = Vec::new();
        for (key, value) in self.table {
            let name: &str = key.get_ref();
            match value.get_ref() {
                DeValue::Array(array) => {
                    let mut list = Vec::new();
                    for item in array.iter() {
                        match item.get_ref() {
                            DeValue::String(found) => list.push(found.to_string()),
                            other => {
                                self.wrong_type(name, "a list of strings", other, &item.span());
                            }
                        }
                    }
                    all.push((name.to_owned(), list));
                }
                other => self.wrong_type(name, "a list of strings", other, &value.span()),
            }
        }
        all
    }

    /// Where the table is.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    fn get(&mut self, key: &'static str) -> Option<(&'d DeValue<'t>, Span)> {
        self.known.push(key);
        let value: &Spanned<DeValue<'t>> = self.table.get(key)?;
        Some((value.get_ref(), value.span()))
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &DeValue<'_>, span: &Span) {
        let found = type_name(found);
        self.problem(span, format!("`{key}` must be {wanted}, not {found}"));
    }

    fn finish(self) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if self.any_key || self.known.contains(&name) {
                continue;
            }
            let hint = match (suggestion(name, &self.known), &*self.known) {
                (hint, [only]) if hint.is_empty() => format!("; the only key is `{only}`"),
                (hint, _) => hint,
            };
            self.problem(&key.span(), format!("unknown key `{name}`{}{hint}", self.label));
        }
    }
}

const fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `; did you mean ...?` if a known word looks much like the one found.
fn suggestion(found: &str, known: &[&str]) -> String {
    const ALIKE: f64 = 0.75;
    known
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(found, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}
