//! `hardtack serve`: serves the tables of the catalog to PostgreSQL clients.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hardtack_core::{Error, Result};
use hardtack_runtime::{QueryArgs, RuntimeArgs, Stop, open_context, parse_bytes, parse_duration, parse_threads};
use hardtack_serve::{ServeOptions, Server, TlsFiles, Workers, work};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on for PostgreSQL clients, for example `127.0.0.1:5432`; port 0 chooses a free one
    #[arg(long, value_name = "ADDR")]
    postgres: String,
    /// User name, if there is a password
    #[arg(long, env = "HARDTACK_SERVE_USER", value_name = "NAME", default_value = "hardtack")]
    user: String,
    /// File with the password; it can also be set in the environment variable `HARDTACK_SERVE_PASSWORD`
    #[arg(long, env = "HARDTACK_SERVE_PASSWORD_FILE", value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Certificate of the server (PEM)
    #[arg(long, env = "HARDTACK_SERVE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, env = "HARDTACK_SERVE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Time limit of a statement, for example `30s` or `10m`; `0s` means no limit
    #[arg(long, env = "HARDTACK_SERVE_STATEMENT_TIMEOUT", value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    statement_timeout: chrono::TimeDelta,
    // Not `QueryArgs`: these are limits of each query, and memory has another default.
    /// Memory that one query may hold before it spills, for example `2GiB`
    #[arg(long, env = "HARDTACK_MEMORY_LIMIT", value_name = "SIZE", default_value = "1GiB", value_parser = parse_bytes)]
    memory_limit: usize,
    /// Maximum number of connections
    #[arg(long, value_name = "N", default_value = "32", value_parser = parse_threads)]
    max_connections: usize,
    /// Threads of one query, for example `4` [default: one per core]
    #[arg(long, env = "HARDTACK_THREADS", value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
    /// Folder that queries spill to, for example `/scratch` [default: the system's temporary folder]
    #[arg(long, env = "HARDTACK_SPILL_DIR", value_name = "FOLDER")]
    spill_dir: Option<PathBuf>,
    /// Serve the one client whose socket is standard input, on behalf of the server that has started this process
    #[arg(long, hide = true)]
    worker: bool,
}

impl ServeArgs {
    fn password(&self) -> Result<Option<String>> {
        #[expect(clippy::disallowed_methods, reason = "everybody on the machine can read arguments")]
        let given = std::env::var("HARDTACK_SERVE_PASSWORD").ok();
        let Some(file) = &self.password_file else { return Ok(given) };
        if given.is_some() {
            return Err(Error::usage("both --password-file and HARDTACK_SERVE_PASSWORD are set; use only one"));
        }
        #[expect(clippy::disallowed_methods, reason = "a secret of this machine, and no data")]
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|e| Error::usage("no password").with("file", file.display()).because(e))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// Serves until the process is told to stop. `command` holds the arguments that it was started with.
pub(crate) async fn serve(options: RuntimeArgs, args: ServeArgs, command: Vec<OsString>) -> Result<()> {
    let query = QueryArgs { threads: args.threads, ..options.query };
    let ctx = open_context("serve", &RuntimeArgs { query, ..options })?;
    if args.worker {
        return work(&ctx).await;
    }
    let password = args.password()?;
    let limit = args.statement_timeout.to_std().ok().filter(|limit| *limit > Duration::ZERO);
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key });
    let is_open = password.is_none();
    let options = ServeOptions {
        address: args.postgres,
        user: args.user,
        password,
        tls,
        statement_timeout: limit,
        memory_limit: args.memory_limit,
        spill_dir: args.spill_dir,
        max_connections: args.max_connections,
        workers: Some(workers(command)?),
        ..ServeOptions::default()
    };
    let server = Server::bind(&ctx, options).await?;
    let stop = stopped()?;
    let whom = if is_open { "everybody on this machine" } else { "those who know the password" };
    // Scripts read the port from this line.
    crate::say(&format!("listening on {} for {whom}\n", server.local_addr()?));
    server.run(stop).await
}

/// Workers are this program with the same arguments, so they have the same tables.
fn workers(mut command: Vec<OsString>) -> Result<Workers> {
    // The running program, even if its file has been replaced meanwhile.
    let program = match cfg!(target_os = "linux") {
        true => PathBuf::from("/proc/self/exe"),
        false => {
            std::env::current_exe().map_err(|e| Error::unexpected("the program's file cannot be found").because(e))?
        }
    };
    command.push("--worker".into());
    Ok(Workers::new(program, command))
}

/// Completes when the process is told to stop.
fn stopped() -> Result<impl Future<Output = ()>> {
    let mut stop = Stop::listen()?;
    Ok(async move { stop.wait().await })
}
