//! What the standards demand, as `spec-tests/requirements` has it.

use codec::ProtocolVersion;

use crate::{embedded, lang::Scenario, tsv};

/// One of the two tables. Both use the names `MQTT-…`, with different meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// MQTT 3.1.1, and what a server does differently for MQTT 3.1.
    V3,
    /// MQTT 5.0.
    V5,
}

impl Table {
    /// The table whose statements hold for connections of this version.
    pub fn of(version: ProtocolVersion) -> Self {
        if version.is_v5() { Self::V5 } else { Self::V3 }
    }

    /// As `exceptions.tsv` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V5 => "v5",
        }
    }

    /// The standard that it is made from.
    pub fn standard(self) -> &'static str {
        match self {
            Self::V3 => "3.1.1",
            Self::V5 => "5.0",
        }
    }

    fn find(name: &str) -> Result<Self, String> {
        match name {
            "v3" => Ok(Self::V3),
            "v5" => Ok(Self::V5),
            _ => Err(format!("table: v3 or v5 and not {name:?}")),
        }
    }
}

/// Whom a statement binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Binds {
    Server,
    Client,
    Both,
}

impl Binds {
    /// Whether a broker has to keep it.
    pub fn server(self) -> bool {
        self != Self::Client
    }

    fn find(name: &str) -> Result<Self, String> {
        match name {
            "server" => Ok(Self::Server),
            "client" => Ok(Self::Client),
            "both" => Ok(Self::Both),
            _ => Err(format!("binds: server, client or both and not {name:?}")),
        }
    }
}

/// Whether a test over the network can tell that a statement is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Observable {
    Yes,
    Partly,
    No,
}

impl Observable {
    fn find(name: &str) -> Result<Self, String> {
        match name {
            "yes" => Ok(Self::Yes),
            "partly" => Ok(Self::Partly),
            "no" => Ok(Self::No),
            _ => Err(format!("observable: yes, partly or no and not {name:?}")),
        }
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The table it stands in.
    pub table: Table,
    /// Its name, once in each table.
    pub id: String,
    /// The section of the standard.
    pub section: String,
    /// Whom it binds.
    pub binds: Binds,
    /// How binding it is, in the standard's words.
    pub level: String,
    /// Whether a test can tell.
    pub observable: Observable,
    /// In the table of 3.1.1: the statement of 5.0 that says the same.
    pub same_as: Option<String>,
    /// What it says.
    pub summary: String,
    /// How a test provokes it, and what it then observes.
    pub how: String,
}

/// What a statement has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Lacks {
    Scenario,
    Code,
}

/// Why a statement has no scenario, or no place in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The table of the statement.
    pub table: Table,
    /// The statement.
    pub id: String,
    /// What it has not.
    pub lacks: Lacks,
    /// Why.
    pub reason: String,
}

/// Both tables, and the exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// All statements: those of 3.1.1, then those of 5.0, each in the order of its file.
    pub all: Vec<Requirement>,
    /// All exceptions.
    pub exceptions: Vec<Exception>,
}

impl Requirements {
    /// The tables that this was built with.
    ///
    /// # Panics
    /// They are broken, which a test prevents.
    pub fn embedded() -> Self {
        let file = |name: &str| {
            let path = format!("requirements/{name}");
            embedded::file(&path).unwrap_or_else(|| panic!("{path} was not built in"))
        };
        Self::parse(file("v3.tsv"), file("v5.tsv"), file("exceptions.tsv"))
            .unwrap_or_else(|error| panic!("spec-tests/requirements/{error}"))
    }

    /// Reads the three files.
    ///
    /// # Errors
    /// The file, the line and what is wrong there.
    pub fn parse(v3: &str, v5: &str, exceptions: &str) -> Result<Self, String> {
        let mut all = statements(Table::V3, v3).map_err(|error| format!("v3.tsv: {error}"))?;
        all.extend(statements(Table::V5, v5).map_err(|error| format!("v5.tsv: {error}"))?);
        let exceptions = reasons(exceptions).map_err(|error| format!("exceptions.tsv: {error}"))?;
        Ok(Self { all, exceptions })
    }

    /// A statement.
    pub fn get(&self, table: Table, id: &str) -> Option<&Requirement> {
        self.all.iter().find(|requirement| requirement.table == table && requirement.id == id)
    }

    /// What a scenario claims for a version. Names that stand in no table, `CAIRN-…`, are left out.
    pub fn claimed(&self, scenario: &Scenario, version: ProtocolVersion) -> Vec<&Requirement> {
        scenario
            .ids(version)
            .into_iter()
            .filter_map(|id| self.get(Table::of(version), id))
            .collect()
    }
}

fn statements(table: Table, text: &str) -> Result<Vec<Requirement>, String> {
    let rows = tsv::Table::parse(text)?;
    rows.demand(&["id", "section", "binds", "level", "observable", "summary", "how"])?;
    let mut known = std::collections::BTreeSet::new();
    rows.map(|_, value| {
        let id = value("id");
        if id.is_empty() || !known.insert(id) {
            return Err(format!("id: {id:?} is empty, or stands here twice"));
        }
        Ok(Requirement {
            table,
            id: id.to_owned(),
            section: value("section").to_owned(),
            binds: Binds::find(value("binds"))?,
            level: value("level").to_owned(),
            observable: Observable::find(value("observable"))?,
            same_as: Some(value("same_as")).filter(|id| !id.is_empty()).map(str::to_owned),
            summary: value("summary").to_owned(),
            how: value("how").to_owned(),
        })
    })
}

fn reasons(text: &str) -> Result<Vec<Exception>, String> {
    let rows = tsv::Table::parse(text)?;
    rows.demand(&["table", "id", "lacks", "reason"])?;
    rows.map(|_, value| {
        let lacks = match value("lacks") {
            "scenario" => Lacks::Scenario,
            "code" => Lacks::Code,
            other => return Err(format!("lacks: scenario or code and not {other:?}")),
        };
        let reason = value("reason").to_owned();
        Ok(Exception {
            table: Table::find(value("table"))?,
            id: value("id").to_owned(),
            lacks,
            reason,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Binds, Observable, Requirements, Table};

    const V3: &str = "id\tsection\tbinds\tlevel\tobservable\tsame_as\tsummary\thow\n\
                      MQTT-1\t1.2\tboth\tMUST\tyes\tMQTT-2\tSay it.\tAsk.\n";
    const V5: &str = "id\tsection\tbinds\tlevel\tobservable\tsummary\thow\n";
    const EXCEPTIONS: &str = "table\tid\tlacks\treason\n";

    #[test]
    fn the_tables_are_read() {
        let all = Requirements::embedded();
        let known = all.get(Table::V5, "MQTT-3.1.2-24").expect("it is in the standard");
        assert_eq!((known.binds, known.observable), (Binds::Server, Observable::Yes));
        assert_eq!(known.section, "3.1.2.11.4");
        assert_eq!(all.get(Table::V3, "U5-6-a"), None);
        let one = Requirements::parse(V3, V5, EXCEPTIONS).unwrap();
        let one = one.get(Table::V3, "MQTT-1").unwrap();
        assert_eq!((one.same_as.as_deref(), one.summary.as_str()), (Some("MQTT-2"), "Say it."));
    }

    #[test]
    fn a_broken_table_says_where() {
        let error = |v3: &str| Requirements::parse(v3, V5, EXCEPTIONS).unwrap_err();
        assert_eq!(
            error(&V3.replace("both", "me")),
            "v3.tsv: line 2: binds: server, client or both and not \"me\""
        );
        assert_eq!(error(&V3.replace("level\t", "")), "v3.tsv: line 2: 8 values for 7 columns");
        assert_eq!(error("id\n"), "v3.tsv: no column section");
    }
}
