//! What `cairnmq pub` and `cairnmq sub` are asked.

use std::{env, fs, os::unix::ffi::OsStringExt, path::PathBuf};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use codec::{Connect, Message, Properties, Property, ProtocolVersion, QoS, Will};

use super::only_5;

/// Where the broker is, and who connects.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectionArguments {
    /// mqtt://HOST:PORT, mqtts:// (TLS), ws://HOST:PORT/PATH, wss://, or unix:///PATH.
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883", env = "CAIRNMQ_URL")]
    pub(crate) url: String,
    /// The broker's host, instead of the one in the URL.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// The broker's port, instead of the one in the URL.
    #[arg(short, long)]
    pub(crate) port: Option<u16>,
    /// The version of MQTT.
    #[arg(long, value_enum, default_value = "5")]
    pub(crate) protocol: Version,
    /// Client Identifier; the broker gives one if it is empty (before 5.0 it is made up here).
    #[arg(short = 'i', long, value_name = "ID", default_value = "")]
    pub(crate) client_id: String,
    /// User Name.
    #[arg(short, long, value_name = "NAME", env = "CAIRNMQ_USERNAME")]
    pub(crate) username: Option<String>,
    /// Password; others can see it in the list of processes, but not one of a file or of the variable
    /// CAIRNMQ_PASSWORD, which is taken if neither is given.
    // Not an `env` of clap's: a file would then conflict with the variable.
    #[arg(short = 'P', long)]
    password: Option<String>,
    /// A file with the password.
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// Keep Alive, seconds.
    #[arg(short = 'k', long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) keep_alive: u16,
    /// Go on with an earlier session of this client instead of a new one (Clean Start off).
    #[arg(short = 'c', long)]
    pub(crate) keep_session: bool,
    /// For how long the broker keeps the session afterwards, seconds (5.0); with --keep-session for ever if nothing
    /// is said.
    #[arg(long, value_name = "SECONDS")]
    session_expiry: Option<u32>,
    /// Messages of QoS 1 and 2 that the broker may send before the first is acknowledged (5.0).
    #[arg(long, value_name = "N")]
    receive_maximum: Option<u16>,
    /// The largest packet that is taken, bytes (5.0).
    #[arg(long, value_name = "BYTES")]
    packet_max: Option<u32>,
    /// Topic Aliases that the broker may use (5.0).
    #[arg(long, value_name = "N")]
    topic_alias_max: Option<u16>,
    /// Ask for Response Information (5.0).
    #[arg(long)]
    request_response_information: bool,
    /// Ask for no reasons in words (5.0).
    #[arg(long)]
    no_problem_information: bool,
    /// A User Property of CONNECT (5.0); may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    connect_property: Vec<(String, String)>,
    /// Authentication Method (5.0), of one step: whatever needs more is refused here.
    #[arg(long, value_name = "NAME")]
    auth_method: Option<String>,
    /// Authentication Data (5.0).
    #[arg(long, value_name = "TEXT", requires = "auth_method")]
    auth_data: Option<String>,
    #[command(flatten)]
    will: WillArguments,
    /// Authorities that the broker's certificate is checked by, PEM; those that browsers trust if it is not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,
    /// Believe any certificate: whoever is in between can read and change everything. For tests.
    #[arg(long, conflicts_with = "cafile")]
    pub(crate) insecure: bool,
    /// The client's certificate chain, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of the client's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// How long to wait for the connection and its CONNACK, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: u32,
}

/// The Will.
#[derive(Args, Clone, Debug)]
struct WillArguments {
    /// Topic of the Will, which the broker publishes if the connection ends without a word.
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Its payload.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "will_topic")]
    will_payload: String,
    /// Its QoS.
    #[arg(long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), requires = "will_topic")]
    will_qos: u8,
    /// It is retained.
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
    /// How long the broker waits before it publishes it, seconds (5.0).
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "will_topic")]
    will_delay: u32,
    /// Message Expiry Interval of the Will, seconds (5.0).
    #[arg(long, value_name = "SECONDS", requires = "will_topic")]
    will_expiry: Option<u32>,
    /// Content Type of the Will (5.0).
    #[arg(long, value_name = "TYPE", requires = "will_topic")]
    will_content_type: Option<String>,
    /// Response Topic of the Will (5.0).
    #[arg(long, value_name = "TOPIC", requires = "will_topic")]
    will_response_topic: Option<String>,
    /// Correlation Data of the Will (5.0).
    #[arg(long, value_name = "TEXT", requires = "will_topic")]
    will_correlation_data: Option<String>,
    /// Payload Format Indicator of the Will (5.0).
    #[arg(long, value_enum, requires = "will_topic")]
    will_format: Option<Format>,
    /// A User Property of the Will (5.0); may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, requires = "will_topic")]
    will_property: Vec<(String, String)>,
}

/// What `cairnmq pub` is asked.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cairnmq pub -t home/light -m on
  cairnmq pub -t sensor/1 -f reading.bin -q 1 --retain
  tail -f log | cairnmq pub -t logs --lines --url mqtts://broker:8883 --cafile ca.pem")]
#[group(id = "payload", required = true, multiple = false, args = ["message", "file", "lines", "null"])]
pub(crate) struct PubArguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// Topic Name.
    #[arg(short, long)]
    topic: String,
    /// The payload.
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// The payload is what this file holds; - is the standard input.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Each line of the standard input is a message.
    #[arg(short, long)]
    pub(crate) lines: bool,
    /// The payload is empty; with --retain, the retained message of the topic goes.
    #[arg(short, long)]
    pub(crate) null: bool,
    /// Quality of Service.
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// The message is retained.
    #[arg(short, long)]
    pub(crate) retain: bool,
    /// Publish it so many times.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "lines")]
    pub(crate) repeat: u64,
    /// Between two of them, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, conflicts_with = "lines")]
    pub(crate) delay: u64,
    /// Message Expiry Interval, seconds (5.0).
    #[arg(long, value_name = "SECONDS")]
    message_expiry: Option<u32>,
    /// Content Type (5.0).
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Response Topic (5.0).
    #[arg(long, value_name = "TOPIC")]
    response_topic: Option<String>,
    /// Correlation Data (5.0).
    #[arg(long, value_name = "TEXT")]
    correlation_data: Option<String>,
    /// Payload Format Indicator (5.0).
    #[arg(long, value_enum)]
    payload_format: Option<Format>,
    /// Topic Alias (5.0): the topic is sent with the first message only.
    #[arg(long, value_name = "N")]
    pub(crate) topic_alias: Option<u16>,
    /// A User Property (5.0); may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// Say when nobody subscribes to the topic.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// What `cairnmq sub` is asked.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cairnmq sub -t 'home/#' -v
  cairnmq sub -t '$share/workers/jobs' -q 1 --json
  cairnmq sub -t answers/me -C 1 -W 5

In --format, %t is the topic, %p the payload, %x the payload in hexadecimal, %l its length, %q the QoS, %r RETAIN, %d
DUP, %m the Packet Identifier, %I the time as a date, %U in seconds, %E the expiry that is left, %C the Content Type, %R the Response Topic, %D the Correlation
Data, %S the Subscription Identifiers, %P the User Properties, %% a percent sign; \\n, \\t and \\0 are what they are
elsewhere.
Exit status: 0 after the last message, 1 if something is wrong, 27 if --wait is over.")]
pub(crate) struct SubArguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// A Topic Filter; may be given more than once.
    #[arg(short, long = "topic", value_name = "FILTER", required = true)]
    pub(crate) topics: Vec<String>,
    /// Topic Filters whose messages are not shown; may be given more than once.
    #[arg(short = 'T', long = "filter-out", value_name = "FILTER")]
    pub(crate) filter_out: Vec<String>,
    /// Topic Filters to unsubscribe from at first; with --keep-session.
    #[arg(short = 'U', long = "unsubscribe", value_name = "FILTER")]
    pub(crate) unsubscribe: Vec<String>,
    /// Quality of Service.
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Nothing that this client publishes itself (5.0).
    #[arg(long)]
    pub(crate) no_local: bool,
    /// RETAIN as it was published (5.0).
    #[arg(long)]
    pub(crate) retain_as_published: bool,
    /// Retained messages: 0 always, 1 if the subscription is new, 2 never (5.0).
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) retain_handling: u8,
    /// Subscription Identifier (5.0).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=268_435_455))]
    pub(crate) subscription_id: Option<u32>,
    /// Show no retained message of the time before.
    #[arg(short = 'R', long)]
    pub(crate) no_retained: bool,
    /// Show the topic before the payload.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Show messages in this form; see below.
    #[arg(short = 'F', long, conflicts_with_all = ["verbose", "json"])]
    pub(crate) format: Option<String>,
    /// An object of JSON for each message.
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) json: bool,
    /// End after so many messages.
    #[arg(short = 'C', long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after so long, seconds, with status 27.
    #[arg(short = 'W', long, value_name = "SECONDS")]
    pub(crate) wait: Option<u32>,
    /// End when the broker has acknowledged the subscriptions.
    #[arg(short = 'E', long)]
    pub(crate) exit_after_suback: bool,
}

/// A version of MQTT.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Version {
    /// 3.1.
    #[value(name = "3.1")]
    V31,
    /// 3.1.1.
    #[value(name = "3.1.1")]
    V311,
    /// 5.0.
    #[value(name = "5", alias = "5.0")]
    V5,
}

/// Payload Format Indicator.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Any bytes.
    Bytes,
    /// UTF-8.
    Utf8,
}

impl Version {
    pub(crate) const fn codec(self) -> ProtocolVersion {
        match self {
            Self::V31 => ProtocolVersion::V31,
            Self::V311 => ProtocolVersion::V311,
            Self::V5 => ProtocolVersion::V5,
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn qos(level: u8) -> QoS {
    QoS::from_bits(level).unwrap_or_default()
}

fn user_properties(all: &[(String, String)]) -> impl Iterator<Item = Property> {
    all.iter().map(|(name, value)| Property::UserProperty((**name).into(), (**value).into()))
}

impl ConnectionArguments {
    /// The CONNECT packet.
    ///
    /// # Errors
    /// The password cannot be read, or the Will is none.
    pub(crate) fn connect(&self, clean_start: bool) -> Result<Connect, String> {
        let version = self.protocol.codec();
        let is_kept = self.keep_session && version.is_v5();
        let expiry = self.session_expiry.or(is_kept.then_some(u32::MAX));
        let optional = [
            expiry.map(Property::SessionExpiryInterval),
            self.receive_maximum.map(Property::ReceiveMaximum),
            self.packet_max.map(Property::MaximumPacketSize),
            self.topic_alias_max.map(Property::TopicAliasMaximum),
            self.request_response_information.then_some(Property::RequestResponseInformation(true)),
            self.no_problem_information.then_some(Property::RequestProblemInformation(false)),
            self.auth_method.as_deref().map(|name| Property::AuthenticationMethod(name.into())),
            self.auth_data
                .as_ref()
                .map(|text| Property::AuthenticationData(text.as_bytes().to_vec().into())),
        ];
        let properties = optional.into_iter().flatten();
        let properties = properties.chain(user_properties(&self.connect_property)).collect();
        only_5::check_all(version, &properties)?;
        let password = self.password()?;
        self.check_names(version, password.is_some())?;
        let client_id = match version {
            ProtocolVersion::V31 if self.client_id.is_empty() => {
                format!("cairnmq-{}", std::process::id())
            }
            _ => self.client_id.clone(),
        };
        Ok(Connect {
            version,
            bridge: false,
            clean_start,
            keep_alive_s: self.keep_alive,
            client_id: client_id.into(),
            will: self.will.will(version)?.map(Box::new),
            user_name: self.username.as_deref().map(Into::into),
            password,
            properties,
        })
    }

    /// What 5.0 allows, and its forerunners do not.
    fn check_names(&self, version: ProtocolVersion, has_password: bool) -> Result<(), String> {
        if version.is_v5() {
            return Ok(());
        }
        if has_password && self.username.is_none() {
            return Err("before MQTT 5.0 a password needs a User Name; give --username".to_owned());
        }
        if self.keep_session && self.client_id.is_empty() {
            return Err("a session is kept for a Client Identifier; give --client-id".to_owned());
        }
        Ok(())
    }

    fn password(&self) -> Result<Option<Bytes>, String> {
        let Some(path) = &self.password_file else {
            let given = self.password.as_ref().map(|text| text.as_bytes().to_vec());
            let given =
                given.or_else(|| env::var_os("CAIRNMQ_PASSWORD").map(OsStringExt::into_vec));
            return Ok(given.map(Into::into));
        };
        let read =
            fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        Ok(Some(read?.trim_ascii_end().to_vec().into()))
    }
}

impl WillArguments {
    fn will(&self, version: ProtocolVersion) -> Result<Option<Will>, String> {
        let Some(topic) = &self.will_topic else { return Ok(None) };
        let optional = [
            self.will_format.map(|format| Property::PayloadFormatIndicator(format as u8)),
            self.will_expiry.map(Property::MessageExpiryInterval),
            self.will_content_type.as_deref().map(|text| Property::ContentType(text.into())),
            self.will_response_topic.as_deref().map(|text| Property::ResponseTopic(text.into())),
            self.will_correlation_data
                .as_ref()
                .map(|text| Property::CorrelationData(text.as_bytes().to_vec().into())),
        ];
        let properties = optional.into_iter().flatten();
        let properties: Properties =
            properties.chain(user_properties(&self.will_property)).collect();
        only_5::check_all(version, &properties)?;
        only_5::check(version, &[("Will Delay Interval", self.will_delay > 0)])?;
        let message = Message::new(topic, &properties, self.will_payload.as_bytes())
            .map_err(|error| format!("this Will cannot be sent: {error}"))?;
        let (qos, retain, delay_s) = (qos(self.will_qos), self.will_retain, self.will_delay);
        Ok(Some(Will { qos, retain, delay_s, message }))
    }
}

/// What all messages of a run have in common.
pub(crate) struct Template {
    pub(crate) topic: String,
    pub(crate) properties: Properties,
    pub(crate) retain: bool,
    pub(crate) topic_alias: Option<u16>,
}

impl PubArguments {
    pub(crate) fn qos(&self) -> QoS {
        qos(self.qos)
    }

    /// What all messages have in common.
    ///
    /// # Errors
    /// The topic is none, or the version of MQTT has not what is wanted.
    pub(crate) fn template(&self) -> Result<Template, String> {
        if !codec::topic::is_valid_name(&self.topic) {
            return Err(format!(
                "{:?} is no Topic Name: it may not be empty, nor hold + or #",
                self.topic
            ));
        }
        let optional = [
            self.payload_format.map(|format| Property::PayloadFormatIndicator(format as u8)),
            self.message_expiry.map(Property::MessageExpiryInterval),
            self.content_type.as_deref().map(|text| Property::ContentType(text.into())),
            self.response_topic.as_deref().map(|text| Property::ResponseTopic(text.into())),
            self.correlation_data
                .as_ref()
                .map(|text| Property::CorrelationData(text.as_bytes().to_vec().into())),
        ];
        let properties = optional.into_iter().flatten();
        let properties = properties.chain(user_properties(&self.property)).collect();
        let version = self.connection.protocol.codec();
        only_5::check_all(version, &properties)?;
        only_5::check(version, &[("Topic Alias", self.topic_alias.is_some())])?;
        let (topic, retain) = (self.topic.clone(), self.retain);
        Ok(Template { topic, properties, retain, topic_alias: self.topic_alias })
    }
}

impl SubArguments {
    pub(crate) fn qos(&self) -> QoS {
        qos(self.qos)
    }

    /// What is wrong before anybody is asked.
    ///
    /// # Errors
    /// A Topic Filter is none, or the version of MQTT has not what is wanted.
    pub(crate) fn check(&self) -> Result<(), String> {
        let all = self.topics.iter().chain(&self.filter_out).chain(&self.unsubscribe);
        for filter in all {
            let plain = match codec::topic::split_shared(filter) {
                Some(Ok((_, plain))) => plain,
                Some(Err(())) => "",
                None => filter,
            };
            if !codec::topic::is_valid_filter(plain) {
                return Err(format!(
                    "{filter:?} is no Topic Filter: + stands for one whole level, # for all that follow"
                ));
            }
        }
        only_5::check(
            self.connection.protocol.codec(),
            &[
                ("No Local", self.no_local),
                ("Retain As Published", self.retain_as_published),
                ("Retain Handling", self.retain_handling > 0),
                ("Subscription Identifier", self.subscription_id.is_some()),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    #[test]
    fn every_option_is_in_the_connect() {
        let line = "cairnmq sub -t t -i me -u alice -P secret -k 7 -c --session-expiry 5 --receive-maximum 6 \
                    --packet-max 700 --topic-alias-max 8 --request-response-information \
                    --no-problem-information --connect-property a=b --auth-method m --auth-data d \
                    --will-topic w --will-payload bye --will-qos 2 --will-retain --will-delay 9 \
                    --will-expiry 10 --will-content-type c --will-response-topic r \
                    --will-correlation-data x --will-format utf8 --will-property p=q";
        let Some(Command::Sub(arguments)) = Arguments::parse_from(line.split_whitespace()).command
        else {
            panic!("no sub")
        };
        let connection = &arguments.connection;
        let connect = connection.connect(!connection.keep_session).unwrap();
        assert_eq!(
            (&*connect.client_id, connect.keep_alive_s, connect.clean_start),
            ("me", 7, false)
        );
        assert_eq!(connect.user_name.as_deref(), Some("alice"));
        assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
        let properties: Vec<Property> = connect.properties.iter().cloned().collect();
        assert_eq!(
            properties,
            [
                Property::SessionExpiryInterval(5),
                Property::ReceiveMaximum(6),
                Property::MaximumPacketSize(700),
                Property::TopicAliasMaximum(8),
                Property::RequestResponseInformation(true),
                Property::RequestProblemInformation(false),
                Property::AuthenticationMethod("m".into()),
                Property::AuthenticationData(b"d".to_vec().into()),
                Property::UserProperty("a".into(), "b".into()),
            ]
        );
        let will = connect.will.unwrap();
        assert_eq!((will.qos, will.retain, will.delay_s), (QoS::ExactlyOnce, true, 9));
        assert_eq!((will.message.topic_str(), will.message.payload()), ("w", &b"bye"[..]));
        assert_eq!(will.message.properties().iter().count(), 6);
    }

    /// What 5.0 alone has is not left out in silence.
    #[test]
    fn older_versions_are_not_asked_for_what_they_have_not() {
        for (more, wanted) in [
            ("--session-expiry 5", "Session Expiry Interval"),
            ("--connect-property a=b", "User Property"),
            ("--will-topic w --will-delay 1", "Will Delay Interval"),
            ("--will-topic w --will-expiry 1", "Message Expiry Interval"),
            ("--no-local", "No Local"),
            ("--retain-handling 1", "Retain Handling"),
            ("--subscription-id 1", "Subscription Identifier"),
            ("-P secret", "--username"),
            ("-c", "--client-id"),
        ] {
            let line = format!("cairnmq sub -t t {more} --protocol");
            for (version, is_right) in [("3.1.1", false), ("3.1", false), ("5", true)] {
                let line = line.split_whitespace().chain([version]);
                let Some(Command::Sub(arguments)) = Arguments::parse_from(line).command else {
                    panic!("no sub")
                };
                let connect = arguments.connection.connect(true);
                let judged = arguments.check().and(connect);
                assert_eq!(judged.is_ok(), is_right, "{more} {version}");
                assert!(judged.err().is_none_or(|error| error.contains(wanted)), "{more}");
            }
        }
    }

    #[test]
    fn a_password_of_a_file_has_no_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret\n").unwrap();
        let line = ["cairnmq", "sub", "-t", "t", "--password-file", file.path().to_str().unwrap()];
        let Some(Command::Sub(arguments)) = Arguments::parse_from(line).command else {
            panic!("no sub")
        };
        let connect = arguments.connection.connect(true).unwrap();
        assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
    }
}
