//! Topic patterns with places for what is known of a client.

use regex::Regex;
use session_core::{Level, LevelTest, Pattern, Subject};

/// A topic pattern as it is written, before it is known for whom.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    /// The same for everybody.
    Fixed(Level),
    /// A level made of texts and values.
    Filled(Vec<Part>),
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Value(Variable),
}

/// What is known of a client and may stand in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    ClientId,
    UserName,
    CommonName,
}

impl Variable {
    fn of(self, subject: &Subject) -> Option<&str> {
        match self {
            Self::ClientId => Some(&subject.client_id),
            Self::UserName => subject.user.as_deref(),
            Self::CommonName => subject.common_name.as_deref(),
        }
    }
}

impl Template {
    /// Reads `a/+/${clientid}/${~name}/#`; `named` finds regular expressions.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, named: impl Fn(&str) -> Option<Regex>) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut levels = text.split('/').peekable();
        if text.is_empty() {
            return Err("a topic pattern is not empty".to_owned());
        }
        if text.starts_with("$share/") {
            return Err(format!(
                "`{text}`: a shared subscription is judged by its filter; leave `$share/NAME/` away"
            ));
        }
        while let Some(level) = levels.next() {
            pieces.push(match level {
                "+" => Piece::Fixed(Level::Any),
                "#" if levels.peek().is_none() => Piece::Fixed(Level::Rest),
                "#" => return Err(format!("`#` in `{text}` is not its last level")),
                level => parse_level(text, level, &named)?,
            });
        }
        Ok(Self(pieces))
    }

    /// Reads mosquitto's `a/%c/%u`; only lines that begin with `pattern` have such places.
    pub(crate) fn parse_mosquitto(text: &str, has_places: bool) -> Result<Self, String> {
        if !codec::topic::is_valid_filter(text) {
            return Err(format!("`{text}` is no topic filter"));
        }
        let level = |level: &str| match level {
            "+" => Piece::Fixed(Level::Any),
            "#" => Piece::Fixed(Level::Rest),
            text if has_places && (text.contains("%c") || text.contains("%u")) => {
                Piece::Filled(mosquitto_parts(text))
            }
            text => Piece::Fixed(Level::Is(text.into())),
        };
        Ok(Self(text.split('/').map(level).collect()))
    }

    /// Whether it is the same for everybody.
    pub(crate) fn is_fixed(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Fixed(_)))
    }

    /// The pattern of what a client is allowed; `None` if something that it needs is not known, or cannot stand in a
    /// level.
    pub(crate) fn allowed(&self, subject: &Subject) -> Option<Pattern> {
        let mut levels = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            levels.push(match piece {
                Piece::Fixed(level) => level.clone(),
                Piece::Filled(parts) => Level::Is(within_level(parts, subject)?.into()),
            });
        }
        // A `$` at the beginning is of the broker's own topics, and no client's name makes one.
        match (self.0.first(), levels.first()) {
            (Some(Piece::Filled(_)), Some(Level::Is(text))) if text.starts_with('$') => None,
            _ => Some(Pattern::new(levels)),
        }
    }

    /// The pattern of what a client is denied; `None` if something that it needs is not known. Here a name with `/` is
    /// as many levels as it looks like: what would not fit would be allowed by a later rule.
    pub(crate) fn denied(&self, subject: &Subject) -> Option<Pattern> {
        let mut levels = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            match piece {
                Piece::Fixed(level) => levels.push(level.clone()),
                Piece::Filled(parts) => {
                    let text = filled(parts, subject)?;
                    levels.extend(text.split('/').map(|level| Level::Is(level.into())));
                }
            }
        }
        Some(Pattern::new(levels))
    }
}

/// What a client says of itself stays within its level, and is no wildcard there.
fn within_level(parts: &[Part], subject: &Subject) -> Option<String> {
    let is_level = |part: &Part| match part {
        Part::Text(_) => true,
        Part::Value(variable) => variable
            .of(subject)
            .is_some_and(|value| !value.is_empty() && !value.contains(['/', '+', '#', '\0'])),
    };
    if parts.iter().all(is_level) { filled(parts, subject) } else { None }
}

/// The text of a level, whatever is in it.
fn filled(parts: &[Part], subject: &Subject) -> Option<String> {
    let mut level = String::new();
    for part in parts {
        level.push_str(match part {
            Part::Text(text) => text,
            Part::Value(variable) => variable.of(subject).filter(|value| !value.is_empty())?,
        });
    }
    Some(level)
}

fn parse_level(
    text: &str,
    level: &str,
    named: &impl Fn(&str) -> Option<Regex>,
) -> Result<Piece, String> {
    if let Some(name) = level.strip_prefix("${~").and_then(|rest| rest.strip_suffix('}')) {
        let regex = named(name).ok_or(format!("there is no `{name}` in [patterns]"))?;
        let text = format!("~{name} {}", regex.as_str());
        let test = LevelTest::new(&text, move |level| regex.is_match(level));
        return Ok(Piece::Fixed(Level::Passes(test)));
    }
    if level.contains(['+', '#']) {
        return Err(format!("a wildcard in `{text}` is not alone in its level"));
    }
    let mut parts = Vec::new();
    let mut rest = level;
    while let Some((before, behind)) = rest.split_once("${") {
        let (name, behind) =
            behind.split_once('}').ok_or(format!("a `${{` in `{text}` has no `}}`"))?;
        let variable = match name {
            "clientid" => Variable::ClientId,
            "username" => Variable::UserName,
            "cn" => Variable::CommonName,
            other => {
                return Err(format!(
                    "`${{{other}}}` in `{text}` is none of ${{clientid}}, ${{username}}, ${{cn}}, or a whole level \
                     ${{~name}}"
                ));
            }
        };
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
        }
        // Two in one level would let one client have a level that is another's.
        if parts.iter().any(|part| matches!(part, Part::Value(_))) {
            return Err(format!("a level of `{text}` has two places; it may have one"));
        }
        parts.push(Part::Value(variable));
        rest = behind;
    }
    if parts.is_empty() {
        return Ok(Piece::Fixed(Level::Is(level.into())));
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(Piece::Filled(parts))
}

fn mosquitto_parts(level: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = level;
    while let Some(at) = [rest.find("%c"), rest.find("%u")].into_iter().flatten().min() {
        let (before, place) = rest.split_at(at);
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
        }
        let is_client_id = place.starts_with("%c");
        parts.push(Part::Value(if is_client_id { Variable::ClientId } else { Variable::UserName }));
        rest = place.get(2..).unwrap_or_default();
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    parts
}
