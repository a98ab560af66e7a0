//! A file, and what is said instead of it elsewhere.

use std::{borrow::Cow, cell::RefCell, fmt::Display};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{Section, Span};

/// A key that is set elsewhere than in the file: by a flag, or by the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// What sets it, for messages: `--set limits.packet_bytes_max`.
    pub name: String,
    /// The key as a whole: tables, then the key.
    pub path: Vec<String>,
    /// The value as TOML, or a string without quotes.
    pub value: String,
}

/// A key that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As a whole: `limits.packet_bytes_max`, `listener[0].url`.
    pub path: String,
    /// What values it has.
    pub kind: Kind,
    /// The value in force, as TOML; absent if there is none.
    pub value: Option<String>,
    /// Where it is set: `file:line:column`, or the name of an override; absent: it is the default.
    pub place: Option<String>,
}

/// What values a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Number {
        /// Not less.
        least: i128,
        /// Not more.
        most: i128,
    },
    /// A string.
    Text,
    /// A list of strings.
    List,
    /// One of a few words.
    Choice(Vec<&'static str>),
    /// A table whose keys are those of a type.
    Table,
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
    read_with(file, text, &[], interpret).map(drop)
}

/// The same, with keys that are set elsewhere: they count instead of those of the file, the later ones instead of the
/// earlier. Returns every key that was asked for.
///
/// # Errors
/// Everything that is wrong, one line each, in the order of the file; then what is wrong elsewhere.
pub fn read_with(
    file: &str,
    text: &str,
    overrides: &[Override],
    interpret: impl FnOnce(&mut Section<'_, '_>),
) -> Result<Vec<Entry>, Vec<String>> {
    let parts = Part::all(text, overrides);
    let document = Document {
        file,
        text,
        parts: &parts,
        problems: RefCell::default(),
        entries: RefCell::default(),
    };
    match DeTable::parse(text) {
        Ok(table) => {
            let span = table.span();
            let mut table = table.into_inner();
            parts.iter().for_each(|part| document.put(&mut table, part));
            let mut section = Section::new(&document, Default::default(), &table, span);
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
        true => Ok(document.entries.take()),
        false => Err(problems.into_iter().map(|(_, problem)| problem).collect()),
    }
}

/// An override in its place behind the file: so every byte of all of them has a position of its own.
struct Part<'o> {
    set: &'o Override,
    /// Nothing but line breaks up to its place, and `x = VALUE`.
    source: String,
    span: Span,
}

const BEFORE_VALUE: &str = "x = ";

impl<'o> Part<'o> {
    fn all(text: &str, overrides: &'o [Override]) -> Vec<Self> {
        let mut start = text.len() + 1;
        let mut parts = Vec::new();
        for set in overrides {
            let source = format!("{}{BEFORE_VALUE}{}", "\n".repeat(start), set.value);
            let span = start..source.len() + 1;
            start = span.end;
            parts.push(Self { set, source, span });
        }
        parts
    }

    /// The value as TOML, if it is one value; else the whole is a string.
    fn value(&self) -> Spanned<DeValue<'_>> {
        let parsed = DeTable::parse(&self.source).ok().map(Spanned::into_inner);
        let only = parsed.filter(|table| table.len() == 1);
        only.and_then(|table| table.into_iter().next()).map_or_else(
            || Spanned::new(self.span.clone(), DeValue::String(Cow::Borrowed(&self.set.value))),
            |(_, value)| value,
        )
    }
}

/// The whole.
pub(crate) struct Document<'t> {
    file: &'t str,
    text: &'t str,
    parts: &'t [Part<'t>],
    /// Each with its position.
    problems: RefCell<Vec<(usize, String)>>,
    entries: RefCell<Vec<Entry>>,
}

impl<'t> Document<'t> {
    /// `file:line:column`, counted from 1, the column in characters; or the name of an override.
    pub(crate) fn place(&self, span: &Span) -> String {
        if let Some(part) = self.part(span) {
            return part.set.name.clone();
        }
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|char| *char != '\n').count() + 1;
        format!("{}:{line}:{column}", self.file)
    }

    pub(crate) fn problem(&self, span: &Span, problem: impl Display) {
        let line = format!("{}: {problem}", self.place(span));
        self.problems.borrow_mut().push((span.start, line));
    }

    pub(crate) fn enter(&self, entry: Entry) {
        self.entries.borrow_mut().push(entry);
    }

    /// What an override says, as it was written; `None` in the file.
    pub(crate) fn bare(&self, span: &Span) -> Option<String> {
        self.part(span).map(|part| part.set.value.clone())
    }

    fn part(&self, span: &Span) -> Option<&Part<'t>> {
        self.parts.iter().find(|part| part.span.contains(&span.start))
    }

    /// Puts an override into the table of the file.
    fn put(&self, table: &mut DeTable<'t>, part: &'t Part<'t>) {
        let at = part.span.clone();
        let Some((key, tables)) = part.set.path.split_last() else { return };
        let mut table = table;
        for name in tables {
            let key = Spanned::new(at.clone(), Cow::Borrowed(name.as_str()));
            let empty = || Spanned::new(at.clone(), DeValue::Table(DeTable::new()));
            match table.entry(key).or_insert_with(empty).get_mut() {
                DeValue::Table(inner) => table = inner,
                _ => {
                    let problem = format!("`{name}` is no table, so nothing in it can be set");
                    return self.problem(&at, problem);
                }
            }
        }
        // The key of the file goes too, so that problems with it are told where it is set.
        table.remove(key.as_str());
        table.insert(Spanned::new(at, Cow::Borrowed(key.as_str())), part.value());
    }
}
