//! The log: its lines are written by a thread of their own, so that whoever reads them slowly, or not at all, slows
//! nobody else. What does not fit between is lost, and counted.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
};

use runtime_mio::TRACE_TARGET;
use tracing::{Event, Level, Subscriber, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat, LogLevel, LogTarget};

/// Lines that wait for whoever takes them; more are lost.
const LINES_MAX: usize = 65_536;
/// Where systemd takes lines.
const JOURNAL: &str = "/run/systemd/journal/stdout";

/// Writes what waits when it is dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// The log at work.
pub(crate) struct Log {
    level: reload::Handle<EnvFilter, Registry>,
    lost: ErrorCounter,
}

/// Writes what waits. Nothing is logged afterwards.
pub(crate) fn finish() {
    drop(WRITER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Log {
    /// Starts to write.
    ///
    /// # Errors
    /// The journal is not there.
    pub(crate) fn start(config: &LogConfig) -> Result<Self, String> {
        let (writer, guard) = match config.target {
            LogTarget::Stderr => non_blocking(io::stderr()),
            LogTarget::Journald => non_blocking(journal().map_err(|error| {
                format!(
                    "cannot reach the journal at {JOURNAL}: {error}; set [log] target = \"stderr\""
                )
            })?),
        };
        let lost = writer.error_counter();
        let (filter, level) = reload::Layer::new(filter(config.level));
        let registry = tracing_subscriber::registry().with(filter);
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        match (config.format, config.target) {
            (LogFormat::Json, LogTarget::Stderr) => {
                registry.with(layer.json().flatten_event(true).with_target(false)).init();
            }
            (_, LogTarget::Journald) => {
                let lines = Prefixed(Format::default().without_time().with_target(false));
                registry.with(layer.with_ansi(false).event_format(lines)).init();
            }
            (LogFormat::Text, LogTarget::Stderr) => {
                let ansi = io::stderr().is_terminal();
                registry.with(layer.with_ansi(ansi).with_target(false)).init();
            }
        }
        *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        Ok(Self { level, lost })
    }

    /// Logs so much from now on.
    pub(crate) fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.level.reload(filter(level)) {
            warn!(%error, "the log's level stays as it was");
        }
    }

    /// What is lost is counted here.
    pub(crate) fn lost(&self) -> ErrorCounter {
        self.lost.clone()
    }
}

fn non_blocking<W: Write + Send + 'static>(writer: W) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(writer)
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    // The tables speak of their files as if that were news. Whoever traces a client wants to see it, whatever the level.
    EnvFilter::new(format!(
        "{level},{TRACE_TARGET}=info,fjall=warn,lsm_tree=warn,sfa=warn,hyper=warn"
    ))
}

/// A stream into the journal: a few lines that say whose it is, then the log.
fn journal() -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(JOURNAL)?;
    // Identifier, unit, level, whether lines have a level of their own, and three ways to forward them.
    stream.write_all(b"cairnmq\n\n6\n1\n0\n0\n0\n")?;
    Ok(stream)
}

/// Lines that begin with their level, as the journal wants it.
struct Prefixed(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{level}>")?;
        self.0.format_event(context, writer, event)
    }
}
