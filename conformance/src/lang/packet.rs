//! The part of a statement behind `>` or `<` that names a packet.

use codec::{PacketType, ProtocolVersion};

use super::{
    FieldSpec, Literal, PacketSpec, ParseError, Pattern, Position, RawItem, Value,
    fields::{self, Field, Kind},
    lex::{self, Line, Term, TermValue},
};

/// Who sends the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// `>`: the client, every value must be known.
    Send,
    /// `<`: the broker, values may be patterns.
    Expect,
}

/// Parses `PACKET value… field=value…`.
pub(super) fn packet(line: &mut Line<'_>, direction: Direction) -> Result<PacketSpec, ParseError> {
    let at = line.at();
    let name = line.word();
    let Some(packet) = fields::packet(name) else {
        let known: Vec<_> = fields::PACKETS.iter().map(|(name, _)| *name).collect();
        return Err(ParseError::new(
            at,
            format!(
                "expected raw, closed, nothing or one of {}, \
            found `{name}`",
                known.join(", ")
            ),
        ));
    };
    let mut spec = PacketSpec { packet, version: None, fields: Vec::new() };
    while !line.is_empty() {
        let term = line.term()?;
        if let Some(version) = version_word(packet, &term) {
            spec.version = Some(version);
            continue;
        }
        let given = spec.fields.iter().filter(|known| is_positional(packet, known.field)).count();
        spec.fields.push(field(packet, term, given, direction)?);
    }
    complete(&spec, at, direction)?;
    Ok(spec)
}

fn is_positional(packet: PacketType, field: &Field) -> bool {
    fields::positional(packet).contains(&field.name)
}

fn version_word(packet: PacketType, term: &Term) -> Option<ProtocolVersion> {
    if packet != PacketType::Connect || term.field.is_some() {
        return None;
    }
    match &term.value {
        TermValue::Literal(Literal::Word(word)) => match word.as_str() {
            "v3.1" => Some(ProtocolVersion::V31),
            "v3.1.1" => Some(ProtocolVersion::V311),
            "v5" => Some(ProtocolVersion::V5),
            _ => None,
        },
        _ => None,
    }
}

/// One field; `given` says how many positional values came before.
fn field(
    packet: PacketType,
    term: Term,
    given: usize,
    direction: Direction,
) -> Result<FieldSpec, ParseError> {
    let at = term.at;
    let absent = matches!(term.value, TermValue::Absent);
    let (field, pattern) = match (term.field, term.value) {
        (Some(name), TermValue::Absent) => (named(packet, &name, at)?, Pattern::Absent),
        (Some(name), value) => {
            let field = named(packet, &name, at)?;
            (field, pattern(field, value, at)?)
        }
        (None, TermValue::Literal(Literal::Word(word))) if is_flag(packet, &word, given) => {
            (named(packet, &word, at)?, Pattern::Is(Value::Number(1)))
        }
        (None, value) => {
            let field = next_positional(packet, given, at)?;
            (field, pattern(field, value, at)?)
        }
    };
    let fixed = matches!(pattern, Pattern::Is(_) | Pattern::Variable(_));
    if direction == Direction::Send && !fixed {
        return Err(ParseError::new(
            at,
            format!(
                "{} in a packet that is sent needs a value \
            or a variable",
                field.name
            ),
        ));
    }
    if absent && is_positional(packet, field) {
        return Err(ParseError::new(at, format!("{} is never absent", field.name)));
    }
    Ok(FieldSpec { at, field, pattern })
}

fn named(packet: PacketType, name: &str, at: Position) -> Result<&'static Field, ParseError> {
    fields::find(packet, name).ok_or_else(|| {
        let known: Vec<_> = fields::names(packet).collect();
        let packet = fields::packet_name(packet);
        ParseError::new(
            at,
            format!("{packet} has no field `{name}`; expected one of {}", known.join(", ")),
        )
    })
}

/// Whether a bare word is a field of its own rather than the next positional value: once the
/// positional values that must be there are there, a word that names a flag is that flag.
fn is_flag(packet: PacketType, word: &str, given: usize) -> bool {
    let is_flag = fields::find(packet, word).is_some_and(|field| field.kind == Kind::Number(1));
    is_flag && (packet != PacketType::Publish || given > 0)
}

fn next_positional(
    packet: PacketType,
    given: usize,
    at: Position,
) -> Result<&'static Field, ParseError> {
    let names = fields::positional(packet);
    let name = match names.get(given.min(names.len().saturating_sub(1))) {
        Some(&"…") => names.first(),
        Some(name) if given < names.len() => Some(name),
        _ => None,
    };
    name.and_then(|name| fields::find(packet, name)).ok_or_else(|| {
        let packet = fields::packet_name(packet);
        ParseError::new(at, format!("expected `field=value` or the end of the {packet}"))
    })
}

fn pattern(field: &Field, value: TermValue, at: Position) -> Result<Pattern, ParseError> {
    let literal = match value {
        TermValue::Any => return Ok(Pattern::Any),
        TermValue::Absent => return Ok(Pattern::Absent),
        TermValue::Literal(Literal::Variable(name)) => return Ok(Pattern::Variable(name)),
        TermValue::Literal(literal) => literal,
    };
    let wanted = match (field.kind, literal) {
        (Kind::Number(max), Literal::Word(word)) => return number_pattern(&word, max, at),
        (Kind::Pair | Kind::TopicAndBytes, Literal::Pair(name, value)) => {
            return Ok(Pattern::Is(Value::Pair(name, value)));
        }
        (Kind::Number(_), _) => "a number",
        (Kind::Pair, _) => "`name:\"value\"`",
        (Kind::TopicAndBytes, _) => "`TOPIC:\"payload\"`",
        (_, Literal::Word(word)) => return Ok(Pattern::Is(Value::Bytes(word.into_bytes()))),
        (_, Literal::Bytes(bytes)) => return Ok(Pattern::Is(Value::Bytes(bytes))),
        (_, Literal::Pair(..) | Literal::Variable(_)) => "a text",
    };
    Err(ParseError::new(at, format!("{} is {wanted}", field.name)))
}

fn number_pattern(word: &str, max: u64, at: Position) -> Result<Pattern, ParseError> {
    let one = |word: &str| match lex::number(word) {
        Some(number) if number <= max => Ok(number),
        Some(_) => Err(ParseError::new(
            at,
            format!(
                "`{word}` is above {max}; write larger \
            or forbidden values as raw bytes"
            ),
        )),
        None => Err(ParseError::new(at, format!("expected a number, found `{word}`"))),
    };
    if let Some((low, high)) = word.split_once("..") {
        return Ok(Pattern::Range(one(low)?, one(high)?));
    }
    if word.contains('|') {
        return Ok(Pattern::OneOf(word.split('|').map(one).collect::<Result<_, _>>()?));
    }
    Ok(Pattern::Is(Value::Number(one(word)?)))
}

/// Parses the codes of `closed 0x81|0x82`.
pub(super) fn codes(line: &mut Line<'_>) -> Result<Option<Vec<u64>>, ParseError> {
    if line.is_empty() {
        return Ok(None);
    }
    let at = line.at();
    match number_pattern(line.word(), 0xFF, at)? {
        Pattern::Is(Value::Number(code)) => Ok(Some(vec![code])),
        Pattern::OneOf(codes) => Ok(Some(codes)),
        _ => Err(ParseError::new(at, "expected codes, such as `0x81|0x82`")),
    }
}

/// What a packet cannot do without, and what cannot be there twice.
fn complete(spec: &PacketSpec, at: Position, direction: Direction) -> Result<(), ParseError> {
    let name = fields::packet_name(spec.packet);
    let find = |name: &str| spec.fields.iter().find(|spec| spec.field.name == name);
    let repeats = ["filter", "code", "will_user"];
    let options = ["qos", "no_local", "retain_as_published", "retain_handling"];
    for (index, field) in spec.fields.iter().enumerate() {
        let is_option = spec.packet == PacketType::Subscribe && options.contains(&field.field.name);
        if field.field.property.is_some() || repeats.contains(&field.field.name) {
            continue;
        }
        let earlier = &spec.fields[..index];
        if is_option && !earlier.iter().any(|earlier| earlier.field.name == fields::FILTER) {
            return Err(ParseError::new(
                field.at,
                format!(
                    "{} stands behind the filter it is \
                for",
                    field.field.name
                ),
            ));
        }
        if !is_option && earlier.iter().any(|earlier| earlier.field == field.field) {
            return Err(ParseError::new(
                field.at,
                format!("{} is written twice", field.field.name),
            ));
        }
    }
    if direction == Direction::Expect {
        return Ok(());
    }
    let qos = find("qos").map(|spec| &spec.pattern);
    let qos_0 = qos.is_none_or(|pattern| *pattern == Pattern::Is(Value::Number(0)));
    let missing = match spec.packet {
        PacketType::Publish if find(fields::TOPIC).is_none() => "a topic (`\"\"` if it is empty)",
        PacketType::Publish if !qos_0 && find(fields::ID).is_none() => "`id=`, as its qos is not 0",
        PacketType::Publish if qos_0 && find(fields::ID).is_some() => {
            "no `id=`, as its qos is 0 (or write it as raw bytes)"
        }
        PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp
        | PacketType::Subscribe
        | PacketType::SubAck
        | PacketType::Unsubscribe
        | PacketType::UnsubAck
            if find(fields::ID).is_none() =>
        {
            "`id=`"
        }
        _ => return Ok(()),
    };
    Err(ParseError::new(at, format!("a {name} that is sent needs {missing}")))
}

/// Parses what follows `raw`.
pub(super) fn raw(line: &mut Line<'_>, direction: Direction) -> Result<Vec<RawItem>, ParseError> {
    let items = raw_items(line, direction, 0)?;
    if items.is_empty() {
        return line.error("expected bytes, such as `10 0d`");
    }
    Ok(items)
}

fn raw_items(
    line: &mut Line<'_>,
    direction: Direction,
    depth: usize,
) -> Result<Vec<RawItem>, ParseError> {
    let mut items = Vec::new();
    loop {
        line.skip_space();
        if line.is_empty() {
            if depth > 0 {
                return line.error("expected `]`");
            }
            return Ok(items);
        }
        if line.take("]") {
            if depth == 0 {
                return line.error("this `]` has no `[`");
            }
            return Ok(items);
        }
        items.push(raw_item(line, direction, depth)?);
    }
}

fn raw_item(
    line: &mut Line<'_>,
    direction: Direction,
    depth: usize,
) -> Result<RawItem, ParseError> {
    if line.take("[") {
        return Ok(RawItem::Counted(raw_items(line, direction, depth + 1)?));
    }
    if direction == Direction::Expect && line.take("..") {
        return Ok(RawItem::AnyByte);
    }
    if line.take("s'") {
        return Ok(RawItem::Text(line.hexadecimal()?));
    }
    for (prefix, item) in [
        ("s", RawItem::Text as fn(Vec<u8>) -> RawItem),
        ("t", |bytes| RawItem::Topic(String::from_utf8_lossy(&bytes).into_owned())),
        ("c", |bytes| RawItem::ClientId(String::from_utf8_lossy(&bytes).into_owned())),
    ] {
        if line.rest().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('"')) {
            line.take(prefix);
            let bytes = line.bytes()?.unwrap_or_default();
            return Ok(item(bytes));
        }
    }
    if let Some(bytes) = line.bytes()? {
        return Ok(RawItem::Bytes(bytes));
    }
    match lex::hexadecimal(line.digits()) {
        Some(bytes) if !bytes.is_empty() => Ok(RawItem::Bytes(bytes)),
        _ => line.error(
            "expected pairs of hexadecimal digits, \"text\", s\"…\", s'…', t\"…\", \
            c\"…\", x'…' or `[`",
        ),
    }
}
