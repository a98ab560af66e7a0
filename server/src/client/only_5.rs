//! What 5.0 has and its forerunners have not: asking them for it is refused, since it would be left out in silence.

use codec::{Properties, ProtocolVersion};

/// # Errors
/// Something of this is asked for, and the version has none of it.
pub(super) fn check(version: ProtocolVersion, asked: &[(&str, bool)]) -> Result<(), String> {
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        Some((name, _)) if !version.is_v5() => Err(refusal(name)),
        _ => Ok(()),
    }
}

/// # Errors
/// There are properties, and the version has none.
pub(super) fn check_all(version: ProtocolVersion, properties: &Properties) -> Result<(), String> {
    match properties.iter().next() {
        Some(property) if !version.is_v5() => Err(refusal(property.id().name())),
        _ => Ok(()),
    }
}

fn refusal(name: &str) -> String {
    format!("only MQTT 5.0 has {name}; leave it out, or use --protocol 5")
}
