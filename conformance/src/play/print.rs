//! How packets are shown in traces and failures.

use codec::{Packet, ProtocolVersion};

use super::{
    Names,
    facts::{self, Fact},
};
use crate::lang::{FieldSpec, PacketSpec, Pattern, Value, fields};

/// Longer texts are shortened.
const SHOWN_BYTES: usize = 60;

/// A packet with everything it carries. What the expectation leaves to the broker (`$w`, `*`, a
/// range) is shown as the expectation has it, so that a trace is the same in every run.
pub(super) fn packet(
    packet: &Packet,
    version: ProtocolVersion,
    topic: &[u8],
    expected: Option<&PacketSpec>,
    names: &Names,
) -> String {
    let mut out = fields::packet_name(packet.packet_type()).to_owned();
    let facts = facts::facts(packet, version, topic);
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for fact in &facts {
        let name = fact.field.name;
        let index = count(&mut counts, name);
        if is_default(fact, topic) {
            continue;
        }
        let spec = expected.and_then(|spec| {
            spec.fields.iter().filter(|field| field.field.name == name).nth(index)
        });
        let shown = match spec.map(|spec| &spec.pattern) {
            Some(Pattern::Variable(name)) => format!("${name}"),
            Some(Pattern::Any) => "*".to_owned(),
            Some(Pattern::Range(low, high)) => format!("{low}..{high}"),
            _ if name == "assigned_client_id" => "*".to_owned(),
            _ => value(name, &fact.value, names),
        };
        out.push(' ');
        if !fields::positional(packet.packet_type()).contains(&name) {
            out.push_str(name);
            if shown == "1" && matches!(name, "retain" | "dup") {
                continue;
            }
            out.push('=');
        }
        out.push_str(&shown);
    }
    out
}

fn count<'a>(counts: &mut Vec<(&'a str, usize)>, name: &'a str) -> usize {
    if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == name) {
        *count += 1;
        return *count;
    }
    counts.push((name, 0));
    0
}

/// What goes without saying.
pub(super) fn is_default(fact: &Fact, topic: &[u8]) -> bool {
    match (fact.field.name, &fact.value) {
        ("qos" | "retain" | "dup", Value::Number(number)) => *number == 0,
        ("wire_topic", Value::Bytes(bytes)) => bytes == topic,
        _ => false,
    }
}

/// What a field was expected to be.
pub(super) fn pattern(spec: &FieldSpec, names: &Names) -> String {
    let number = |number: &u64| value(spec.field.name, &Value::Number(*number), names);
    match &spec.pattern {
        Pattern::Is(is) => value(spec.field.name, is, names),
        Pattern::Variable(name) => format!("${name} as bound before"),
        Pattern::OneOf(codes) => codes.iter().map(number).collect::<Vec<_>>().join("|"),
        Pattern::Range(low, high) => format!("{low}..{high}"),
        Pattern::Any => "any value".to_owned(),
        Pattern::Absent => "to be absent".to_owned(),
    }
}

/// A value of the field of this name.
pub(super) fn value(name: &str, value: &Value, names: &Names) -> String {
    match value {
        Value::Number(code) if name == fields::CODE => format!("0x{code:02X}"),
        Value::Number(number) => number.to_string(),
        Value::Bytes(bytes) if matches!(name, "topic" | "wire_topic" | "response_topic") => {
            topic(bytes, names)
        }
        Value::Bytes(bytes) => text(bytes, names),
        Value::Pair(first, second) => {
            let first = str::from_utf8(first).ok().filter(|name| is_word(name));
            let first = first.map_or_else(|| text(first_bytes(value), names), str::to_owned);
            format!("{first}:{}", text(second, names))
        }
    }
}

fn first_bytes(value: &Value) -> &[u8] {
    match value {
        Value::Pair(first, _) | Value::Bytes(first) => first,
        Value::Number(_) => &[],
    }
}

fn topic(bytes: &[u8], names: &Names) -> String {
    match str::from_utf8(bytes).map(|topic| names.shown(topic)) {
        Ok(topic) if is_word(&topic) && topic.len() <= SHOWN_BYTES => topic,
        _ => text(bytes, names),
    }
}

/// Whether this can stand without quotes.
fn is_word(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"=|:\\'".contains(c);
    !text.is_empty() && !text.starts_with('$') && text.is_ascii() && text.chars().all(plain)
}

fn text(bytes: &[u8], names: &Names) -> String {
    if let [first, rest @ ..] = bytes
        && rest.len() >= SHOWN_BYTES
        && rest.iter().all(|byte| byte == first)
    {
        return format!("{}*{}", text(&[*first], names), bytes.len());
    }
    let Ok(text) = str::from_utf8(bytes) else {
        return hexadecimal(bytes);
    };
    let text = names.shown(text);
    let mut shown: String = text.chars().take(SHOWN_BYTES).flat_map(escaped).collect();
    if text.chars().count() > SHOWN_BYTES {
        shown.push('…');
        return format!("\"{shown}\"({} bytes)", text.len());
    }
    format!("\"{shown}\"")
}

fn escaped(c: char) -> Vec<char> {
    match c {
        '"' | '\\' => vec!['\\', c],
        '\n' => vec!['\\', 'n'],
        '\r' => vec!['\\', 'r'],
        '\t' => vec!['\\', 't'],
        '\0' => vec!['\\', '0'],
        c if c.is_control() => c.escape_unicode().collect(),
        c => vec![c],
    }
}

/// `x'…'`, shortened.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN_BYTES {
        return format!("x'{digits}…'({} bytes)", bytes.len());
    }
    format!("x'{digits}'")
}
