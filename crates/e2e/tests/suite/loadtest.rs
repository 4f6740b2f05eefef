//! The load-test harness against the stack, each subcommand as a person runs it. What is asserted is that it measures and
//! judges, never how fast anything was. One at a time: all share the one seed (`.config/nextest.toml`).

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use e2e::{Stack, program, role_credentials};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};
use uuid::Uuid;

/// Far more than a short profile takes.
const LIMIT: Duration = Duration::from_mins(2);
const SHAPE: [&str; 6] = ["--tenants", "3", "--keys", "5", "--value-bytes", "128"];
/// The machine is busy with other tests: how late requests are sent is no failure.
const ANY_LAG: [&str; 2] = ["--max-lag", "10s"];

pub(crate) struct Ran {
    code: Option<i32>,
    output: String,
    errors: String,
}

pub(crate) async fn run(arguments: &[&str]) -> anyhow::Result<Ran> {
    let mut command = Command::new(program("loadtest")?);
    command
        .envs(role_credentials("load-test").await?)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ran = timeout(LIMIT, command.output()).await??;
    Ok(Ran {
        code: ran.status.code(),
        output: String::from_utf8(ran.stdout)?,
        errors: String::from_utf8(ran.stderr)?,
    })
}

impl Ran {
    pub(crate) fn exits(&self, code: i32) -> anyhow::Result<&Self> {
        ensure!(
            self.code == Some(code),
            "exit code {:?}, not {code}\n{}\n{}",
            self.code,
            self.output,
            self.errors
        );
        Ok(self)
    }

    pub(crate) fn says(&self, text: &str) -> anyhow::Result<()> {
        ensure!(
            self.output.contains(text) || self.errors.contains(text),
            "{text:?} is not in\n{}\n{}",
            self.output,
            self.errors
        );
        Ok(())
    }
}

pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("loadtest-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

/// Runs a measurement, and returns its result. That this machine, busy with other tests, did not keep up with the rate is no
/// failure.
async fn measured(arguments: &[&str], folder: &Path) -> anyhow::Result<Value> {
    let ran = run(arguments).await?;
    if ran.code == Some(0) {
        return result(folder);
    }
    ran.exits(1)?;
    let report = result(folder)?;
    let reasons = report["untrusted_because"].as_array();
    let reasons = reasons.context("it exits with 1 and gives no reason")?;
    let is_the_machines = |reason: &Value| {
        let reason = reason.as_str().unwrap_or_default();
        ["not sustained", "no answer in time", "DEADLINE_EXCEEDED"]
            .iter()
            .any(|one| reason.contains(one))
    };
    ensure!(
        !reasons.is_empty() && reasons.iter().all(is_the_machines),
        "{reasons:?}"
    );
    Ok(report)
}

fn result(folder: &Path) -> anyhow::Result<Value> {
    let result = std::fs::read(folder.join("result.json"))?;
    ensure!(folder.join("report.html").is_file(), "there is no page");
    Ok(serde_json::from_slice(&result)?)
}

pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path is text")
}

/// The sum of a count over series with this result.
fn count(phase: &Value, result: &str) -> u64 {
    let series = phase["series"].as_array().unwrap().iter();
    series
        .filter(|one| one["result"] == result)
        .map(|one| one["count"].as_u64().unwrap())
        .sum()
}

#[tokio::test]
async fn loadtest_measures_latency_reports_and_compares() -> anyhow::Result<()> {
    let out = folder()?;
    let mut arguments = vec![
        "latency",
        "--target",
        "grpc,alb,edge",
        "--duration",
        "2s",
        "--warm-up",
        "1s",
        "--users",
        "4",
        "--rate",
        "50",
        "--rest-rate",
        "10",
        "--out",
        text(&out)?,
        "--slo",
        "errors<100%",
        "--slo",
        "grpc.rate>0",
    ];
    arguments.extend(SHAPE);
    arguments.extend(ANY_LAG);
    let report = measured(&arguments, &out).await?;
    let phases = report["phases"].as_array().unwrap();
    for (path, loop_kind) in [
        ("grpc", "closed"),
        ("grpc", "open"),
        ("alb", "closed"),
        ("edge", "open"),
        ("null", "closed"),
        ("null", "open"),
    ] {
        let phase = phases
            .iter()
            .find(|phase| phase["path"] == path && phase["loop"] == loop_kind)
            .with_context(|| format!("no {loop_kind} phase of {path}"))?;
        ensure!(count(phase, "failed") == 0, "{path}: {}", phase["series"]);
        if path != "null" {
            ensure!(count(phase, "hit") > 0, "{path}: {}", phase["series"]);
        }
        ensure!(
            !phase["timeline"].as_array().unwrap().is_empty(),
            "no timeline"
        );
    }
    let operations: Vec<_> = phases
        .iter()
        .flat_map(|phase| phase["series"].as_array().unwrap())
        .map(|series| series["operation"].as_str().unwrap())
        .collect();
    for wanted in [
        "get",
        "get-absent",
        "batch",
        "put",
        "order",
        "get-if-changed",
    ] {
        ensure!(operations.contains(&wanted), "nobody asked {wanted}");
    }
    ensure!(
        report["slos"]
            .as_array()
            .unwrap()
            .iter()
            .all(|slo| slo["met"] == true)
    );

    let file = out.join("result.json");
    std::fs::remove_file(out.join("report.html"))?;
    run(&["report", text(&file)?]).await?.exits(0)?;
    ensure!(out.join("report.html").is_file());
    run(&["compare", text(&file)?, text(&file)?])
        .await?
        .exits(0)?
        .says("no figure is worse")?;
    let mut worse = report;
    for phase in worse["phases"].as_array_mut().unwrap() {
        for series in phase["series"].as_array_mut().unwrap() {
            for bucket in series["histogram"].as_array_mut().unwrap() {
                bucket[0] = (bucket[0].as_u64().unwrap() * 100).into();
            }
        }
    }
    let worse_file = out.join("worse.json");
    std::fs::write(&worse_file, worse.to_string())?;
    run(&["compare", text(&file)?, text(&worse_file)?])
        .await?
        .exits(2)?
        .says("closed.grpc.hit.p50")?;
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn loadtest_names_a_breached_slo() -> anyhow::Result<()> {
    let out = folder()?;
    let mut arguments = vec![
        "latency",
        "--loop",
        "open",
        "--scenarios",
        "hot",
        "--duration",
        "1s",
        "--rate",
        "20",
        "--out",
        text(&out)?,
        "--slo",
        "grpc.hit.p50<1us",
    ];
    arguments.extend(SHAPE);
    run(&arguments)
        .await?
        .exits(2)?
        .says("SLO breached: grpc.hit.p50<1us")?;
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn loadtest_finds_the_rate_that_holds() -> anyhow::Result<()> {
    let out = folder()?;
    let mut arguments = vec![
        "capacity",
        "--target",
        "grpc,edge",
        "--from",
        "20",
        "--rest-from",
        "5",
        "--max-rate",
        "40",
        "--duration",
        "1s",
        "--p99",
        "9s",
        "--out",
        text(&out)?,
    ];
    arguments.extend(SHAPE);
    arguments.extend(ANY_LAG);
    run(&arguments)
        .await?
        .exits(0)?
        .says("grpc: the knee is at 40 requests/s or more")?;
    let report = result(&out)?;
    let paths = report["capacity"].as_array().unwrap();
    ensure!(paths.len() == 2, "{paths:?}");
    for step in paths
        .iter()
        .flat_map(|path| path["steps"].as_array().unwrap())
    {
        ensure!(step["failed"] == 0 && step["p99_us"].is_u64(), "{step}");
    }
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn loadtest_samples_the_replicas_during_a_soak() -> anyhow::Result<()> {
    let out = folder()?;
    let mut arguments = vec![
        "soak",
        "--rate",
        "250",
        "--duration",
        "5s",
        "--warm-up",
        "1s",
        "--window",
        "500ms",
        "--max-growth",
        "100000%",
        "--out",
        text(&out)?,
    ];
    arguments.extend(SHAPE);
    arguments.extend(ANY_LAG);
    run(&arguments).await?.exits(0)?.says("steady")?;
    let trends = result(&out)?["soak"]["trends"].clone();
    let trends = trends.as_array().context("no trend")?;
    // Replicas that are containers have no process that is sampled.
    ensure!(trends.len() == 1 || trends.len() >= 5, "{trends:?}");
    ensure!(
        trends.iter().all(|one| one["within_limit"] == true),
        "{trends:?}"
    );
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn loadtest_measures_staleness() -> anyhow::Result<()> {
    let out = folder()?;
    let mut arguments = vec![
        "staleness",
        "--duration",
        "4s",
        "--rate",
        "3",
        "--parameter-rate",
        "2",
        "--cells",
        "2",
        "--background",
        "0,20",
        "--lost-after",
        "15s",
        "--out",
        text(&out)?,
        "--slo",
        "staleness.lost<1",
    ];
    arguments.extend(SHAPE);
    let report = measured(&arguments, &out).await?;
    let parts = report["staleness"].as_array().unwrap();
    ensure!(parts.len() == 2);
    for part in parts {
        ensure!(
            part["history"]["violations"].as_array().unwrap().is_empty(),
            "{}",
            part["history"]
        );
        ensure!(part["history"]["reads"].as_u64() > Some(10));
        ensure!(part["services"]["replicas"].as_u64() > Some(1));
        ensure!(
            part["history"]["failed_reads"]
                .as_object()
                .unwrap()
                .is_empty()
        );
        for observer in part["observers"].as_array().unwrap() {
            ensure!(
                observer["resolution"]["count"].as_u64() > Some(0),
                "{observer}"
            );
        }
        for source in part["sources"].as_array().unwrap() {
            ensure!(source["updates"].as_u64() > Some(2), "{source}");
            ensure!(
                source["receipts"].as_u64() > Some(0),
                "no receipt was found: {source}"
            );
            for stage in ["first_replica", "last_replica", "edge_all", "order_all"] {
                ensure!(
                    source["stages"][stage]["count"] == source["updates"],
                    "{stage} of {source}"
                );
                ensure!(source["unseen"][stage].is_null(), "{stage} of {source}");
            }
            for stage in ["edge_first", "order_first", "fanout", "start_to_last"] {
                ensure!(
                    source["stages"][stage]["count"].as_u64() > Some(0),
                    "{stage} of {source}"
                );
            }
        }
    }
    ensure!(parts[0]["background"].is_null());
    ensure!(count(&parts[1]["background"], "hit") > 0);
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn loadtest_seeds_and_removes_what_it_seeded() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let mut arguments = vec!["seed"];
    arguments.extend(SHAPE);
    run(&arguments).await?.exits(0)?.says("seeded 3 tenants")?;
    let user = stack.user_of("lt-00003", "reader").await?;
    let key = "tenant_config_loadtest/k0005";
    let value = stack.value_at(&user, &stack.http[0], key).await?;
    ensure!(
        value.is_some_and(|value| value.len() == 128 && value.contains("lt-00003")),
        "the value is not what seed says"
    );
    run(&["unseed"])
        .await?
        .exits(0)?
        .says("removed 3 tenants")?;
    run(&["unseed"])
        .await?
        .exits(0)?
        .says("nothing was seeded")?;
    e2e::poll_until("what was seeded is gone", async || {
        Ok(stack.value_at(&user, &stack.http[0], key).await?.is_none())
    })
    .await
}

#[tokio::test]
async fn loadtest_measures_a_quiet_tenant_beside_a_noisy_neighbour_and_cleans_up()
-> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let out = folder()?;
    let mut arguments = vec![
        "neighbours",
        "--noise",
        "secrets,writes",
        "--rounds",
        "1",
        "--duration",
        "6s",
        "--limit",
        "1000000",
        "--out",
        text(&out)?,
    ];
    arguments.extend(ANY_LAG);
    let report = measured(&arguments, &out).await?;
    let rows = report["neighbours"].as_array().unwrap();
    ensure!(rows.len() == 4, "two noises at two backends: {rows:?}");
    for row in rows {
        ensure!(row["alone"]["count"].as_u64() >= Some(100), "{row}");
        ensure!(row["alone_failed"] == 0, "{row}");
        ensure!(row["within_limit"] == true, "{row}");
        let calls = ["accepted", "refused", "failed"].map(|one| row[one].as_u64().unwrap());
        ensure!(calls.iter().sum::<u64>() > 100, "{row}");
    }
    let left = stack.parameters_below("tenants/lt-n").await?;
    ensure!(left.is_empty(), "{left:?}");
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn loadtest_refuses_an_output_folder_before_it_measures() -> anyhow::Result<()> {
    for command in [
        "latency",
        "capacity",
        "soak",
        "staleness",
        "neighbours",
        "chaos",
        "watchers",
    ] {
        run(&[command, "--out", "/proc/nope"])
            .await?
            .exits(64)?
            .says("--out /proc/nope: ")?;
    }
    Ok(())
}

#[tokio::test]
async fn loadtest_refuses_what_it_cannot_measure() -> anyhow::Result<()> {
    let out = folder()?;
    let latency = |more: &[&'static str]| {
        let mut arguments = vec!["latency", "--duration", "1s", "--out"];
        arguments.extend(more);
        arguments
    };
    let with_out = |mut arguments: Vec<&'static str>| -> anyhow::Result<Vec<String>> {
        arguments.retain(|argument| *argument != "--out");
        let mut all: Vec<String> = arguments.into_iter().map(ToOwned::to_owned).collect();
        all.extend(["--out".to_owned(), text(&out)?.to_owned()]);
        all.extend(SHAPE.map(ToOwned::to_owned));
        Ok(all)
    };
    for (code, more, says) in [
        (
            64,
            &["--slo", "grpc.hit.p98<1ms"][..],
            "names nothing that is measured",
        ),
        (
            64,
            &["--slo", "edge.p99<1s"][..],
            "names nothing that is measured",
        ),
        (64, &["--scenarios", "rest"][..], "has no gRPC form"),
        (64, &["--warm-up", "15"][..], "a time with its unit"),
        (64, &["--api-url", "localhost"][..], "is no URL"),
        (
            1,
            &["--grpc", "127.0.0.1:1"][..],
            "cannot reach 127.0.0.1:1",
        ),
        (
            1,
            &["--target", "edge", "--api-url", "http://127.0.0.1:1"][..],
            "cannot reach http://127.0.0.1:1",
        ),
        (
            1,
            &["--user-pool-id", "us-east-1_nobody"][..],
            "AdminSetUserPassword failed",
        ),
        (1, &["--token-file", "/does/not/exist"][..], "cannot read"),
    ] {
        let arguments = with_out(latency(more))?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments).await?.exits(code)?.says(says)?;
        ensure!(
            !out.join("result.json").exists(),
            "a report of nothing was written for {more:?}"
        );
    }
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn loadtest_reports_what_was_measured_when_it_is_interrupted() -> anyhow::Result<()> {
    let out = folder()?;
    let mut command = Command::new(program("loadtest")?);
    command
        .envs(role_credentials("load-test").await?)
        .args([
            "latency",
            "--loop",
            "open",
            "--scenarios",
            "hot",
            "--rate",
            "50",
        ])
        .args([
            "--duration",
            "10s",
            "--warm-up",
            "100ms",
            "--out",
            text(&out)?,
        ])
        .args(SHAPE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut process = command.spawn()?;
    let mut lines = BufReader::new(process.stderr.take().context("it has errors")?).lines();
    let begun = async {
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("grpc, open loop") {
                return anyhow::Ok(());
            }
        }
        anyhow::bail!("it ended before it measured")
    };
    timeout(LIMIT, begun).await??;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = process.id().context("it runs")?.to_string();
    Command::new("kill").args(["-INT", &pid]).status().await?;
    let ended = timeout(LIMIT, process.wait()).await??;
    ensure!(ended.code() == Some(130), "{ended}");
    let report = result(&out)?;
    ensure!(report["interrupted"] == true);
    let phases = report["phases"].as_array().unwrap();
    let phase = phases.iter().find(|phase| phase["path"] == "grpc");
    ensure!(count(phase.context("no phase")?, "hit") > 0);
    std::fs::remove_dir_all(out)?;
    Ok(())
}
