//! Access at work: from the configuration to judges, and from the workers' questions to answers.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use access::{
    Access, AnonymousProvider, Chain, Doorway, DoorwayConfig, EndpointConfig, HttpProvider, Judges,
    Jwks, JwtKeys, JwtProvider, Link, PasswordFile, PasswordProvider, Policy, Provider, ScramFile,
    ScramProvider, Usable, X509Config, X509Provider,
};
use codec::ReasonCode;
use runtime_mio::{Doorkeeper, Inbox, MakeServices, NoServices, Services};
use session_core::{
    Answer, ClientLimits, CommitSeq, Load, Loaded, Record, Reply, Request, Ticket, Time,
};

use tracing::warn;

use crate::config::{AccessConfig, Config, JwtSettings, OnError, ProviderKind, RulesConfig};

/// Access, if anybody is asked.
pub(crate) struct Guarded {
    access: RwLock<Option<Working>>,
    clock: Clock,
}

/// Access at work, and what it cannot change while it works.
#[derive(Clone)]
struct Working {
    access: Arc<Access>,
    settings: access::AccessConfig,
}

/// What a configuration wants: all files are read.
pub(crate) struct Prepared(Option<(Judges, access::AccessConfig, Option<Arc<Access>>)>);

/// The wall clock at the start, and the time since: a step of the clock ends no token early.
#[derive(Clone, Copy)]
struct Clock {
    wall_ms: u64,
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self { wall_ms, start: Instant::now() }
    }

    fn now(self) -> Time {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Time(self.wall_ms).plus_ms(since)
    }
}

impl Guarded {
    /// Nobody is asked.
    pub(crate) fn new() -> Self {
        Self { access: RwLock::default(), clock: Clock::start() }
    }

    /// Has the workers' questions answered here, and everything else by what they had.
    pub(crate) fn services(self: &Arc<Self>, mut inner: MakeServices) -> MakeServices {
        let this = Arc::clone(self);
        Box::new(move |shard, inbox| {
            let inner = inner(shard, inbox.clone());
            Box::new(Asked { inner, guarded: Arc::clone(&this), inbox })
        })
    }

    /// Reads all files that a configuration names.
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub(crate) fn prepare(&self, all: &Config) -> Result<Prepared, Vec<String>> {
        let Some(config) = &all.access else { return Ok(Prepared(None)) };
        let judges = judges(self.clock.now(), config, all)?;
        let settings = access::AccessConfig {
            compute_threads: config.compute_threads.into(),
            waiting_max: config.waiting_max.into(),
            queue_max: config.queue_max as usize,
            guard: config.guard.clone(),
            blocks: config.blocks.clone(),
            ..access::AccessConfig::default()
        };
        // Another one is started only if the present one cannot become it.
        let present = self.working().filter(|working| working.settings == settings);
        let access = present.map(|working| working.access);
        if access.is_none() {
            let again = self::judges(self.clock.now(), config, all)?;
            let started = Access::start(settings.clone(), again)?;
            return Ok(Prepared(Some((judges, settings, Some(started)))));
        }
        Ok(Prepared(Some((judges, settings, None))))
    }

    /// Puts what was prepared in force. The shards have to hear of it.
    pub(crate) fn install(&self, prepared: Prepared) {
        match (prepared.0, self.working()) {
            (Some((judges, _, None)), Some(working)) => working.access.replace(judges),
            (Some((judges, settings, Some(access))), before) => {
                if let Some(before) = before {
                    // Whoever is being judged is judged by the new ones.
                    before.access.replace(judges);
                }
                self.set(Some(Working { access, settings }));
            }
            (None, _) => self.set(None),
            (Some((_, _, None)), None) => {}
        }
    }

    /// Reads the file of blocks again. If anything is wrong, the blocks stay as they were.
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub(crate) fn reload_blocks(&self) -> Result<(), Vec<String>> {
        self.access().map_or(Ok(()), |access| access.reload_blocks())
    }

    /// Who is asked, if anybody is.
    pub(crate) fn access(&self) -> Option<Arc<Access>> {
        self.working().map(|working| working.access)
    }

    /// The time by which blocks end.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    fn working(&self) -> Option<Working> {
        self.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, working: Option<Working>) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = working;
    }
}

/// Reads all files that a configuration names, and keeps nothing.
///
/// # Errors
/// Everything that is wrong, one line each.
pub(crate) fn check(all: &Config) -> Result<(), Vec<String>> {
    Guarded::new().prepare(all).map(drop)
}

/// The services of nobody in particular.
pub(crate) fn no_services() -> MakeServices {
    Box::new(|_, _| Box::new(NoServices))
}

/// The files that [`judges`] reads.
pub(crate) fn files(config: &AccessConfig) -> Vec<PathBuf> {
    let of_providers = config.providers.iter().flat_map(|provider| match &provider.kind {
        ProviderKind::Password { file } | ProviderKind::Scram { file } => vec![file.clone()],
        ProviderKind::Jwt(settings) => {
            let endpoint = settings.jwks.as_ref().map(|(endpoint, _)| endpoint);
            let of_endpoint = endpoint.into_iter().flat_map(EndpointConfig::files);
            of_endpoint.map(Path::to_owned).chain(settings.key_file.clone()).collect()
        }
        ProviderKind::Http { endpoint, .. } => endpoint.files().map(Path::to_owned).collect(),
        ProviderKind::X509(_) | ProviderKind::Anonymous { .. } => Vec::new(),
    });
    let of_rules = match &config.rules {
        RulesConfig::Nothing => None,
        RulesConfig::Own(path) | RulesConfig::Mosquitto(path, _) => Some(path.clone()),
    };
    of_providers.chain(of_rules).collect()
}

/// Makes what decides.
fn judges(now: Time, config: &AccessConfig, all: &Config) -> Result<Judges, Vec<String>> {
    let mut problems = Vec::new();
    let mut links = Vec::new();
    for wanted in &config.providers {
        match provider(now, &wanted.name, &wanted.kind) {
            Ok(provider) => links.push(Link {
                provider,
                on_error_skip: wanted.on_error == OnError::Skip,
                listeners: listeners_of(&wanted.name, all),
            }),
            Err(more) => problems.extend(more),
        }
    }
    problems.extend(unknown_providers(config, all));
    let policy = match policy(&config.rules) {
        Ok(policy) => policy,
        Err(more) => {
            problems.extend(more);
            Policy::deny_all()
        }
    };
    match problems.is_empty() {
        true => Ok(Judges { chain: Chain::new(links), policy, limits: limits_of(all) }),
        false => Err(problems),
    }
}

fn provider(now: Time, name: &str, kind: &ProviderKind) -> Result<Arc<dyn Provider>, Vec<String>> {
    Ok(match kind {
        ProviderKind::Password { file } => {
            let (path, text) = read(file)?;
            Arc::new(PasswordProvider::new(name, PasswordFile::parse(&path, &text)?))
        }
        ProviderKind::X509(settings) => {
            let pattern = settings.pattern.as_deref().map(access::name_pattern).transpose();
            let config = X509Config {
                name: settings.name,
                depth: settings.depth,
                pattern: pattern.map_err(|problem| vec![problem])?,
                client_id_is_user: settings.client_id_is_user,
                trust_proxy: settings.trust_proxy,
                required: settings.required,
            };
            Arc::new(X509Provider::new(name, config))
        }
        ProviderKind::Jwt(settings) => {
            let keys = JwtKeys {
                algorithms: settings.algorithms.clone(),
                keys: jwt_keys(now, settings).map_err(|problem| vec![problem])?,
            };
            let provider = JwtProvider::new(name, keys, settings.claims.clone());
            Arc::new(provider.map_err(|problem| vec![format!("provider `{name}`: {problem}")])?)
        }
        ProviderKind::Scram { file } => {
            let (path, text) = read(file)?;
            let provider = ScramProvider::new(name, ScramFile::parse(&path, &text)?);
            Arc::new(provider.map_err(|problem| vec![problem])?)
        }
        ProviderKind::Http { endpoint, options } => {
            if endpoint.is_exposed() && options.with_password {
                warn!("provider `{name}`: passwords go to {} without TLS", endpoint.url);
            }
            let provider = HttpProvider::open(name, endpoint, options.clone());
            Arc::new(provider.map_err(|problem| vec![format!("provider `{name}`: {problem}")])?)
        }
        ProviderKind::Anonymous { user } => Arc::new(AnonymousProvider::new(name, user.as_deref())),
    })
}

fn jwt_keys(now: Time, settings: &JwtSettings) -> Result<Usable, String> {
    if let Some((endpoint, options)) = &settings.jwks {
        let jwks = Jwks::open(now, endpoint, options.clone())?;
        return Ok(Usable::Published(Box::new(jwks)));
    }
    let path = settings.key_file.clone().unwrap_or_default();
    let key =
        fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // A secret in a file often ends with a line break that nobody meant.
    let is_pem = key.starts_with(b"-----BEGIN");
    let key = if is_pem { key } else { key.trim_ascii_end().to_vec() };
    Ok(Usable::Key(key))
}

/// The rules of a configuration.
///
/// # Errors
/// Everything that is wrong with the file, one line each.
pub(crate) fn policy(rules: &RulesConfig) -> Result<Policy, Vec<String>> {
    match rules {
        RulesConfig::Nothing => Ok(Policy::deny_all()),
        RulesConfig::Own(path) => {
            let (name, text) = read(path)?;
            Policy::parse_rules(&name, &text)
        }
        RulesConfig::Mosquitto(path, subscribe) => {
            let (name, text) = read(path)?;
            Policy::parse_mosquitto(&name, &text, *subscribe)
        }
    }
}

fn read(path: &Path) -> Result<(String, String), Vec<String>> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(vec![format!("cannot read {name}: {error}")]),
    }
}

/// The listeners at which a provider is asked: those that name it, and those that name none.
fn listeners_of(provider: &str, all: &Config) -> Option<Box<[Box<str>]>> {
    let names_it = |names: &Option<Vec<String>>| {
        names.as_ref().is_none_or(|names| names.iter().any(|name| name == provider))
    };
    if all.listeners.iter().all(|listener| names_it(&listener.providers)) {
        return None;
    }
    let at = all.listeners.iter().filter(|listener| names_it(&listener.providers));
    Some(at.map(|listener| listener.name().into()).collect())
}

/// Limits of clients of some listeners.
fn limits_of(all: &Config) -> Vec<(Box<str>, Arc<ClientLimits>)> {
    let limited = all.listeners.iter().filter_map(|listener| {
        let limits = listener.client.clone()?;
        Some((listener.name().into(), Arc::new(limits)))
    });
    limited.collect()
}

fn unknown_providers(config: &AccessConfig, all: &Config) -> Vec<String> {
    let is_known = |name: &String| config.providers.iter().any(|provider| provider.name == *name);
    let of_listeners = all.listeners.iter().flat_map(|listener| {
        let names = listener.providers.iter().flatten().filter(|name| !is_known(name));
        names.map(|name| format!("{}: there is no provider `{name}`", listener.asker))
    });
    of_listeners.collect()
}

/// Who may knock, as the runtime asks it.
pub(crate) struct Doorman {
    doorway: Mutex<Doorway>,
    clock: Clock,
}

impl Doorman {
    /// One who lets in as the configuration says.
    pub(crate) fn new(config: &DoorwayConfig) -> Self {
        let clock = Clock::start();
        Self { doorway: Mutex::new(Doorway::new(config.clone(), clock.now())), clock }
    }

    /// Lets in by another configuration from now on.
    pub(crate) fn reconfigure(&self, config: &DoorwayConfig) {
        let now = self.clock.now();
        let mut doorway = self.doorway.lock().unwrap_or_else(PoisonError::into_inner);
        doorway.reconfigure(config.clone(), now);
    }
}

impl Doorkeeper for Doorman {
    fn admit(&self, listener: &str, address: Option<IpAddr>) -> Result<(), &'static str> {
        let now = self.clock.now();
        self.doorway.lock().unwrap_or_else(PoisonError::into_inner).admit(now, listener, address)
    }

    fn left(&self, listener: &str, address: Option<IpAddr>) {
        self.doorway.lock().unwrap_or_else(PoisonError::into_inner).left(listener, address);
    }
}

/// What a worker asks by.
struct Asked {
    inner: Box<dyn Services>,
    guarded: Arc<Guarded>,
    inbox: Inbox,
}

impl Services for Asked {
    fn ask(&mut self, ticket: Ticket, request: Box<Request>) -> Option<Box<Answer>> {
        let Some(access) = self.guarded.access() else {
            return Some(Box::new(Answer::Refuse { reason: ReasonCode::NotAuthorized }));
        };
        let inbox = self.inbox.clone();
        let answer = move |answer| inbox.answer(ticket, Box::new(answer));
        access.ask(self.guarded.now(), request, answer).map(Box::new)
    }

    fn reply(&mut self, ticket: Ticket, reply: Box<Reply>) {
        self.inner.reply(ticket, reply);
    }

    fn append(&mut self, seq: CommitSeq, record: Box<Record>) {
        self.inner.append(seq, record);
    }

    fn load(&mut self, load: Load) -> Option<Box<Loaded>> {
        self.inner.load(load)
    }

    fn commit(&mut self, last: CommitSeq) -> Option<CommitSeq> {
        self.inner.commit(last)
    }
}
