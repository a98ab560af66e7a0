//! How the standards' statements are covered: by scenarios that prove them, by tags in the code that
//! keeps them, or by a written reason why not.

mod junit;
mod markdown;
mod tags;
mod text;

use std::{collections::BTreeMap, io, path::Path};

pub use junit::junit;
pub use markdown::markdown;
pub use tags::Place;
pub use text::text;

use crate::{
    play::Outcome,
    requirements::{Lacks, Requirement, Requirements, Table},
    run::Played,
    suite::File,
};

/// What was found about each statement by playing, in the order of [`Coverage::rows`].
pub type Verdicts = Vec<Verdict>;

/// The crates whose code keeps statements.
pub const CODE: [&str; 4] = ["codec/src", "session-core/src", "runtime-mio/src", "server/src"];

/// All statements and what covers each.
#[derive(Debug)]
pub struct Coverage<'a> {
    /// In the order of the tables.
    pub rows: Vec<Row<'a>>,
    /// What is wrong with scenarios, tags or exceptions themselves; none must be.
    pub problems: Vec<String>,
}

/// A statement and what covers it.
#[derive(Debug)]
pub struct Row<'a> {
    /// The statement.
    pub requirement: &'a Requirement,
    /// Where the code keeps it.
    pub code: Vec<Place>,
    /// The scenarios that claim to prove it.
    pub scenarios: Vec<&'a File>,
    /// Why there is no scenario.
    pub no_scenario: Option<&'a str>,
    /// Why there is no place in the code.
    pub no_code: Option<&'a str>,
}

impl Row<'_> {
    /// Whether a scenario and a tag cover it, or a reason stands in for what is lacking.
    pub fn is_explained(&self) -> bool {
        let has_scenario = !self.scenarios.is_empty() || self.no_scenario.is_some();
        let has_code = !self.code.is_empty() || self.no_code.is_some();
        !self.requirement.binds.server() || (has_scenario && has_code)
    }
}

impl<'a> Coverage<'a> {
    /// Compares the tables with these scenarios, and with the tags in the code below `root`.
    ///
    /// # Errors
    /// The code cannot be read.
    pub fn measure(
        requirements: &'a Requirements,
        files: &'a [File],
        root: &Path,
    ) -> io::Result<Self> {
        let claims = Claims::of(files);
        let tags = tags::read(root, &CODE)?;
        let mut problems = claims.unknown(requirements);
        problems.extend(tags.unknown(requirements));
        problems.extend(exceptions_of_nothing(requirements));

        let rows: Vec<_> = requirements
            .all
            .iter()
            .map(|requirement| Row {
                requirement,
                code: tags.of(requirement),
                scenarios: claims.of_statement(requirement),
                no_scenario: reason(requirements, requirement, Lacks::Scenario),
                no_code: reason(requirements, requirement, Lacks::Code),
            })
            .collect();
        problems.extend(rows.iter().flat_map(needless));
        Ok(Self { rows, problems })
    }

    /// What playing these scenarios has shown.
    pub fn verdicts(&self, all: &[Played<'_>]) -> Verdicts {
        self.rows.iter().map(|row| Verdict::of(row, all)).collect()
    }

    /// The statements that lack a scenario or a tag without a reason.
    pub fn unexplained(&self) -> impl Iterator<Item = &Row<'a>> {
        self.rows.iter().filter(|row| !row.is_explained())
    }
}

fn reason<'a>(all: &'a Requirements, of: &Requirement, lacks: Lacks) -> Option<&'a str> {
    let fits = |exception: &&crate::requirements::Exception| {
        exception.table == of.table && exception.id == of.id && exception.lacks == lacks
    };
    all.exceptions.iter().find(fits).map(|exception| exception.reason.as_str())
}

fn exceptions_of_nothing(all: &Requirements) -> Vec<String> {
    let unknown = all.exceptions.iter().filter(|found| all.get(found.table, &found.id).is_none());
    unknown
        .map(|found| format!("exceptions.tsv: no {} in {}", found.id, found.table.name()))
        .collect()
}

/// A reason for a lack that is none any more would hide the day when the lack comes back.
fn needless(row: &Row<'_>) -> Vec<String> {
    let (table, id) = (row.requirement.table.name(), &row.requirement.id);
    let mut found = Vec::new();
    if row.no_scenario.is_some() && !row.scenarios.is_empty() {
        found.push(format!("exceptions.tsv says that {table} {id} has no scenario, but it has"));
    }
    if row.no_code.is_some() && !row.code.is_empty() {
        found.push(format!("exceptions.tsv says that {table} {id} has no tag, but it has"));
    }
    if !row.requirement.binds.server() && (row.no_scenario.is_some() || row.no_code.is_some()) {
        found.push(format!("exceptions.tsv names {table} {id}, which does not bind a server"));
    }
    found
}

/// Which scenarios claim which statement.
struct Claims<'a>(BTreeMap<(Table, &'a str), Vec<&'a File>>);

impl<'a> Claims<'a> {
    fn of(files: &'a [File]) -> Self {
        let mut claims: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for file in files {
            for version in file.scenario.versions() {
                for id in file.scenario.ids(version) {
                    let of_statement = claims.entry((Table::of(version), id)).or_default();
                    if of_statement.last().is_none_or(|last: &&File| last.path != file.path) {
                        of_statement.push(file);
                    }
                }
            }
        }
        Self(claims)
    }

    fn of_statement(&self, requirement: &Requirement) -> Vec<&'a File> {
        self.0.get(&(requirement.table, requirement.id.as_str())).cloned().unwrap_or_default()
    }

    fn unknown(&self, requirements: &Requirements) -> Vec<String> {
        let unknown = self.0.iter().filter(|((table, id), _)| {
            !id.starts_with("CAIRN-") && requirements.get(*table, id).is_none()
        });
        unknown
            .map(|((table, id), files)| {
                let path = files.first().map(|file| file.path.display().to_string());
                format!(
                    "{}: no statement {id} in the table {}",
                    path.unwrap_or_default(),
                    table.name()
                )
            })
            .collect()
    }
}

/// What playing the scenarios has shown about a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does not bind a server.
    Client,
    /// It has no scenario, for a written reason.
    Exception,
    /// It has no scenario and no reason.
    Open,
    /// Its scenarios cannot be commanded of this broker.
    NotPlayed,
    /// All its scenarios that were played have passed.
    Passed,
    /// One of its scenarios has failed.
    Failed,
}

impl Verdict {
    /// In a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "binds clients",
            Self::Exception => "exception",
            Self::Open => "open",
            Self::NotPlayed => "not played",
            Self::Passed => "passed",
            Self::Failed => "FAILED",
        }
    }

    /// Of one statement, by what was played for its table's versions.
    pub fn of(row: &Row<'_>, all: &[Played<'_>]) -> Self {
        let Requirement { table, id, .. } = row.requirement;
        if !row.requirement.binds.server() {
            return Self::Client;
        }
        if row.scenarios.is_empty() {
            return if row.no_scenario.is_some() { Self::Exception } else { Self::Open };
        }
        let is_of = |played: &&Played<'_>| {
            Table::of(played.version) == *table
                && played.file.scenario.ids(played.version).contains(&id.as_str())
        };
        let outcomes = all.iter().filter(is_of).filter_map(|played| played.outcome.as_ref());
        let verdict = |outcome: &Outcome| match outcome.failure {
            Some(_) => Self::Failed,
            None => Self::Passed,
        };
        outcomes.map(verdict).max().unwrap_or(Self::NotPlayed)
    }
}
