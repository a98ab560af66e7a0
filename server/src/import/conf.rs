//! The form of a mosquitto.conf: an option a line, the rest of the line is its value.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files that include one another go no deeper.
const DEPTH_MAX: usize = 8;

/// An option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `file:line`.
    pub(super) place: String,
    pub(super) option: String,
    /// Empty if there is none.
    pub(super) value: String,
}

impl Line {
    /// The file in which it stands: each has a listener of its own that options speak of.
    pub(super) fn file(&self) -> &str {
        self.place.rsplit_once(':').map_or("", |(file, _)| file)
    }
}

/// Reads a file, and all files that it includes in their order.
///
/// # Errors
/// A file cannot be read, or they include one another.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    read_into(path, 0, &mut lines)?;
    Ok(lines)
}

fn read_into(path: &Path, depth: usize, lines: &mut Vec<Line>) -> Result<(), String> {
    let name = path.display();
    if depth > DEPTH_MAX {
        return Err(format!("{name}: files include one another too deeply"));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    for line in parse(&name.to_string(), &String::from_utf8_lossy(&bytes)) {
        if line.option != "include_dir" {
            lines.push(line);
            continue;
        }
        for file in files_of(Path::new(&line.value))
            .map_err(|error| format!("{}: cannot read {}: {error}", line.place, line.value))?
        {
            read_into(&file, depth + 1, lines)?;
        }
    }
    Ok(())
}

/// The files that mosquitto takes: those whose names end with `.conf`, in the order of their names.
fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "conf") {
            files.push(path);
        }
    }
    // Capital letters do not count, as mosquitto has it.
    files.sort_by_key(|path| (path.to_string_lossy().to_lowercase(), path.clone()));
    Ok(files)
}

/// Takes a text apart. Comments begin a line, and nothing else is one.
pub(super) fn parse(name: &str, text: &str) -> Vec<Line> {
    let lines = text.lines().zip(1..).filter_map(|(line, number)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (option, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let (option, value) = (option.to_owned(), value.trim().to_owned());
        Some(Line { place: format!("{name}:{number}"), option, value })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_whatever_is_between() {
        let lines =
            parse("m", "# no\r\n\r\nlistener 1883\t127.0.0.1 \r\n  topic # both\npersistence\n");
        let shown: Vec<_> = lines
            .iter()
            .map(|line| format!("{} {}={}", line.place, line.option, line.value))
            .collect();
        assert_eq!(shown, ["m:3 listener=1883\t127.0.0.1", "m:4 topic=# both", "m:5 persistence="]);
    }

    #[test]
    fn included_files_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("d")).unwrap();
        fs::write(path("d/B.conf"), "second 1").unwrap();
        fs::write(path("d/c.conf"), "third 1").unwrap();
        fs::write(path("d/a.conf"), "first 1").unwrap();
        fs::write(path("d/c.txt"), "never 1").unwrap();
        fs::write(path("m"), format!("before 1\ninclude_dir {}\nafter 1", path("d").display()))
            .unwrap();
        let lines = read(&path("m")).unwrap();
        let options: Vec<_> = lines.iter().map(|line| line.option.as_str()).collect();
        assert_eq!(options, ["before", "first", "second", "third", "after"]);
        fs::write(path("d/c.conf"), format!("include_dir {}", path("d").display())).unwrap();
        assert!(read(&path("m")).unwrap_err().contains("too deeply"));
    }
}
