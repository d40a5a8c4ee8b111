//! `hardtack package` on a workspace with one small job.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A job that depends on a crate named hardtack.
fn workspace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("Cargo.toml", "[workspace]\nresolver = '3'\nmembers = ['hardtack', 'hello']\n"),
        ("hardtack/Cargo.toml", "[package]\nname = 'hardtack'\nversion = '0.7.0'\nedition = '2024'\n"),
        ("hardtack/src/lib.rs", ""),
        (
            "hello/Cargo.toml",
            "[package]\nname = 'hello'\nversion = '1.0.0'\nedition = '2024'\n[dependencies]\nhardtack = { path = '../hardtack' }\n",
        ),
        ("hello/src/main.rs", "fn main() { println!(\"hello\") }\n"),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let lock =
        Command::new("cargo").args(["generate-lockfile", "--offline", "--quiet"]).current_dir(folder.path()).status();
    assert!(lock.unwrap().success());
    folder
}

/// Unlike other tests of the command, this one needs the environment: cargo is found by it.
fn package(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_hardtack"))
        .args(["package", "--output", "out", "--build-folder", "build", "--profile", "dev"])
        .args(args)
        .current_dir(folder)
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn artefacts_are_listed_with_their_checksums() {
    let folder = workspace();
    let (code, said, why) = package(folder.path(), &["hello"]);
    assert_eq!(code, Some(0), "{why}");
    let sums = fs::read_to_string(folder.path().join("out/SHA256SUMS")).unwrap();
    let (sha256, name) = sums.trim().split_once("  ").unwrap();
    assert!(said.contains(sha256), "{said}");
    let filters = [
        (r"\b[0-9a-f]{64}\b", "SHA256"),
        (r"hello-1.0.0-[a-z0-9_]+-[a-z0-9_-]+", "hello-1.0.0-TARGET"),
        (r"\| +\d+ \|", "| BYTES |"),
        (r" +file +\| +bytes +\| +sha256", " file | bytes | sha256"),
        (r"-+\+-+\+-+", "---"),
        (r"fatal: .*", "fatal: GIT"),
        (r"to /.*/out in \d+\.\d s", "to FOLDER/out in SECONDS s"),
    ];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(said, @"
         file | bytes | sha256
        ---
         hello-1.0.0-TARGET.tar.zst | BYTES | SHA256
        warning: there is no git revision: fatal: GIT
        packaged to FOLDER/out in SECONDS s
        ");
    });
    let out = folder.path().join("out").join(name);
    let verified =
        Command::new(env!("CARGO_BIN_EXE_hardtack")).args(["package", "--verify"]).arg(&out).output().unwrap();
    assert_eq!(String::from_utf8(verified.stdout).unwrap(), format!("{}: ok, hello 1.0.0\n", out.display()));
}

#[test]
fn an_unknown_job_is_wrong_usage_and_a_failed_build_is_not() {
    let folder = workspace();
    let (code, _, why) = package(folder.path(), &["helo"]);
    let said = "hardtack: there is no job `helo` (hint: did you mean `hello`? the jobs are hello)\n";
    assert_eq!((code, why.as_str()), (Some(2), said));
    fs::write(folder.path().join("hello/src/main.rs"), "fn main() { nothing }\n").unwrap();
    let (code, said, why) = package(folder.path(), &["--all"]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    for part in
        ["cannot find value `nothing` in this scope", "hardtack: cargo cannot build the jobs (cargo: exit status: 101"]
    {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
}
