//! Credentials of the roles that Terraform made for the stack's programs.

use anyhow::{Context, ensure};
use tagged_config_runtime::env::{Env, ProcessEnv};
use tokio::process::Command;

/// The variables of a session of this program's role (`config-service`, `load-test`, ...), for a process that a test starts.
pub async fn role_credentials(role: &str) -> anyhow::Result<Vec<(String, String)>> {
    let get = |name: &str| {
        ProcessEnv
            .get(name)
            .with_context(|| format!("{name} is not set: run `make test`"))
    };
    let output = Command::new(get("TAGGED_CONFIG_PYTHON")?)
        .args(["localstack/stack.py", "credentials", role, "--state-dir"])
        .arg(get("TAGGED_CONFIG_STACK_DIR")?)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let (name, value) = line
                .strip_prefix("export ")
                .and_then(|assignment| assignment.split_once('='))
                .with_context(|| format!("{line:?} is no assignment"))?;
            Ok((name.to_owned(), value.trim_matches('\'').to_owned()))
        })
        .collect()
}
