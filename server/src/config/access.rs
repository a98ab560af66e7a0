//! Who may connect and what they may do: `[access]` of the configuration file.

use std::path::PathBuf;

use access::{
    CertificateName, ClaimsConfig, EndpointConfig, GuardConfig, HttpConfig, JwksConfig,
    SubscribeMode,
};
use settings::{Choice, Section};

use super::listener::ranges;

/// Who may connect, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessConfig {
    /// Who proves identities, in the order in which they are asked.
    pub(crate) providers: Vec<ProviderConfig>,
    /// The rules.
    pub(crate) rules: RulesConfig,
    /// Where blocks are kept; absent: they end with the broker.
    pub(crate) blocks: Option<PathBuf>,
    /// When addresses are kept out by themselves.
    pub(crate) guard: GuardConfig,
    /// Threads that hash passwords; 0: one for every two processors.
    pub(crate) compute_threads: u16,
    /// Questions to other servers at a time.
    pub(crate) waiting_max: u16,
    /// Logins that wait for a thread.
    pub(crate) queue_max: u32,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            providers: Vec::new(),
            rules: RulesConfig::Nothing,
            blocks: None,
            guard: GuardConfig::default(),
            compute_threads: 0,
            waiting_max: 64,
            queue_max: 10_000,
        }
    }
}

/// Where rights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RulesConfig {
    /// Nobody may do anything but what its credentials say.
    Nothing,
    /// A rule file.
    Own(PathBuf),
    /// mosquitto's `acl_file`.
    Mosquitto(PathBuf, SubscribeMode),
}

/// A provider of identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProviderConfig {
    /// What it is called.
    pub(crate) name: String,
    /// The next one is asked when it fails.
    pub(crate) on_error: OnError,
    /// What it is.
    pub(crate) kind: ProviderKind,
}

/// What a provider is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProviderKind {
    /// Users in a file.
    Password {
        /// The file.
        file: PathBuf,
    },
    /// Certificates.
    X509(X509Settings),
    /// Tokens.
    Jwt(Box<JwtSettings>),
    /// Credentials in a file, by enhanced authentication.
    Scram {
        /// The file.
        file: PathBuf,
    },
    /// A server that is asked.
    Http {
        /// Where.
        endpoint: Box<EndpointConfig>,
        /// And how.
        options: HttpConfig,
    },
    /// Nobody in particular.
    Anonymous {
        /// What everybody is called.
        user: Option<String>,
    },
}

/// How tokens are verified, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwtSettings {
    pub(crate) algorithms: Vec<String>,
    /// A key in a file …
    pub(crate) key_file: Option<PathBuf>,
    /// … or keys that a server publishes.
    pub(crate) jwks: Option<(EndpointConfig, JwksConfig)>,
    pub(crate) claims: ClaimsConfig,
}

/// How a certificate becomes an identity, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct X509Settings {
    pub(crate) name: CertificateName,
    pub(crate) depth: Option<usize>,
    pub(crate) pattern: Option<String>,
    pub(crate) client_id_is_user: bool,
    pub(crate) trust_proxy: bool,
    pub(crate) required: bool,
}

/// What happens when a provider fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The client is refused.
    #[default]
    Refuse,
    /// The next one is asked.
    Skip,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Password,
    X509,
    Jwt,
    Scram,
    Http,
    Anonymous,
}

impl Choice for OnError {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("skip", Self::Skip)];
}

impl Choice for Kind {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("password", Self::Password),
        ("x509", Self::X509),
        ("jwt", Self::Jwt),
        ("scram", Self::Scram),
        ("http", Self::Http),
        ("anonymous", Self::Anonymous),
    ];
}

const SUBSCRIBE: &[(&str, SubscribeMode)] =
    &[("strict", SubscribeMode::Strict), ("as_mosquitto", SubscribeMode::AsMosquitto)];

const NAMES: &[(&str, CertificateName)] = &[
    ("common_name", CertificateName::CommonName),
    ("alternative_name", CertificateName::AlternativeName),
];

impl AccessConfig {
    /// Reads `[access]`.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let mut read = Self::default();
        section.tables("provider", |section| {
            let Some(provider) = ProviderConfig::read(section) else { return };
            if read.providers.iter().any(|other| other.name == provider.name) {
                let problem =
                    format!("there is a provider `{}` already; give it a `name`", provider.name);
                section.problem(&section.span(), problem);
            }
            read.providers.push(provider);
        });
        let mut subscribe = SubscribeMode::default();
        section.choice_of("subscribe", SUBSCRIBE, &mut subscribe);
        let own = section.string("rules");
        let theirs = section.string("mosquitto_acl");
        read.rules = match (own, theirs) {
            (Some(_), Some((_, span))) => {
                section.problem(&span, "write either `rules` or `mosquitto_acl`");
                RulesConfig::Nothing
            }
            (Some((path, _)), None) => RulesConfig::Own(path.into()),
            (None, Some((path, _))) => RulesConfig::Mosquitto(path.into(), subscribe),
            (None, None) => RulesConfig::Nothing,
        };
        read.blocks = section.string("blocks").map(|(path, _)| path.into());
        section.number("compute_threads", 0, 1024, &mut read.compute_threads);
        section.number("waiting_max", 1, 1024, &mut read.waiting_max);
        section.number("queue_max", 1, 10_000_000, &mut read.queue_max);
        section.table_or_defaults("guard", |section| read_guard(section, &mut read.guard));
        read
    }
}

fn read_guard(section: &mut Section<'_, '_>, guard: &mut GuardConfig) {
    let GuardConfig { failures, within_ms, block_ms, block_ms_max, except } = guard;
    const DAY_MS: u64 = 86_400_000;
    section.number("failures", 0, u32::MAX, failures);
    section.number("within_ms", 1, DAY_MS, within_ms);
    section.number("block_ms", 1, DAY_MS, block_ms);
    section.number("block_ms_max", 1, 365 * DAY_MS, block_ms_max);
    *except = ranges(section, "except");
}

impl ProviderConfig {
    fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        let span = section.span();
        if !section.has("kind") {
            section.problem(
                &span,
                "`kind` is missing in [[access.provider]]: password, x509, jwt, scram, http or anonymous",
            );
        }
        let name = section.string("name").map(|(name, _)| name);
        let mut on_error = OnError::default();
        section.choice("on_error", &mut on_error);
        let mut kind = Kind::Anonymous;
        section.choice("kind", &mut kind);
        let (default, kind) = match kind {
            Kind::Password => {
                let file = section.required_string("file")?.0.into();
                ("password", ProviderKind::Password { file })
            }
            Kind::X509 => ("x509", ProviderKind::X509(read_x509(section))),
            Kind::Jwt => ("jwt", ProviderKind::Jwt(Box::new(read_jwt(section)))),
            Kind::Scram => {
                let file = section.required_string("file")?.0.into();
                ("scram", ProviderKind::Scram { file })
            }
            Kind::Http => {
                if !section.has("endpoint") {
                    section.problem(&span, "`endpoint` is missing: { url = \"https://…\" }");
                }
                let endpoint = Box::new(section.typed("endpoint")?);
                let options = section.typed("options").unwrap_or_default();
                ("http", ProviderKind::Http { endpoint, options })
            }
            Kind::Anonymous => {
                let user = section.string("user").map(|(user, _)| user);
                ("anonymous", ProviderKind::Anonymous { user })
            }
        };
        Some(Self { name: name.unwrap_or_else(|| default.into()), on_error, kind })
    }
}

fn read_jwt(section: &mut Section<'_, '_>) -> JwtSettings {
    let span = section.span();
    let algorithms = section.strings("algorithms").into_iter().map(|(name, _)| name).collect();
    let key_file = section.string("key_file").map(|(path, _)| path.into());
    let jwks = section.typed("jwks");
    let options = section.typed("jwks_options").unwrap_or_default();
    if key_file.is_some() == section.has("jwks") {
        section.problem(
            &span,
            "a jwt provider has either `key_file` or `jwks = { url = \"https://…\" }`",
        );
    }
    let mut claims = ClaimsConfig::default();
    let ClaimsConfig {
        may_last_for_ever,
        leeway_s,
        issuer,
        audience,
        required,
        user,
        groups,
        client_type,
        publish,
        subscribe,
    } = &mut claims;
    section.boolean("may_last_for_ever", may_last_for_ever);
    section.number("leeway_s", 0, 3600, leeway_s);
    *issuer = section.string("issuer").map(|(text, _)| text);
    *audience = section.string("audience").map(|(text, _)| text);
    section.table("required_claims", |section| {
        required.extend(section.named_strings().into_iter().map(|(claim, text, _)| (claim, text)));
    });
    let names = [
        ("user_claim", user),
        ("groups_claim", groups),
        ("client_type_claim", client_type),
        ("publish_claim", publish),
        ("subscribe_claim", subscribe),
    ];
    for (key, name) in names {
        if let Some((text, _)) = section.string(key) {
            *name = text;
        }
    }
    JwtSettings { algorithms, key_file, jwks: jwks.map(|jwks| (jwks, options)), claims }
}

fn read_x509(section: &mut Section<'_, '_>) -> X509Settings {
    let mut read = X509Settings::default();
    section.choice_of("from", NAMES, &mut read.name);
    let mut depth = u16::MAX;
    section.number("depth", 0, 100, &mut depth);
    read.depth = (depth < u16::MAX).then_some(depth.into());
    if let Some((pattern, span)) = section.string("pattern") {
        if let Err(error) = access::name_pattern(&pattern) {
            section.problem(&span, error);
        }
        read.pattern = Some(pattern);
    }
    section.boolean("client_id_is_user", &mut read.client_id_is_user);
    section.boolean("trust_proxy", &mut read.trust_proxy);
    section.boolean("required", &mut read.required);
    read
}
