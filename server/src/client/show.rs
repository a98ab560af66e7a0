//! Messages for people and programs.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use codec::{PacketId, Property, Publish};
use serde_json::{Map, Value, json};
use tracing_subscriber::fmt::{self, time::FormatTime as _};

use super::args::SubArguments;

/// Writes a message as it is wanted, and a line break.
pub(super) fn show(
    out: &mut impl Write,
    arguments: &SubArguments,
    publish: &Publish,
) -> io::Result<()> {
    if let Some(format) = &arguments.format {
        formatted(out, format, publish)?;
    } else if arguments.json {
        serde_json::to_writer(&mut *out, &object(publish))?;
    } else {
        if arguments.verbose {
            write!(out, "{} ", publish.message.topic_str())?;
        }
        out.write_all(publish.message.payload())?;
    }
    out.write_all(b"\n")
}

/// Seconds since 1970.
fn time_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Date and time, UTC, as ISO 8601 has it.
fn date() -> String {
    let mut text = String::new();
    // A string takes all that is written.
    let _ = fmt::time::SystemTime.format_time(&mut fmt::format::Writer::new(&mut text));
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything of a message. A payload that is no UTF-8 is shown in hexadecimal, under another name.
fn object(publish: &Publish) -> Value {
    let message = &publish.message;
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    put("topic", message.topic_str().into());
    match std::str::from_utf8(message.payload()) {
        Ok(text) => put("payload", text.into()),
        Err(_) => put("payload_hex", hex(message.payload()).into()),
    }
    put("qos", (publish.qos as u8).into());
    put("retain", publish.retain.into());
    put("dup", publish.dup.into());
    put("time", time_s().into());
    let (mut ids, mut user) = (Vec::new(), Vec::new());
    for property in message.properties().iter() {
        match property {
            Property::PayloadFormatIndicator(format) => put("payload_format", (*format).into()),
            Property::MessageExpiryInterval(left) => put("message_expiry", (*left).into()),
            Property::ContentType(text) => put("content_type", text.to_string().into()),
            Property::ResponseTopic(text) => put("response_topic", text.to_string().into()),
            Property::CorrelationData(data) => match std::str::from_utf8(data) {
                Ok(text) => put("correlation_data", text.into()),
                Err(_) => put("correlation_data_hex", hex(data).into()),
            },
            Property::SubscriptionIdentifier(id) => ids.push(*id),
            Property::UserProperty(name, value) => user.push(json!([name, value])),
            _ => {}
        }
    }
    if !ids.is_empty() {
        put("subscription_ids", ids.into());
    }
    if !user.is_empty() {
        put("user_properties", user.into());
    }
    Value::Object(all)
}

/// Puts the parts of a message in the place of `%t` and the others.
fn formatted(out: &mut impl Write, format: &str, publish: &Publish) -> io::Result<()> {
    let message = &publish.message;
    let properties = message.properties();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        match (char, if matches!(char, '%' | '\\') { chars.next() } else { None }) {
            ('%', Some('t')) => write!(out, "{}", message.topic_str())?,
            ('%', Some('p')) => out.write_all(message.payload())?,
            ('%', Some('x')) => write!(out, "{}", hex(message.payload()))?,
            ('%', Some('l')) => write!(out, "{}", message.payload().len())?,
            ('%', Some('q')) => write!(out, "{}", publish.qos as u8)?,
            ('%', Some('r')) => write!(out, "{}", u8::from(publish.retain))?,
            ('%', Some('d')) => write!(out, "{}", u8::from(publish.dup))?,
            ('%', Some('m')) => write!(out, "{}", publish.packet_id.map_or(0, PacketId::get))?,
            ('%', Some('I')) => write!(out, "{}", date())?,
            ('%', Some('U')) => write!(out, "{:.6}", time_s())?,
            ('%', Some(part @ ('E' | 'C' | 'R' | 'D' | 'S' | 'P'))) => {
                let found = properties.iter().filter_map(|property| of_property(part, property));
                write!(out, "{}", found.collect::<Vec<_>>().join(" "))?;
            }
            ('\\', Some('n')) => writeln!(out)?,
            ('\\', Some('t')) => write!(out, "\t")?,
            ('\\', Some('0')) => write!(out, "\0")?,
            ('%' | '\\', Some(other)) => write!(out, "{other}")?,
            (char, _) => write!(out, "{char}")?,
        }
    }
    Ok(())
}

fn of_property(part: char, property: &Property) -> Option<String> {
    match (part, property) {
        ('E', Property::MessageExpiryInterval(left)) => Some(left.to_string()),
        ('C', Property::ContentType(text)) | ('R', Property::ResponseTopic(text)) => {
            Some(text.to_string())
        }
        ('D', Property::CorrelationData(data)) => Some(String::from_utf8_lossy(data).into_owned()),
        ('S', Property::SubscriptionIdentifier(id)) => Some(id.to_string()),
        ('P', Property::UserProperty(name, value)) => Some(format!("{name}:{value}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use codec::{Message, Properties, QoS};

    use super::*;

    fn publish() -> Publish {
        let properties: Properties = [
            Property::MessageExpiryInterval(7),
            Property::CorrelationData(vec![0xff].into()),
            Property::UserProperty("a".into(), "b".into()),
            Property::UserProperty("a".into(), "c".into()),
        ]
        .into_iter()
        .collect();
        let message = Message::new("t/1", &properties, b"hi").unwrap();
        let (packet_id, topic_alias) = (None, None);
        Publish { dup: false, qos: QoS::AtMostOnce, retain: true, packet_id, topic_alias, message }
    }

    #[test]
    fn a_format_is_filled_in() {
        let mut out = Vec::new();
        formatted(&mut out, r"%t\t%p %x %l q%q r%r %E %P 100%% %", &publish()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "t/1\thi 6869 2 q0 r1 7 a:b a:c 100% %");
    }

    #[test]
    fn a_date_is_one_of_iso_8601() {
        let mut out = Vec::new();
        formatted(&mut out, "%I %m", &publish()).unwrap();
        let text = String::from_utf8(out).unwrap();
        let shape: String =
            text.chars().map(|char| if char.is_ascii_digit() { '9' } else { char }).collect();
        assert_eq!(shape, "9999-99-99T99:99:99.999999Z 9");
    }

    #[test]
    fn an_object_has_everything() {
        let object = object(&publish());
        assert_eq!(object["user_properties"], json!([["a", "b"], ["a", "c"]]));
        assert_eq!((&object["payload"], &object["retain"]), (&"hi".into(), &true.into()));
        assert_eq!(
            (&object["message_expiry"], &object["correlation_data_hex"]),
            (&7.into(), &"ff".into())
        );
    }
}
