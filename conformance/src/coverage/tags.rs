//! `//= [MQTT-3.1.2-24]` in the code: where a statement is kept.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::requirements::{Requirement, Requirements, Table};

/// A place in the code. It has no line number, so that a table of places outlives an edit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, from the root of the project.
    pub file: String,
    /// The function or type that the tag is in; empty outside of any.
    pub item: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.item.as_str() {
            "" => f.write_str(&self.file),
            item => write!(f, "{} {item}", self.file),
        }
    }
}

/// Every tag and its places.
#[derive(Debug, Default)]
pub(super) struct Tags(BTreeMap<(Table, String), Vec<Place>>);

/// Reads the tags of all Rust files in these folders below the root.
pub(super) fn read(root: &Path, folders: &[&str]) -> io::Result<Tags> {
    let mut tags = Tags::default();
    for folder in folders {
        for path in rust_files(&root.join(folder))? {
            let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            tags.add(&file, &fs::read_to_string(&path)?);
        }
    }
    for places in tags.0.values_mut() {
        places.sort();
        places.dedup();
    }
    Ok(tags)
}

impl Tags {
    fn add(&mut self, file: &str, text: &str) {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(tag) = line.strip_prefix("//= ") else { continue };
            let place = Place { file: file.to_owned(), item: item_around(&lines, index) };
            for written in tag.split(['[', ']']).skip(1).step_by(2) {
                let key = match written.strip_suffix(" of 3.1.1") {
                    Some(id) => (Table::V3, id.to_owned()),
                    None if written.starts_with("U3-") || written.starts_with("D31-") => {
                        (Table::V3, written.to_owned())
                    }
                    None => (Table::V5, written.to_owned()),
                };
                self.0.entry(key).or_default().push(place.clone());
            }
        }
    }

    /// The places of a statement, and those of the 5.0 statement that says the same.
    pub(super) fn of(&self, requirement: &Requirement) -> Vec<Place> {
        let of = |table, id: &str| self.0.get(&(table, id.to_owned())).cloned().unwrap_or_default();
        let mut places = of(requirement.table, &requirement.id);
        if let Some(same) = &requirement.same_as {
            places.extend(of(Table::V5, same));
        }
        places.sort();
        places.dedup();
        places
    }

    pub(super) fn unknown(&self, requirements: &Requirements) -> Vec<String> {
        let unknown =
            self.0.iter().filter(|((table, id), _)| requirements.get(*table, id).is_none());
        let problem = |((table, id), places): (&(Table, String), &Vec<Place>)| {
            let place = places.first().map(ToString::to_string).unwrap_or_default();
            format!("{place}: no statement {id} in the table {}", table.name())
        };
        unknown.map(problem).collect()
    }
}

/// The item that the tag stands before, else the one that it stands in.
fn item_around(lines: &[&str], tag: usize) -> String {
    let after = lines.get(tag + 1..).unwrap_or_default().iter();
    let next = after.copied().find(|line| !line.starts_with("//") && !line.starts_with("#["));
    let before = lines.get(..tag).unwrap_or_default().iter().rev();
    let found = next.and_then(item_name).or_else(|| before.copied().find_map(item_name));
    found.unwrap_or_default()
}

/// The name that a line declares, if it declares a function, a type or a constant.
fn item_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || word.ends_with(')') || matches!(*word, "async" | "unsafe")
    });
    let name = match (words.next()?, words.next()?) {
        ("const", "fn") => words.next()?,
        ("fn" | "struct" | "enum" | "trait" | "static" | "const", name) => name,
        _ => return None,
    };
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    name.get(..end).map(str::to_owned)
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_with_its_item() {
        let mut tags = Tags::default();
        let text = "
            pub(crate) fn outer<T>(x: T) {
                //= [MQTT-1-1] [MQTT-2-2 of 3.1.1]
                inside();
            }
            //= [U3-a]
            #[derive(Debug)]
            pub const fn told() {}
            ";
        tags.add("a.rs", text);
        let of = |table, id: &str| tags.0[&(table, id.to_owned())][0].to_string();
        assert_eq!(of(Table::V5, "MQTT-1-1"), "a.rs outer");
        assert_eq!(of(Table::V3, "MQTT-2-2"), "a.rs outer");
        assert_eq!(of(Table::V3, "U3-a"), "a.rs told");
    }
}
