//! Counts with valgrind's callgrind, in a process for each scenario.

use std::{
    env,
    process::{Command, Output},
};

use serde::{Deserialize, Serialize};

use crate::{Result, counted::COUNTED};

/// What a scenario took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) instructions: u64,
    pub(crate) messages: u64,
}

/// What the figures depend on besides the code: the compiler, the counter, and the library that
/// allocates and copies memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versions {
    rustc: String,
    valgrind: String,
    libc: String,
}

impl Versions {
    /// Those of this program and this machine.
    pub(crate) fn here() -> Result<Self> {
        Ok(Self {
            rustc: env!("RUSTC_VERSION").into(),
            valgrind: first_line(Command::new("valgrind").arg("--version"))?,
            libc: first_line(Command::new("getconf").arg("GNU_LIBC_VERSION"))?,
        })
    }

    /// What is different there, in words.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        [(&self.rustc, &other.rustc), (&self.valgrind, &other.valgrind), (&self.libc, &other.libc)]
            .into_iter()
            .filter(|(here, there)| here != there)
            .map(|(here, there)| format!("{here} here, {there} there"))
            .collect()
    }
}

/// Keeps glibc from copying and comparing memory in ways that only some processors have.
const TUNABLES: &str = "glibc.cpu.hwcaps=\
    -AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-SSSE3,-ERMS,-FSRM";

/// callgrind, to which its own options, the program and its arguments are still to be added.
///
/// Nothing of the caller's environment and of valgrind's own settings reaches the process, so that
/// figures depend on neither.
pub(crate) fn callgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.env_clear().env("GLIBC_TUNABLES", TUNABLES).args([
        "--command-line-only=yes",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        // Nobody asks while it runs, and what would be there to ask stays if the process is killed.
        "--vgdb=no",
    ]);
    command
}

/// Runs a scenario of this program and counts.
pub(crate) fn count(scenario: &str) -> Result<Count> {
    let this = env::current_exe()?;
    let mut command = callgrind();
    command.arg(format!("--toggle-collect={COUNTED}")).arg(this).args(["--run", scenario]);
    let Output { stdout, stderr, .. } = run(&mut command)?;
    let messages = String::from_utf8(stdout)?.trim().parse()?;
    let report = String::from_utf8_lossy(&stderr);
    let instructions = collected(&report).ok_or_else(|| format!("callgrind says: {report}"))?;
    if instructions == 0 {
        return Err(format!("nothing is called {COUNTED}, so nothing is counted").into());
    }
    Ok(Count { instructions, messages })
}

/// The number in callgrind's line `==123== Collected : 456`.
pub(crate) fn collected(report: &str) -> Option<u64> {
    let line = report.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

fn first_line(command: &mut Command) -> Result<String> {
    let text = String::from_utf8(run(command)?.stdout)?;
    Ok(text.lines().next().unwrap_or_default().trim().into())
}

fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} does not run: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} ended with {}: {stderr}", output.status).into());
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read() {
        let report = "==1== Events    : Ir\n==1== Collected : 1234\n==1==\n";
        assert_eq!(collected(report), Some(1234));
        assert_eq!(collected("==1== Events    : Ir\n"), None);
    }

    #[test]
    fn each_version_makes_a_difference() {
        let here = Versions { rustc: "r".into(), valgrind: "v".into(), libc: "l".into() };
        assert!(here.differences(&here).is_empty());
        let others = [
            Versions { rustc: "x".into(), ..here.clone() },
            Versions { valgrind: "x".into(), ..here.clone() },
            Versions { libc: "x".into(), ..here.clone() },
        ];
        for other in others {
            assert_eq!(here.differences(&other).len(), 1, "{other:?}");
        }
    }
}
