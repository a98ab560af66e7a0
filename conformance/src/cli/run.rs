//! `conformance run`

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use conformance::{
    live::Patience,
    run::{self, Options},
    suite::{self, Selection},
};

use super::{Verdict, print};

/// Play scenarios against a broker over TCP.
#[derive(Args)]
pub(crate) struct Run {
    /// The broker.
    #[arg(long, value_name = "HOST:PORT")]
    addr: String,
    /// Files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only what fits: a version (v5), the id of a statement, or a part of a path. Repeatable.
    #[arg(long, value_name = "WORD")]
    select: Vec<String>,
    /// Scenarios played at the same time.
    #[arg(long, default_value_t = 16)]
    jobs: usize,
    /// Milliseconds to wait for an answer.
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    timeout: u64,
    /// Milliseconds after which nothing more is taken to come.
    #[arg(long, value_name = "MS", default_value_t = 150)]
    quiet: u64,
    /// Print what was sent and received, also of what passes.
    #[arg(long)]
    trace: bool,
}

impl Run {
    pub(crate) fn carry_out(self) -> Verdict {
        let patience = Patience {
            answer: Duration::from_millis(self.timeout),
            quiet: Duration::from_millis(self.quiet),
        };
        let options = Options { broker: resolve(&self.addr)?, patience, jobs: self.jobs };
        let files = suite::load(&self.paths)?;
        let selection = Selection::new(&self.select);
        let played = run::run(&files, &selection, options, |p| print::played(p, self.trace))?;
        Ok(print::sum(&played))
    }
}

fn resolve(addr: &str) -> Result<SocketAddr, String> {
    let mut found = addr.to_socket_addrs().map_err(|error| format!("--addr {addr}: {error}"))?;
    found.next().ok_or_else(|| format!("--addr {addr}: no such host"))
}
