//! One container of each service for all processes of a test run, removed afterwards.
//!
//! `cargo test` and `cargo nextest` run many independent processes, any of which may be killed, so none of them owns a
//! container. The first one that needs a container starts a *reaper*, a shell that outlives all of them: it waits until
//! the process of the test run (cargo) has ended, removes the containers with its label, and exits. The others find the
//! reaper's id in a file that is named after the run, and the containers by that id. If the reaper was killed too, for
//! example because the machine went down, the next reaper removes its containers.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt, ReuseDirective, TestcontainersError};

use super::service::wait;

/// An image, and how to recognise that its service is ready.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) tag: &'static str,
    pub(super) port: u16,
    /// The output that shows readiness.
    pub(super) ready: &'static str,
    pub(super) env: &'static [(&'static str, &'static str)],
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// The endpoint of this image's container for this test run; starts the container if it is not running.
pub(super) fn endpoint(image: &Image) -> Result<String, String> {
    let run = test_run();
    let path = std::env::temp_dir().join(format!("hardtack-test-run-{run}"));
    let at = |e: std::io::Error| format!("{}: {e}", path.display());
    // Locked by one process at a time; the others wait here until the container is ready.
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(at)?;
    file.lock().map_err(at)?;
    let reaper = match reaper_in(&mut file).map_err(at)? {
        Some(reaper) => reaper,
        None => start_reaper(run, &path, &mut file)?,
    };
    let port = wait(start(image, reaper)).map_err(|e| e.to_string())?;
    Ok(format!("http://127.0.0.1:{port}"))
}

/// The process of this test run: the cargo or nextest that started this one. Without such a parent (in a debugger, for
/// example) this process is a test run by itself.
fn test_run() -> u32 {
    let parent = sysinfo::Pid::from_u32(parent_id());
    let mut system = System::new();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[parent]), false, ProcessRefreshKind::nothing());
    let is_cargo = system.process(parent).is_some_and(|p| p.name().to_string_lossy().starts_with("cargo"));
    if is_cargo { parent.as_u32() } else { std::process::id() }
}

/// The reaper of this run, if it is alive.
fn reaper_in(file: &mut File) -> std::io::Result<Option<u32>> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let alive = pid.filter(|pid| test_kill_process(*pid).is_ok());
    Ok(alive.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()))
}

const LABEL: &str = "hardtack.reaper";

/// Arguments: the label, the process to wait for, the file to remove.
const REAPER: &str = r#"
    trap '' HUP INT QUIT TERM
    alive() { kill -0 "$1" 2>/dev/null && case $(ps -o stat= -p "$1" 2>/dev/null) in Z*) return 1 ;; esac; }
    remove() { docker ps --all --quiet --filter "label=$label=$1" | xargs -r docker rm --force --volumes; }
    label=$1
    for reaper in $(docker ps --all --filter "label=$label" --format "{{.Label \"$label\"}}" | sort -u); do
        alive "$reaper" || remove "$reaper"
    done
    while alive "$2"; do sleep 1; done
    remove $$
    rm -f "$3"
"#;

fn start_reaper(run: u32, path: &Path, file: &mut File) -> Result<u32, String> {
    // Fail now with a clear message, rather than when the reaper has to remove containers.
    let docker = Command::new("docker").arg("version").output().map_err(|e| format!("there is no `docker`: {e}"))?;
    if !docker.status.success() {
        return Err(String::from_utf8_lossy(&docker.stderr).trim().to_owned());
    }
    let reaper = Command::new("sh")
        .args(["-c", REAPER, "hardtack-reaper", LABEL, &run.to_string()])
        .arg(path)
        .current_dir("/")
        // A process group of its own, so that interrupting the tests does not interrupt it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let pid = reaper.map_err(|e| format!("there is no `sh`: {e}"))?.id();
    let noted = file.rewind().and_then(|()| file.set_len(0)).and_then(|()| write!(file, "{pid}"));
    noted.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(pid)
}

/// Starts or finds the container, and returns its port on this machine.
async fn start(image: &Image, reaper: u32) -> Result<u16, TestcontainersError> {
    let service = image.name.rsplit('/').next().unwrap_or(image.name);
    let port = image.port;
    let loopback = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None };
    let request = GenericImage::new(image.name, image.tag)
        .with_exposed_port(port.tcp())
        .with_wait_for(WaitFor::message_on_either_std(image.ready))
        .with_container_name(format!("hardtack-{service}-{reaper}"))
        .with_label(LABEL, reaper.to_string())
        .with_reuse(ReuseDirective::Always)
        .with_startup_timeout(Duration::from_secs(120))
        .with_host_config_modifier(move |host| {
            host.publish_all_ports = Some(false);
            host.port_bindings = Some([(format!("{port}/tcp"), Some(vec![loopback.clone()]))].into());
        });
    let request = image.env.iter().fold(request, |request, (name, value)| request.with_env_var(*name, *value));
    request.start().await?.get_host_port_ipv4(port).await
}
