//! `config` lines to the configuration of a simulated broker.

use codec::QoS;
use session_core::{Authentication, DeniedPublish, QueueFull, ShardConfig, ShardId, ShardMap};

use super::Authenticator;
use crate::lang::{Literal, ParseError, Setting};

/// What `config` lines decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The configuration of each shard, but for its id.
    pub shard: ShardConfig,
    /// Who answers questions.
    pub authenticator: Authenticator,
}

impl Config {
    /// The configuration of a broker of so many shards.
    ///
    /// # Errors
    /// A key or value that there is not, with its place.
    pub fn new(shards: u16, settings: &[Setting]) -> Result<Self, ParseError> {
        let map = ShardMap::new(shards, 2);
        let mut config = Self {
            shard: ShardConfig::new(ShardId(0), map),
            authenticator: Authenticator::default(),
        };
        for setting in settings {
            config.set(setting).map_err(|message| ParseError { at: setting.at, message })?;
        }
        if config.authenticator.is_needed() {
            config.shard.authentication = Authentication::Ask;
        }
        Ok(config)
    }

    fn set(&mut self, setting: &Setting) -> Result<(), String> {
        let key = setting.key.as_str();
        let authenticator = &mut self.authenticator;
        match (key, &setting.value) {
            ("login", Literal::Pair(user, password)) => {
                let user = String::from_utf8_lossy(user).into_owned();
                authenticator.logins.push((user, password.clone()));
            }
            ("auth", Literal::Word(word)) if word == "TEST" => authenticator.knows_test = true,
            ("auth", Literal::Word(word)) if word == "silent" => authenticator.is_silent = true,
            ("auth", Literal::Word(word)) if word == "open" => authenticator.is_open = true,
            (key, value) if authenticator.set_right(key, value)? => {}
            ("denied_publish_v3", value) => {
                self.shard.denied_publish_v3 = match text(value)?.as_str() {
                    "acknowledge" => DeniedPublish::Acknowledge,
                    "disconnect" => DeniedPublish::Disconnect,
                    _ => return Err("denied_publish_v3 is acknowledge or disconnect".to_owned()),
                }
            }
            ("durable", value) => self.shard.durable = flag(value)?,
            (key, value) => {
                if !self.set_feature(key, value)? && !self.set_limit(key, value)? {
                    return Err(format!("there is no setting `{key}` with such a value"));
                }
            }
        }
        Ok(())
    }

    fn set_feature(&mut self, key: &str, value: &Literal) -> Result<bool, String> {
        let features = &mut self.shard.features;
        match key {
            "maximum_qos" => {
                let qos = u8::try_from(number(value)?).ok().and_then(QoS::from_bits);
                features.maximum_qos = qos.ok_or("maximum_qos is 0, 1 or 2")?;
            }
            "retain" => features.retain = flag(value)?,
            "wildcard_subscriptions" => features.wildcard_subscriptions = flag(value)?,
            "subscription_identifiers" => features.subscription_identifiers = flag(value)?,
            "shared_subscriptions" => features.shared_subscriptions = flag(value)?,
            "response_topic_prefix" => features.response_topic_prefix = Some(text(value)?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_limit(&mut self, key: &str, value: &Literal) -> Result<bool, String> {
        let limits = &mut self.shard.limits;
        macro_rules! numbers {
            ($($name:ident)*) => {
                match key {
                    $(stringify!($name) => {
                        let number = number(value)?;
                        limits.$name = number
                            .try_into()
                            .map_err(|_| format!("{number} is too large for {key}"))?;
                    })*
                    "session_queue_full" => limits.session_queue_full = match text(value)?.as_str() {
                        "drop_oldest" => QueueFull::DropOldest,
                        "reject" => QueueFull::Reject,
                        _ => return Err("session_queue_full is drop_oldest or reject".to_owned()),
                    },
                    _ => return Ok(false),
                }
            };
        }
        numbers!(
            connect_timeout_ms ask_timeout_ms connections_max sessions_max client_id_bytes_max
            connect_packet_bytes_max packet_bytes_max keep_alive_s_max session_expiry_s_max
            receive_maximum send_window_max packet_id_max topic_alias_maximum topic_alias_out_max
            subscriptions_per_session_max topic_levels_max topic_bytes_max retained_max
            retained_bytes_max session_queue_max session_queue_bytes_max publishes_in_flight_max
            link_in_flight_max deliveries_per_turn_max
        );
        Ok(true)
    }
}

pub(super) fn text(value: &Literal) -> Result<String, String> {
    match value {
        Literal::Word(word) => Ok(word.clone()),
        Literal::Bytes(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Literal::Pair(..) | Literal::Variable(_) => Err("expected a text".to_owned()),
    }
}

fn number(value: &Literal) -> Result<u64, String> {
    let Literal::Word(word) = value else { return Err("expected a number".to_owned()) };
    word.parse().map_err(|_| format!("expected a number, found `{word}`"))
}

fn flag(value: &Literal) -> Result<bool, String> {
    match value {
        Literal::Word(word) if word == "1" || word == "true" => Ok(true),
        Literal::Word(word) if word == "0" || word == "false" => Ok(false),
        _ => Err("expected 0 or 1".to_owned()),
    }
}
