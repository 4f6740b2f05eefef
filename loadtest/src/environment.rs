//! What a figure was measured with: commit, machine, and what its processors did meanwhile.

use std::{collections::BTreeMap, process::Command, time::Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tagged_config_runtime::env::{Env, ProcessEnv};

use crate::{report::Cpu, targets::Targets};

/// The harness is taken for the limit when it keeps this part of the processors busy by itself.
const HARNESS_LIMIT: f64 = 0.9;
/// The machine is taken for the limit when this part of it is busy.
const MACHINE_LIMIT: f64 = 0.95;
/// Clock ticks of `/proc`, a second: `sysconf(_SC_CLK_TCK)` is 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Machine and code.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Environment {
    /// The commit of the checkout that the harness ran in, `-dirty` if it was changed; `unknown` outside one.
    pub(crate) commit: String,
    /// Whether the harness was built with optimisation.
    pub(crate) optimised: bool,
    /// Cargo's profile of the harness and of the services, as the local stack says it (`LOADTEST_PROFILE`): only `release` is what
    /// ships. Absent elsewhere.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// Operating system and processor architecture.
    pub(crate) system: String,
    /// Name of the processor.
    pub(crate) processor: String,
    /// Processors.
    pub(crate) cores: u32,
    /// Memory, in MiB; 0 if unknown.
    pub(crate) memory_mib: u64,
    /// Where the system under test was.
    pub(crate) targets: BTreeMap<String, String>,
}

/// A reading of the clocks of the processors.
pub(crate) struct Stopwatch {
    begun: Instant,
    harness: Option<f64>,
    machine: Option<(f64, f64)>,
}

impl Environment {
    /// Here and now.
    pub(crate) fn observe(targets: &Targets) -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_once(':')
                .map(|(_, value)| value.trim().to_owned())
        };
        let kib = field(&memory, "MemTotal")
            .and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
        let places = [
            ("edge", targets.api_url.clone()),
            ("alb", targets.alb_url.clone()),
            ("order", targets.order_url.clone()),
            ("grpc", targets.grpc.join(", ")),
        ];
        Self {
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            optimised: !cfg!(debug_assertions),
            profile: ProcessEnv.get("LOADTEST_PROFILE"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: field(&cpu_info, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: cores(),
            memory_mib: kib.unwrap_or(0) / 1_024,
            targets: places
                .into_iter()
                .filter(|(_, place)| !place.is_empty())
                .map(|(name, place)| (name.to_owned(), place))
                .collect(),
        }
    }
}

fn commit() -> Option<String> {
    if let Some(named) = ProcessEnv.get("LOADTEST_COMMIT") {
        return Some(named);
    }
    let git = |arguments: &[&str]| {
        let answer = Command::new("git").args(arguments).output().ok()?;
        answer
            .status
            .success()
            .then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() {
        commit
    } else {
        format!("{commit}-dirty")
    })
}

fn cores() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|cores| u32::try_from(cores.get()).ok())
        .unwrap_or(1)
}

impl Stopwatch {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
            harness: harness_seconds(),
            machine: machine_seconds(),
        }
    }

    /// What the processors did since then.
    pub(crate) fn read(&self) -> Cpu {
        let elapsed = self.begun.elapsed().as_secs_f64().max(1e-3);
        let harness_cores = self
            .harness
            .zip(harness_seconds())
            .map(|(then, now)| (now - then) / elapsed);
        let machine_busy =
            self.machine
                .zip(machine_seconds())
                .map(|((busy, total), (busy_now, total_now))| {
                    ((busy_now - busy) / (total_now - total).max(1e-3)).clamp(0.0, 1.0)
                });
        let machine_cores = cores();
        let limited_by = if harness_cores
            .is_some_and(|cores| cores > HARNESS_LIMIT * f64::from(machine_cores))
        {
            Some("harness")
        } else if machine_busy.is_some_and(|busy| busy > MACHINE_LIMIT) {
            Some("machine")
        } else {
            None
        };
        Cpu {
            harness_cores,
            machine_cores,
            machine_busy,
            limited_by: limited_by.map(ToOwned::to_owned),
        }
    }
}

/// Processor time of this process, in seconds (proc(5), `/proc/self/stat`, fields 14 and 15).
fn harness_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks = |index: usize| {
        after_name
            .split_whitespace()
            .nth(index)?
            .parse::<f64>()
            .ok()
    };
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// Busy and total time of all processors, in seconds (proc(5), `/proc/stat`).
fn machine_seconds() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.split_whitespace().skip(1).take(8);
    let fields: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    let total: f64 = fields.iter().sum();
    let idle = fields.get(3)? + fields.get(4)?;
    Some(((total - idle) / TICKS, total / TICKS))
}
