//! Images in a real engine.

use std::process::Command;

use crate::{SAMPLE, sample};

fn docker(args: &[&str]) -> String {
    let done = Command::new("docker").args(args).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "docker {args:?}: {said}");
    said
}

/// Removes an image at the end, even after a panic.
struct Loaded(&'static str);

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", "--force", self.0]).output();
    }
}

#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn an_image_runs_with_a_read_only_file_system() {
    let (workspace, _) = &*SAMPLE;
    let image = Loaded("count:1.2.3");
    let path = sample("count", ".oci.tar");
    docker(&["load", "--input", path.to_str().unwrap()]);
    let said = docker(&["run", "--rm", "--read-only", "--network", "none", image.0]);
    assert_eq!(said.lines().next().unwrap(), format!("count 1.2.3 of {}", workspace.head()));
    let label = "{{index .Config.Labels \"org.opencontainers.image.revision\"}} {{.Config.User}}";
    assert_eq!(
        docker(&["image", "inspect", "--format", label, image.0]).trim(),
        format!("{} 65532:65532", workspace.head())
    );
}
