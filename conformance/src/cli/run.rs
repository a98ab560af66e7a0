//! `conformance run`

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use conformance::{
    deviations::Deviations,
    live::Patience,
    play::Login,
    requirements::Requirements,
    results::{self, Results},
    run::{self, Options, Played},
};

use super::{Chosen, Verdict, chosen};

/// Play scenarios against a broker over TCP.
///
/// Ends with 0 if everything passed, or failed as the deviations say; with 1 if something did not, or
/// the run was stopped because its time was over or the broker answers no more; with 2 if nothing
/// could be played: wrong options, files that cannot be read, a broker that cannot be reached.
#[derive(Args)]
pub(crate) struct Run {
    /// The broker.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "list")]
    addr: Option<String>,
    #[command(flatten)]
    chosen: Chosen,
    /// Scenarios played at the same time.
    #[arg(long, default_value_t = 16)]
    jobs: usize,
    /// Milliseconds to wait for an answer.
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    timeout: u64,
    /// Milliseconds after which nothing more is taken to come.
    #[arg(long, value_name = "MS", default_value_t = 150)]
    quiet: u64,
    /// Seconds after which a scenario fails.
    #[arg(long, value_name = "S", default_value_t = 60)]
    scenario_limit: u64,
    /// Seconds after which the run is stopped.
    #[arg(long, value_name = "S", default_value_t = 600)]
    run_limit: u64,
    /// The user name of every client that has none of its own; bytes written as `raw` have none.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The password beside it.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// What the broker is known to do otherwise, as described in spec-tests/README.md.
    #[arg(long, value_name = "FILE")]
    deviations: Option<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write the report to this file, and show the run on the standard output as always.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what was sent and received, also of what passes.
    #[arg(long)]
    trace: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Junit,
}

impl Run {
    pub(crate) fn carry_out(self) -> Verdict {
        let requirements = Requirements::embedded();
        let files = self.chosen.files()?;
        let chosen = self.chosen.of(&files, &requirements)?;
        if self.chosen.list {
            chosen::list(&chosen, true);
            return Ok(true);
        }
        let addr = self.addr.as_deref().unwrap_or_default();
        let options = self.options(addr)?;
        let deviations = self.deviations()?;
        let deviations = deviations.as_ref();
        let shown = self.format == Format::Text || self.output.is_some();
        let report = |played: &Played<'_>| {
            let verdict = results::Verdict::of(played, deviations);
            if shown {
                print!("{}", results::progress(played, verdict, &requirements, self.trace));
            }
        };
        let began = Instant::now();
        let finished = run::run(&chosen, &options, report)?;
        let results = Results {
            run: &finished,
            broker: match deviations {
                Some(known) => format!("{} {}", known.broker, known.version),
                None => format!("the broker at {addr}"),
            },
            deviations,
            requirements: &requirements,
            time: began.elapsed(),
        };
        if shown {
            print!("{}", results::sum(&results));
        }
        let document = match self.format {
            Format::Text => results::text(&results, self.trace),
            Format::Markdown => results::markdown(&results),
            Format::Junit => results::junit(&results),
        };
        match &self.output {
            Some(path) => fs::write(path, document)
                .map_err(|error| format!("--output {}: {error}", path.display()))?,
            None if !shown => print!("{document}"),
            None => {}
        }
        Ok(results.is_good())
    }

    fn options(&self, addr: &str) -> Result<Options, String> {
        let login = self.user.clone().map(|user| Login { user, password: self.password.clone() });
        Ok(Options {
            patience: Patience {
                answer: Duration::from_millis(self.timeout),
                quiet: Duration::from_millis(self.quiet),
            },
            jobs: self.jobs,
            scenario_limit: Duration::from_secs(self.scenario_limit),
            run_limit: Duration::from_secs(self.run_limit),
            login,
            ..Options::new(resolve(addr)?)
        })
    }

    fn deviations(&self) -> Result<Option<Deviations>, String> {
        let Some(path) = &self.deviations else { return Ok(None) };
        let failed = |error: String| format!("--deviations {}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Deviations::parse(&text).map(Some).map_err(failed)
    }
}

fn resolve(addr: &str) -> Result<SocketAddr, String> {
    let mut found = addr.to_socket_addrs().map_err(|error| format!("--addr {addr}: {error}"))?;
    found.next().ok_or_else(|| format!("--addr {addr}: no such host"))
}
