//! A config-service outside any stack, with an issuer that the test controls.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::{Child, Command},
};

/// Serves a JWKS document over HTTP.
pub struct JwksServer {
    /// Where.
    pub url: String,
    document: Arc<Mutex<String>>,
}

/// The running process; killed when dropped.
pub struct Standalone {
    /// gRPC address.
    pub grpc: String,
    /// HTTP address.
    pub http: String,
    process: Child,
}

impl JwksServer {
    /// Serves this document.
    pub async fn start(document: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/jwks.json", listener.local_addr()?);
        let document = Arc::new(Mutex::new(document));
        let served = Arc::clone(&document);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let body = served.lock().expect("not poisoned").clone();
                tokio::spawn(async move {
                    let mut request = [0; 2_048];
                    let _ = stream.read(&mut request).await;
                    let head =
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Ok(Self { url, document })
    }

    /// Serves this one from now on.
    pub fn publish(&self, document: String) {
        *self.document.lock().expect("not poisoned") = document;
    }
}

impl Standalone {
    /// Starts one with the documented variables alone, and waits until it is ready.
    pub async fn start(jwks_url: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_logging(jwks_url, settings, Stdio::null()).await
    }

    /// Starts one whose keys cannot be fetched, and waits until it listens: it does not become ready.
    pub async fn start_without_keys(jwks_url: &str) -> anyhow::Result<Self> {
        let service = Self::launch(jwks_url, &[], Stdio::null(), "healthz").await?;
        let ready = reqwest::get(format!("http://{}/readyz", service.http)).await?;
        anyhow::ensure!(!ready.status().is_success(), "it is ready without keys");
        Ok(service)
    }

    /// The same, with its log written there.
    pub async fn start_logging(
        jwks_url: &str,
        settings: &[(&str, &str)],
        log: impl Into<Stdio>,
    ) -> anyhow::Result<Self> {
        Self::launch(jwks_url, settings, log, "readyz").await
    }

    /// Starts one, and waits until it answers well at this path.
    async fn launch(
        jwks_url: &str,
        settings: &[(&str, &str)],
        log: impl Into<Stdio>,
        path: &str,
    ) -> anyhow::Result<Self> {
        let (grpc, refresh, http) = (
            free_address().await?,
            free_address().await?,
            free_address().await?,
        );
        let mut command = Command::new(program("config-service")?);
        command
            .env_clear()
            .envs([
                ("TAGGED_CONFIG_GRPC_ADDR", grpc.as_str()),
                ("TAGGED_CONFIG_REFRESH_ADDR", refresh.as_str()),
                ("TAGGED_CONFIG_HTTP_ADDR", http.as_str()),
                ("TAGGED_CONFIG_JWKS_URL", jwks_url),
                ("TAGGED_CONFIG_ISSUER", tagged_config_testkit::ISSUER),
                ("TAGGED_CONFIG_AUDIENCE", tagged_config_testkit::AUDIENCE),
                ("TAGGED_CONFIG_TABLE", "TenantConfigurations"),
                ("TAGGED_CONFIG_PARAMETER_ROOT", "/tagged-config/config"),
                ("TAGGED_CONFIG_CACHE_TTL", "60s"),
                ("TAGGED_CONFIG_CACHE_BYTES", "16777216"),
                (
                    "TAGGED_CONFIG_REFRESH_CREDENTIAL",
                    "a-credential-for-tests-only",
                ),
                ("AWS_REGION", "us-east-1"),
                // Nobody's: a test that lets it reach the emulator gives it the credentials of its role.
                ("AWS_ACCESS_KEY_ID", "nobody"),
                ("AWS_SECRET_ACCESS_KEY", "nobody"),
            ])
            .envs(settings.iter().copied())
            .stdout(log)
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        for _ in 0..500 {
            if let Some(status) = process.try_wait()? {
                bail!("config-service ended at its start: {status}");
            }
            if reqwest::get(format!("http://{http}/{path}"))
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return Ok(Self {
                    grpc,
                    http,
                    process,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("config-service was not ready in 10 s")
    }

    /// The memory that it has resident now, and had at most, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<(u64, u64)> {
        let pid = self.process.id().context("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            number
                .and_then(|number| number.parse::<u64>().ok())
                .with_context(|| format!("no {name} in\n{status}"))
        };
        Ok((kib("VmRSS:")? * 1024, kib("VmHWM:")? * 1024))
    }

    /// Sends SIGTERM and waits for the exit code.
    pub async fn terminate(mut self) -> anyhow::Result<Option<i32>> {
        let pid = self.process.id().context("the process has ended")?;
        Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status()
            .await?;
        let status = tokio::time::timeout(Duration::from_secs(30), self.process.wait())
            .await
            .context("no end in 30 s")??;
        Ok(status.code())
    }
}

/// A binary that the stack was built with.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("the test has no target folder")?;
    let binary = profile.join(name);
    if !binary.exists() {
        bail!("{} is not built: run `make test`", binary.display());
    }
    Ok(binary)
}

async fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")
        .await?
        .local_addr()?
        .to_string())
}
