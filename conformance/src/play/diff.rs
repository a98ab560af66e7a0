//! What was expected beside what came, field by field.

use codec::PacketType;

use super::{Names, expect::Difference, facts::Fact, print};
use crate::lang::{PacketSpec, Pattern, fields};

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name; `packet` for the kind of packet, or what came in its place.
    pub field: String,
    /// What it must be; empty if anything is right.
    pub expected: String,
    /// What it is; empty if it is absent.
    pub received: String,
    /// Whether this is what is wrong.
    pub differs: bool,
}

impl Row {
    pub(super) fn new(field: &str, expected: &str, received: &str, differs: bool) -> Self {
        let (expected, received) = (expected.to_owned(), received.to_owned());
        Self { field: field.to_owned(), expected, received, differs }
    }

    /// Something else came than a packet of this kind.
    pub(super) fn other(expected: &str, received: &str) -> Self {
        Self::new("packet", expected, received, true)
    }
}

/// A packet that is not as it must be.
pub(super) fn of(
    spec: &PacketSpec,
    (received, facts): (PacketType, &[Fact]),
    topic: &[u8],
    differences: &[Difference],
    names: &Names,
) -> Vec<Row> {
    let differs = received != spec.packet;
    let kinds = (fields::packet_name(spec.packet), fields::packet_name(received));
    let mut rows = vec![Row::new("packet", kinds.0, kinds.1, differs)];
    let mut known: Vec<&str> = Vec::new();
    // As expected, then what came besides.
    let expected = spec.fields.iter().map(|field| field.field.name);
    let besides = facts.iter().filter(|fact| !print::is_default(fact, topic));
    for name in expected.chain(besides.map(|fact| fact.field.name)) {
        if known.contains(&name) {
            continue;
        }
        known.push(name);
        let wanted = spec.fields.iter().filter(|field| field.field.name == name);
        let mut wanted: Vec<_> = wanted
            .map(|field| match &field.pattern {
                Pattern::Variable(name) => format!("${name}"),
                Pattern::Any => "*".to_owned(),
                _ => print::pattern(field, names),
            })
            .collect();
        let differs = differences.iter().any(|difference| difference.field == name);
        if wanted.is_empty() && differs {
            wanted.push("success".to_owned());
        }
        let found = facts.iter().filter(|fact| fact.field.name == name);
        let found: Vec<_> = found.map(|fact| print::value(name, &fact.value, names)).collect();
        rows.push(Row::new(name, &wanted.join(" "), &found.join(" "), differs));
    }
    rows
}

/// The end of a connection as scenarios write it.
pub(super) fn closed(codes: Option<&[u64]>) -> String {
    let codes: Vec<_> = codes.unwrap_or_default().iter().map(|c| format!("0x{c:02X}")).collect();
    match codes.is_empty() {
        true => "closed".to_owned(),
        false => format!("closed {}", codes.join("|")),
    }
}

/// Bytes as scenarios write them; `None` is any.
pub(super) fn raw(bytes: &[Option<u8>]) -> String {
    let shown = bytes.iter().map(|byte| byte.map_or("..".to_owned(), |byte| format!("{byte:02x}")));
    format!("x'{}'", shown.collect::<String>())
}
