//! From TOML to typed values, with every problem named by its place.

mod document;

use std::{fmt::Display, ops::Range};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use document::Document;
pub use document::{Entry, Kind, Override, read, read_with};

/// Part of the file, in bytes.
pub type Span = Range<usize>;

/// A value that is one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// The words, and what they mean.
    const CHOICES: &'static [(&'static str, Self)];
}

/// One table of the file. Whatever is asked for is a known key; at the end, all others are
/// reported.
pub struct Section<'d, 't> {
    document: &'d Document<'t>,
    /// ` in [limits]`; empty for the top of the file.
    label: String,
    /// `limits.`; what stands before a key to name it as a whole.
    path: String,
    table: &'d DeTable<'t>,
    span: Span,
    known: Vec<&'static str>,
    /// The keys are names that the operator gives.
    any_key: bool,
}

impl<'d, 't> Section<'d, 't> {
    fn new(
        document: &'d Document<'t>,
        [label, path]: [String; 2],
        table: &'d DeTable<'t>,
        span: Span,
    ) -> Self {
        Self { document, label, path, table, span, known: Vec::new(), any_key: false }
    }

    /// Notes a key that was asked for, and the value in force.
    fn enter(&self, key: &str, kind: Kind, value: Option<String>) {
        let place = self.table.get(key).map(|found| self.place(&found.span()));
        self.document.enter(Entry { path: format!("{}{key}", self.path), kind, value, place });
    }

    /// `file:line:column`.
    pub fn place(&self, span: &Span) -> String {
        self.document.place(span)
    }

    /// Reports a problem.
    pub fn problem(&self, span: &Span, problem: impl Display) {
        self.document.problem(span, problem);
    }

    /// Reports a problem with the value of a key, or with the whole table if it is not there.
    pub fn problem_at(&self, key: &str, problem: impl Display) {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.document.problem(&span, problem);
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
        self.enter(key, Kind::Boolean, Some(value.to_string()));
    }

    /// Puts a whole number of this range into `value`, if the key is there.
    pub fn number<N>(&mut self, key: &'static str, least: N, most: N, value: &mut N)
    where
        N: TryFrom<i128> + Into<i128> + Copy + Display,
    {
        self.read_number(key, least, most, value);
        let range = least.into()..=most.into();
        let in_force = range.contains(&(*value).into()).then(|| value.to_string());
        self.enter(key, Kind::Number { least: *range.start(), most: *range.end() }, in_force);
    }

    fn read_number<N>(&mut self, key: &'static str, least: N, most: N, value: &mut N)
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
        let found = self.read_string(key);
        self.enter(key, Kind::Text, found.as_ref().map(|(found, _)| quoted(found)));
        found
    }

    /// Puts a string into `value`, if the key is there; `value` is what holds if it is not.
    pub fn string_into(&mut self, key: &'static str, value: &mut String) {
        if let Some((found, _)) = self.read_string(key) {
            *value = found;
        }
        self.enter(key, Kind::Text, Some(quoted(value)));
    }

    fn read_string(&mut self, key: &'static str) -> Option<(String, Span)> {
        match self.get(key)? {
            (DeValue::String(found), span) => Some((found.to_string(), span)),
            // Outside of the file nobody writes quotes around what only looks like a number.
            (_, span) if let Some(bare) = self.document.bare(&span) => Some((bare, span)),
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
            // Outside of the file one word is a list of one.
            Some((DeValue::String(found), span)) if self.document.bare(&span).is_some() => {
                strings.push((found.to_string(), span));
            }
            Some((other, span)) => self.wrong_type(key, WANTED, other, &span),
            None => {}
        }
        let list: Vec<_> = strings.iter().map(|(found, _)| quoted(found)).collect();
        self.enter(key, Kind::List, Some(format!("[{}]", list.join(", "))));
        strings
    }

    /// Puts one of a few words into `value`, if the key is there.
    pub fn choice<C: Choice>(&mut self, key: &'static str, value: &mut C) {
        self.choice_of(key, C::CHOICES, value);
    }

    /// Puts what one of these words means into `value`, if the key is there.
    pub fn choice_of<C: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, C)],
        value: &mut C,
    ) {
        self.read_choice(key, choices, value);
        let names = choices.iter().map(|(name, _)| *name).collect();
        let in_force = choices.iter().find(|(_, choice)| choice == value);
        self.enter(key, Kind::Choice(names), in_force.map(|(name, _)| quoted(name)));
    }

    fn read_choice<C: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, C)],
        value: &mut C,
    ) {
        let Some((found, span)) = self.read_string(key) else { return };
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
                let names = [format!(" in [{key}]"), format!("{}{key}.", self.path)];
                let mut section = Section::new(self.document, names, table, span);
                interpret(&mut section);
                section.finish();
            }
            Some((other, span)) => {
                self.wrong_type(key, &format!("a table ([{key}])"), other, &span);
            }
            None => {}
        }
    }

    /// A table whose keys are read, and noted, even if it is not there.
    pub fn table_or_defaults(
        &mut self,
        key: &'static str,
        interpret: impl FnOnce(&mut Section<'_, '_>),
    ) {
        if self.has(key) {
            return self.table(key, |section| interpret(section));
        }
        self.known.push(key);
        let nothing = DeTable::new();
        let names = [format!(" in [{key}]"), format!("{}{key}.", self.path)];
        interpret(&mut Section::new(self.document, names, &nothing, 0..0));
    }

    /// A list of tables, each in turn.
    pub fn tables(&mut self, key: &'static str, mut interpret: impl FnMut(&mut Section<'d, 't>)) {
        let wanted = format!("a list of tables ([[{key}]])");
        match self.get(key) {
            Some((DeValue::Array(array), _)) => {
                for (index, item) in array.iter().enumerate() {
                    if let DeValue::Table(table) = item.get_ref() {
                        let path = format!("{}{key}[{index}].", self.path);
                        let names = [format!(" in [[{key}]]"), path];
                        let mut section = Section::new(self.document, names, table, item.span());
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
        self.enter(key, Kind::Table, Some(shown(value.get_ref())));
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

/// A value in one line.
fn shown(value: &DeValue<'_>) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| shown(item.get_ref()));
            format!("[{}]", list(items.collect()))
        }
        DeValue::Table(table) => {
            let items = table.iter().map(|(key, item)| {
                let key: &str = key.get_ref();
                format!("{key} = {}", shown(item.get_ref()))
            });
            format!("{{ {} }}", list(items.collect()))
        }
    }
}

/// A string as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
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
