//! The log: its lines are written by a thread of their own, so that whoever reads them slowly, or not at all, slows
//! nobody else. What does not fit between is lost, and counted.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Mutex, PoisonError},
};

use runtime_mio::TRACE_TARGET;
use tracing::{Event, Level, Subscriber, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    layer::{Layered, SubscriberExt as _},
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat, LogLevel, LogTarget};

/// Lines that wait for whoever takes them; more are lost.
const LINES_MAX: usize = 16_384;

/// Writes what waits when it is dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// What lines are filtered from, and what writes them.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log at work.
pub(crate) struct Log {
    level: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Filtered>,
    /// Of each writer that there was.
    lost: Mutex<Vec<ErrorCounter>>,
}

/// Another form or target of lines.
pub(crate) struct Prepared {
    lines: Lines,
    lost: ErrorCounter,
    guard: WorkerGuard,
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
        let Prepared { lines, lost, guard } = open(config)?;
        let (filter, level) = reload::Layer::new(filter(config.level));
        let (layer, handle) = reload::Layer::new(lines);
        tracing_subscriber::registry().with(filter).with(layer).init();
        *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        Ok(Self { level, lines: handle, lost: Mutex::new(vec![lost]) })
    }

    /// Opens what another configuration wants; absent if that is the same.
    ///
    /// # Errors
    /// The journal is not there.
    pub(crate) fn prepare(
        &self,
        present: &LogConfig,
        wanted: &LogConfig,
    ) -> Result<Option<Prepared>, String> {
        let of = |config: &LogConfig| (config.format, config.target, config.journal.clone());
        let is_same = of(present) == of(wanted);
        if is_same { Ok(None) } else { open(wanted).map(Some) }
    }

    /// Logs so much, and so, from now on.
    pub(crate) fn install(&self, level: LogLevel, prepared: Option<Prepared>) {
        if let Err(error) = self.level.reload(filter(level)) {
            warn!(%error, "the log's level stays as it was");
        }
        let Some(Prepared { lines, lost, guard }) = prepared else { return };
        if let Err(error) = self.lines.reload(lines) {
            return warn!(%error, "the log's form stays as it was");
        }
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(lost);
        // The earlier writer writes what waits, and ends.
        *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }

    /// Lines that nobody took in time.
    pub(crate) fn lost_lines(&self) -> usize {
        let counters = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(ErrorCounter::dropped_lines).sum()
    }
}

fn open(config: &LogConfig) -> Result<Prepared, String> {
    let (writer, guard) = match config.target {
        LogTarget::Stderr => non_blocking(io::stderr()),
        LogTarget::Journald => non_blocking(journal(&config.journal).map_err(|error| {
            let path = config.journal.display();
            format!("cannot reach the journal at {path}: {error}; set [log] target = \"stderr\"")
        })?),
    };
    let lost = writer.error_counter();
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Lines = match (config.format, config.target) {
        (LogFormat::Json, LogTarget::Stderr) => {
            Box::new(layer.json().flatten_event(true).with_target(false))
        }
        (_, LogTarget::Journald) => {
            let lines = Prefixed(Format::default().without_time().with_target(false));
            Box::new(layer.with_ansi(false).event_format(lines))
        }
        (LogFormat::Text, LogTarget::Stderr) => {
            Box::new(layer.with_ansi(io::stderr().is_terminal()).with_target(false))
        }
    };
    Ok(Prepared { lines, lost, guard })
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
fn journal(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path)?;
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
