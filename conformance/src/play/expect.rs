//! Whether a packet is the one that was expected.

use codec::{PacketType, ProtocolVersion};

use super::{build::Context, facts::Fact, print};
use crate::lang::{FieldSpec, PacketSpec, Pattern, Value, fields};

/// What a packet that was as expected has bound.
pub(super) type Bindings = Vec<(String, Value)>;

/// A field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) field: String,
    /// What it had to be.
    wanted: String,
    /// What it is; `None` if it is absent.
    found: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, it is ", self.field, self.wanted)?;
        f.write_str(self.found.as_deref().unwrap_or("absent"))
    }
}

/// Compares what a packet carries with what it has to.
///
/// # Errors
/// Each field that differs.
pub(super) fn compare(
    spec: &PacketSpec,
    facts: &[Fact],
    context: &Context<'_>,
) -> Result<Bindings, Vec<Difference>> {
    let mut comparison = Comparison { context, bindings: Vec::new(), differences: Vec::new() };
    let mut seen: Vec<&str> = Vec::new();
    for field in &spec.fields {
        let name = field.field.name;
        if seen.contains(&name) || !on_the_wire(spec.packet, name, context.version) {
            continue;
        }
        seen.push(name);
        let wanted: Vec<_> = spec.fields.iter().filter(|f| f.field.name == name).collect();
        let found: Vec<_> =
            facts.iter().filter(|fact| fact.field.name == name).map(|fact| &fact.value).collect();
        comparison.field(name, &wanted, &found);
    }
    if spec.fields.iter().all(|field| field.field.name != fields::CODE) {
        comparison.default_code(spec.packet, facts);
    }
    match comparison.differences {
        differences if differences.is_empty() => Ok(comparison.bindings),
        differences => Err(differences),
    }
}

/// Whether a version's packet has this field at all.
fn on_the_wire(packet: PacketType, name: &str, version: ProtocolVersion) -> bool {
    match (packet, name) {
        (PacketType::UnsubAck, fields::CODE) => version.is_v5(),
        (PacketType::ConnAck, "session") => version != ProtocolVersion::V31,
        _ => true,
    }
}

struct Comparison<'a> {
    context: &'a Context<'a>,
    bindings: Bindings,
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn field(&mut self, name: &str, wanted: &[&FieldSpec], found: &[&Value]) {
        let whole_list = matches!(name, "user" | "subscription_id" | fields::CODE);
        if wanted.iter().any(|spec| spec.pattern == Pattern::Absent) {
            if !found.is_empty() {
                self.differs(name, "to be absent", found);
            }
            return;
        }
        if whole_list && wanted.len() != found.len() {
            let wanted = format!("exactly {} of it", wanted.len());
            return self.differs(name, &wanted, found);
        }
        let mut found_in_order = found.to_vec();
        if name == "subscription_id" {
            self.align(wanted, &mut found_in_order);
        }
        for (index, spec) in wanted.iter().enumerate() {
            let value = found_in_order.get(index).copied();
            if !value.is_some_and(|value| self.fits(spec, value)) {
                let pattern = print::pattern(spec, self.context.names);
                self.differs(name, &pattern, found);
                return;
            }
        }
    }

    /// Puts the values that are written as numbers where they are expected; the order of
    /// Subscription Identifiers has no meaning.
    fn align(&self, wanted: &[&FieldSpec], found: &mut [&Value]) {
        for (index, spec) in wanted.iter().enumerate() {
            let Pattern::Is(value) = &spec.pattern else { continue };
            if let Some(at) = found.iter().skip(index).position(|found| *found == value) {
                found.swap(index, index + at);
            }
        }
    }

    fn fits(&mut self, spec: &FieldSpec, found: &Value) -> bool {
        match (&spec.pattern, found) {
            (Pattern::Is(value), _) => self.context.rooted(spec.field.kind, value) == *found,
            (Pattern::Any, _) => true,
            (Pattern::OneOf(numbers), Value::Number(number)) => numbers.contains(number),
            (Pattern::Range(low, high), Value::Number(number)) => (low..=high).contains(&number),
            (Pattern::Variable(name), _) => {
                let known = self.bindings.iter().find(|(bound, _)| bound == name);
                let known = known.map(|(_, value)| value);
                match known.or_else(|| self.context.variables.get(name)) {
                    Some(value) => value == found,
                    None => {
                        self.bindings.push((name.clone(), found.clone()));
                        true
                    }
                }
            }
            (Pattern::OneOf(_) | Pattern::Range(..) | Pattern::Absent, _) => false,
        }
    }

    /// An acknowledgement without a written code is a success.
    fn default_code(&mut self, packet: PacketType, facts: &[Fact]) {
        let may_fail = matches!(
            packet,
            PacketType::ConnAck
                | PacketType::PubAck
                | PacketType::PubRec
                | PacketType::PubRel
                | PacketType::PubComp
        );
        let code = facts.iter().find(|fact| fact.field.name == fields::CODE).map(|f| &f.value);
        let limit = if self.context.version.is_v5() { 0x80 } else { 1 };
        if let Some(value @ Value::Number(code)) = code
            && may_fail
            && *code >= limit
        {
            self.differs(fields::CODE, "success", &[value]);
        }
    }

    fn differs(&mut self, name: &str, wanted: &str, found: &[&Value]) {
        let found = found.iter().map(|value| print::value(name, value, self.context.names));
        let found = found.reduce(|all, value| format!("{all}, {value}"));
        self.differences.push(Difference {
            field: name.to_owned(),
            wanted: wanted.to_owned(),
            found,
        });
    }
}
