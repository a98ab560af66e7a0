//! Lines to statements.

use std::time::Duration;

use codec::ProtocolVersion;

use super::{
    Action, Expected, Header, Level, ParseError, Position, Scenario, Setting, Statement,
    lex::{Line, TermValue},
    packet::{self, Direction},
};

/// Parses the text of a scenario.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<Scenario, ParseError> {
    let mut lines = Lines { lines: text.lines().enumerate(), about: None };
    let mut scenario = Scenario {
        headers: Vec::new(),
        core_only: false,
        exact_names: false,
        about: String::new(),
        config: Vec::new(),
        body: Vec::new(),
    };
    let mut next = lines.next();
    while let Some(line) = next.take_if(|line| line.rest().starts_with('[')) {
        header(line, &mut scenario)?;
        next = lines.next();
    }
    if scenario.headers.is_empty() {
        return Err(ParseError::new(
            Position { line: 1, column: 1 },
            "expected a header, such as `[MQTT-3.1.2-8] v5 MUST`",
        ));
    }
    while let Some(mut line) = next.take_if(|line| first_word(line) == "config") {
        line.word();
        scenario.config.append(&mut settings(line)?);
        next = lines.next();
    }
    let mut block = Block { lines: &mut lines, next };
    scenario.body = block.statements(None)?.0;
    scenario.about = lines.about.unwrap_or_default();
    judge(&scenario)?;
    Ok(scenario)
}

/// What only the whole scenario shows.
fn judge(scenario: &Scenario) -> Result<(), ParseError> {
    if let Some(setting) = scenario.config.first()
        && !scenario.core_only
    {
        return Err(ParseError::new(setting.at, "a scenario with `config` is `core-only`"));
    }
    if scenario.body.is_empty() {
        return Err(ParseError::new(Position { line: 1, column: 1 }, "expected statements"));
    }
    commands_are_core_only(&scenario.body, scenario.core_only)
}

/// What cannot be commanded of a live broker is in memory alone.
fn commands_are_core_only(body: &[Statement], core_only: bool) -> Result<(), ParseError> {
    for statement in body {
        match &statement.action {
            Action::Crash | Action::Rights(_) if !core_only => {
                return Err(ParseError::new(
                    statement.at,
                    "a scenario with `crash` or `rights` is `core-only`",
                ));
            }
            Action::Either(branches) => {
                branches.iter().try_for_each(|body| commands_are_core_only(body, core_only))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The lines that are neither empty nor prose; collects the first block of prose on the way.
struct Lines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    about: Option<String>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let mut prose: Vec<&str> = Vec::new();
        let found = self.lines.by_ref().find_map(|(index, text)| {
            let line = Line::new(text, index + 1);
            if let Some(text) = line.rest().strip_prefix('|') {
                prose.push(text.trim());
                return None;
            }
            (!line.is_empty()).then_some(line)
        });
        if !prose.is_empty() {
            self.about.get_or_insert_with(|| prose.join("\n"));
        }
        found
    }
}

fn first_word<'a>(line: &Line<'a>) -> &'a str {
    line.rest().split_whitespace().next().unwrap_or("")
}

fn header(mut line: Line<'_>, scenario: &mut Scenario) -> Result<(), ParseError> {
    let mut header = Header { ids: Vec::new(), versions: Vec::new(), level: Level::Must };
    while line.take("[") {
        let Some((id, _)) = line.rest().split_once(']') else {
            return line.error("expected `]`");
        };
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
            return line.error(format!("`{id}` is no id of a statement"));
        }
        header.ids.push(id.to_owned());
        line.take(id);
        line.take("]");
        line.skip_space();
    }
    loop {
        let at = line.at();
        match line.word() {
            "MUST" => header.level = Level::Must,
            "SHOULD" => header.level = Level::Should,
            "MAY" => header.level = Level::May,
            word => match versions(word) {
                Some(versions) => {
                    header.versions.extend(versions);
                    continue;
                }
                None => {
                    return Err(ParseError::new(
                        at,
                        format!(
                            "expected v3.1, v3.1.1, v3, v5, all \
                        or MUST, SHOULD, MAY, found `{word}`"
                        ),
                    ));
                }
            },
        }
        break;
    }
    if header.versions.is_empty() {
        return line.error("expected a version before the level");
    }
    while !line.is_empty() {
        let at = line.at();
        match line.word() {
            "core-only" => scenario.core_only = true,
            "exact-names" => scenario.exact_names = true,
            word => {
                let message = format!("expected core-only or exact-names, found `{word}`");
                return Err(ParseError::new(at, message));
            }
        }
    }
    scenario.headers.push(header);
    Ok(())
}

/// The versions that a word stands for.
fn versions(word: &str) -> Option<Vec<ProtocolVersion>> {
    Some(match word {
        "v3.1" => vec![ProtocolVersion::V31],
        "v3.1.1" => vec![ProtocolVersion::V311],
        "v3" => vec![ProtocolVersion::V31, ProtocolVersion::V311],
        "v5" => vec![ProtocolVersion::V5],
        "all" => vec![ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5],
        _ => return None,
    })
}

fn settings(mut line: Line<'_>) -> Result<Vec<Setting>, ParseError> {
    let mut settings = Vec::new();
    while !line.is_empty() {
        let term = line.term()?;
        match (term.field, term.value) {
            (Some(key), TermValue::Literal(value)) => {
                settings.push(Setting { at: term.at, key, value });
            }
            _ => return Err(ParseError::new(term.at, "expected `key=value`")),
        }
    }
    Ok(settings)
}

/// Statements up to the end of the file, or of an `either` or `unordered`.
struct Block<'l, 'a> {
    lines: &'l mut Lines<'a>,
    next: Option<Line<'a>>,
}

/// What ended a list of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    File,
    Or,
    Block,
}

impl Block<'_, '_> {
    /// `opened` is where the enclosing `either` or `unordered` stands.
    fn statements(
        &mut self,
        opened: Option<Position>,
    ) -> Result<(Vec<Statement>, Ended), ParseError> {
        let mut statements = Vec::new();
        while let Some(line) = self.next.take() {
            self.next = self.lines.next();
            match (line.rest(), opened) {
                ("or", Some(_)) => return Ok((statements, Ended::Or)),
                ("end", Some(_)) => return Ok((statements, Ended::Block)),
                ("or" | "end", None) => {
                    return line.error("there is no `either` or `unordered` to end");
                }
                _ => statements.push(self.statement(line)?),
            }
        }
        match opened {
            Some(at) => Err(ParseError::new(at, "expected an `end` for this")),
            None => Ok((statements, Ended::File)),
        }
    }

    fn statement(&mut self, mut line: Line<'_>) -> Result<Statement, ParseError> {
        let at = line.at();
        let only = guard(&mut line)?;
        let text = line.rest().to_owned();
        let action = match first_word(&line) {
            "either" => self.either(line)?,
            "unordered" => self.unordered(line)?,
            "config" => return line.error("`config` stands before every other statement"),
            _ => simple(line)?,
        };
        Ok(Statement { at, text, only, action })
    }

    fn either(&mut self, mut line: Line<'_>) -> Result<Action, ParseError> {
        let at = line.at();
        line.word();
        line.end()?;
        let mut branches = Vec::new();
        loop {
            let (branch, end) = self.statements(Some(at))?;
            if let Some(first) = branch.first()
                && !matches!(first.action, Action::Expect(..) | Action::Unordered(_))
            {
                let message = "a branch begins with a `<` statement or with `unordered`";
                return Err(ParseError::new(first.at, message));
            }
            branches.push(branch);
            if end == Ended::Block {
                return Ok(Action::Either(branches));
            }
        }
    }

    fn unordered(&mut self, mut line: Line<'_>) -> Result<Action, ParseError> {
        let at = line.at();
        line.word();
        line.end()?;
        let (body, end) = self.statements(Some(at))?;
        if end == Ended::Or {
            return Err(ParseError::new(at, "`or` belongs to `either`"));
        }
        for statement in &body {
            if !matches!(statement.action, Action::Expect(_, Expected::Packet(_))) {
                let message = "`unordered` holds only packets that are expected";
                return Err(ParseError::new(statement.at, message));
            }
        }
        Ok(Action::Unordered(body))
    }
}

fn guard(line: &mut Line<'_>) -> Result<Option<Vec<ProtocolVersion>>, ParseError> {
    if !line.take("@") {
        return Ok(None);
    }
    let at = line.at();
    let word = line.word();
    let only: Option<Vec<_>> = word.split(',').map(versions).collect();
    match only {
        Some(only) => Ok(Some(only.concat())),
        None => Err(ParseError::new(at, format!("expected versions after `@`, found `{word}`"))),
    }
}

/// A statement on one line.
fn simple(mut line: Line<'_>) -> Result<Action, ParseError> {
    let at = line.at();
    let word = line.word();
    let action = match word {
        "wait" => return wait(line),
        "settle" => Action::Settle,
        "crash" => Action::Crash,
        "rights" => return Ok(Action::Rights(settings(line)?)),
        name if is_client(name) => return client(name.to_owned(), line),
        _ => {
            let message = format!(
                "expected a client's name, wait, settle, either, unordered, crash or \
                rights, found `{word}`"
            );
            return Err(ParseError::new(at, message));
        }
    };
    line.end()?;
    Ok(action)
}

fn is_client(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn wait(mut line: Line<'_>) -> Result<Action, ParseError> {
    let at = line.at();
    let word = line.word();
    line.end()?;
    let ms = match word.strip_suffix("ms") {
        Some(ms) => ms.parse().ok(),
        None => word.strip_suffix('s').and_then(|s| s.parse::<u64>().ok()).map(|s| s * 1000),
    };
    match ms {
        Some(ms) => Ok(Action::Wait(Duration::from_millis(ms))),
        None => Err(ParseError::new(at, "expected a time, such as `2s` or `500ms`")),
    }
}

fn client(name: String, mut line: Line<'_>) -> Result<Action, ParseError> {
    let at = line.at();
    match line.word() {
        ">" if first_word(&line) == "raw" => {
            line.word();
            Ok(Action::SendRaw(name, packet::raw(&mut line, Direction::Send)?))
        }
        ">" => Ok(Action::Send(name, packet::packet(&mut line, Direction::Send)?)),
        "<" => Ok(Action::Expect(name, expected(line)?)),
        "!" => {
            let at = line.at();
            let action = match line.word() {
                "open" => Action::Open(name),
                "drop" => Action::Drop(name),
                word => {
                    let message = format!("expected open or drop, found `{word}`");
                    return Err(ParseError::new(at, message));
                }
            };
            line.end()?;
            Ok(action)
        }
        word => Err(ParseError::new(
            at,
            format!(
                "expected >, < or ! after a client's name, \
            found `{word}`"
            ),
        )),
    }
}

fn expected(mut line: Line<'_>) -> Result<Expected, ParseError> {
    let expected = match first_word(&line) {
        "raw" => {
            line.word();
            return Ok(Expected::Raw(packet::raw(&mut line, Direction::Expect)?));
        }
        "closed" => {
            line.word();
            Expected::Closed(packet::codes(&mut line)?)
        }
        "nothing" => {
            line.word();
            Expected::Nothing
        }
        _ => return Ok(Expected::Packet(packet::packet(&mut line, Direction::Expect)?)),
    };
    line.end()?;
    Ok(expected)
}
