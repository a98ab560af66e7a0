//! `cairnmq acl`: what rules say, without a broker.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
};

use access::{Question, SubscribeMode};
use clap::{ArgGroup, Args, Subcommand};
use codec::QoS;
use session_core::{Action, Subject};

use crate::{
    config::{Config, RulesConfig, SettingsArguments},
    guarded,
};

/// What to ask the rules.
#[derive(Debug, Subcommand)]
pub(crate) enum AclCommand {
    /// Says whether a client may do something, which rule decides, and why no earlier one does; status 1 if it may not.
    Explain(Explain),
}

/// A client, and what it wants to do.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)), group(ArgGroup::new("where").required(true)))]
pub(crate) struct Explain {
    /// The configuration file whose rules are asked.
    #[arg(long, value_name = "FILE", group = "where")]
    config: Option<PathBuf>,
    /// A rule file.
    #[arg(long, value_name = "FILE", group = "where")]
    rules: Option<PathBuf>,
    /// mosquitto's `acl_file`.
    #[arg(long, value_name = "FILE", group = "where")]
    mosquitto_acl: Option<PathBuf>,
    /// Whether it may publish to this topic.
    #[arg(long, value_name = "TOPIC", group = "what")]
    publish: Option<String>,
    /// Whether it may subscribe to this filter.
    #[arg(long, value_name = "FILTER", group = "what")]
    subscribe: Option<String>,
    /// Whether it may receive messages of this topic.
    #[arg(long, value_name = "TOPIC", group = "what")]
    receive: Option<String>,
    /// The QoS of the message or subscription.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// The message is to be retained.
    #[arg(long)]
    retain: bool,
    /// The name that the client has proved.
    #[arg(long)]
    user: Option<String>,
    /// Its Client Identifier.
    #[arg(long, default_value = "")]
    client_id: String,
    /// A group that its provider says it is in; may be given more than once.
    #[arg(long)]
    group: Vec<String>,
    /// What its provider says it is.
    #[arg(long)]
    client_type: Option<String>,
    /// Where it comes from.
    #[arg(long)]
    address: Option<IpAddr>,
    /// The listener's name.
    #[arg(long, default_value = "")]
    listener: String,
    /// The Common Name of its certificate.
    #[arg(long)]
    common_name: Option<String>,
}

/// Carries a command out. Returns whether the client may.
///
/// # Errors
/// A file cannot be used, in words.
pub(crate) fn run(AclCommand::Explain(asked): &AclCommand) -> Result<bool, String> {
    let policy = guarded::policy(&asked.source()?).map_err(|lines| lines.join("\n"))?;
    let (action, topic) = asked.action();
    let subject = asked.subject();
    let qos = QoS::from_bits(asked.qos).unwrap_or_default();
    let question = Question { subject: &subject, action, topic, qos, retain: asked.retain };
    let explanation = policy.explain(&question);
    let _ = write!(io::stdout().lock(), "{explanation}");
    Ok(explanation.allowed)
}

impl Explain {
    fn source(&self) -> Result<RulesConfig, String> {
        if let Some(path) = &self.rules {
            return Ok(RulesConfig::Own(path.clone()));
        }
        if let Some(path) = &self.mosquitto_acl {
            return Ok(RulesConfig::Mosquitto(path.clone(), SubscribeMode::default()));
        }
        let path = self.config.clone().unwrap_or_default();
        let settings =
            SettingsArguments { config: Some(path.clone()), ..SettingsArguments::default() };
        let (config, _) = Config::load(&settings).map_err(|lines| lines.join("\n"))?;
        match config.access {
            Some(access) => Ok(access.rules),
            None => Err(format!("{}: there is no [access], so nothing is denied", path.display())),
        }
    }

    fn action(&self) -> (Action, &str) {
        match (&self.publish, &self.subscribe, &self.receive) {
            (Some(topic), ..) => (Action::Publish, topic),
            (_, Some(filter), _) => (Action::Subscribe, filter),
            (.., topic) => (Action::Receive, topic.as_deref().unwrap_or_default()),
        }
    }

    fn subject(&self) -> Subject {
        Subject {
            client_id: self.client_id.as_str().into(),
            user: self.user.as_deref().map(Into::into),
            groups: self.group.iter().map(|group| group.as_str().into()).collect(),
            client_type: self.client_type.as_deref().map(Into::into),
            address: self.address,
            listener: self.listener.as_str().into(),
            common_name: self.common_name.as_deref().map(Into::into),
            ..Subject::default()
        }
    }
}
