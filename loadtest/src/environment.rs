//! What a figure was measured with: commit, machine, and what its processors did meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    process::Command,
    time::Instant,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tagged_config_runtime::env::{Env, ProcessEnv};

use crate::{report::Cpu, targets::Targets};

/// The harness is the limit when one of its threads, or all together, keep this part of a processor, or of all, busy.
const HARNESS_LIMIT: f64 = 0.9;
/// The machine is the limit when this part of it is busy or stolen.
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
    /// Cargo's profile of the harness; absent if unknown.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// Cargo's profile of the services, as the local stack sets it (`LOADTEST_PROFILE`): only `release` is what ships. Absent
    /// for targets elsewhere.
    #[serde(default)]
    pub(crate) services_profile: Option<String>,
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
    threads: HashMap<String, f64>,
    machine: Option<Machine>,
}

/// Clock ticks of all processors.
#[derive(Clone, Copy)]
struct Machine {
    busy: f64,
    /// Steal time.
    steal: f64,
    total: f64,
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
            profile: profile(),
            services_profile: ProcessEnv
                .get("LOADTEST_PROFILE")
                .filter(|_| targets.has_local_replicas()),
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

/// The profile in which this program was built: the folder that cargo puts it into.
fn profile() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?.file_name()?.to_str()?;
    match folder {
        "debug" => Some("dev".to_owned()),
        "deps" => None,
        _ => Some(folder.to_owned()),
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
            threads: thread_seconds(),
            machine: Machine::read(),
        }
    }

    /// What the processors did since then.
    pub(crate) fn read(&self) -> Cpu {
        let elapsed = self.begun.elapsed().as_secs_f64().max(1e-3);
        let since = |(thread, now): (&String, &f64)| {
            (now - self.threads.get(thread).unwrap_or(&0.0)).max(0.0) / elapsed
        };
        // Threads that ended meanwhile are not in it: the harness keeps its own.
        let threads: Vec<f64> = thread_seconds().iter().map(since).collect();
        let harness_cores = (!threads.is_empty()).then(|| threads.iter().sum::<f64>());
        let busiest_thread = threads.into_iter().reduce(f64::max);
        let spent = self
            .machine
            .zip(Machine::read())
            .map(|(then, now)| now.since(then));
        let machine_cores = cores();
        let machine_busy = spent.map(|(busy, _)| busy);
        let machine_steal = spent.map(|(_, steal)| steal);
        let mut cpu = Cpu {
            harness_cores,
            busiest_thread,
            machine_cores,
            machine_busy,
            machine_steal,
            limited_by: None,
        };
        cpu.limited_by = limited_by(&cpu).map(ToOwned::to_owned);
        cpu
    }
}

fn limited_by(cpu: &Cpu) -> Option<&'static str> {
    let above = |value: Option<f64>, limit: f64| value.is_some_and(|value| value > limit);
    let taken = cpu.machine_busy.zip(cpu.machine_steal);
    if above(cpu.busiest_thread, HARNESS_LIMIT)
        || above(
            cpu.harness_cores,
            HARNESS_LIMIT * f64::from(cpu.machine_cores),
        )
    {
        Some("harness")
    } else if above(taken.map(|(busy, steal)| busy + steal), MACHINE_LIMIT) {
        Some("machine")
    } else {
        None
    }
}

impl Machine {
    /// All processors together (proc(5), `/proc/stat`).
    fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.split_whitespace().skip(1).take(8);
        let fields: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
        let &[user, nice, system, idle, iowait, irq, softirq, steal] = fields.as_slice() else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        Some(Self {
            busy,
            steal,
            total: busy + idle + iowait + steal,
        })
    }

    /// The parts of the time since then that were busy, and stolen.
    fn since(self, then: Self) -> (f64, f64) {
        let total = (self.total - then.total).max(1.0);
        let part = |ticks: f64| (ticks / total).clamp(0.0, 1.0);
        (part(self.busy - then.busy), part(self.steal - then.steal))
    }
}

/// Processor time of each thread of this process, in seconds (proc(5), `/proc/self/task/TID/stat`, fields 14 and 15).
fn thread_seconds() -> HashMap<String, f64> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let seconds = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<f64>().ok();
        Some((
            task.file_name().to_string_lossy().into_owned(),
            (ticks()? + ticks()?) / TICKS,
        ))
    };
    tasks.flatten().filter_map(seconds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_not_busy_time() {
        let at = |line: &str| Machine::parse(line).unwrap();
        let then = at("cpu  10 0 10 100 0 0 0 0 0 0\ncpu0 1");
        let now = at("cpu  40 0 20 140 10 0 0 10 0 0\ncpu0 1");
        assert_eq!(now.since(then), (0.4, 0.1));
        assert!(Machine::parse("cpu  10 0").is_none());
        assert!(Machine::parse("").is_none());
    }

    #[test]
    fn one_busy_thread_is_the_limit_on_any_number_of_cores() {
        let cpu = |busiest, harness, busy, steal| Cpu {
            busiest_thread: Some(busiest),
            harness_cores: Some(harness),
            machine_cores: 16,
            machine_busy: Some(busy),
            machine_steal: Some(steal),
            limited_by: None,
        };
        assert_eq!(limited_by(&cpu(0.95, 1.1, 0.1, 0.0)), Some("harness"));
        assert_eq!(limited_by(&cpu(0.8, 14.5, 0.9, 0.0)), Some("harness"));
        assert_eq!(limited_by(&cpu(0.2, 0.3, 0.5, 0.46)), Some("machine"));
        assert_eq!(limited_by(&cpu(0.2, 0.3, 0.5, 0.4)), None);
        assert_eq!(limited_by(&Cpu::default()), None, "nothing is known");
    }

    #[test]
    fn this_process_has_threads_that_used_some_time() {
        let cpu = Stopwatch::start().read();
        assert!(cpu.busiest_thread <= cpu.harness_cores && cpu.busiest_thread.is_some());
    }
}
