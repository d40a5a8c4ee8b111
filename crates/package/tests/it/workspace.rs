//! A workspace like that of a user of hardtack, without hardtack: a few lines of code, and a registry in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hardtack_package::{Jobs, Options};

/// When its only commit was made.
pub const COMMITTED: u64 = 1_700_000_000;

pub struct TestWorkspace {
    folder: tempfile::TempDir,
    pub root: PathBuf,
}

/// Files by path. The jobs: `count` needs little; `report` switches on a feature of hardtack. What only other
/// platforms, tests, build scripts and macros need must not be in any SBOM.
const FILES: [(&str, &str); 23] = [
    ("Cargo.toml", "[workspace]\nresolver = '3'\nmembers = ['crates/*', 'jobs/*']\n"),
    (".gitignore", "/ignored\n"),
    ("LICENSE-MIT", "MIT License\n"),
    ("NOTICE", "Parts are by others.\n"),
    (
        "../.cargo/config.toml",
        "[build]\nrustflags = ['--cfg', 'from_config']\n\
        [source.crates-io]\nreplace-with = 'vendored'\n[source.vendored]\ndirectory = 'vendor'\n",
    ),
    (
        "crates/hardtack/Cargo.toml",
        "[package]\nname = 'hardtack'\nversion = '0.7.0'\nedition = '2024'\nlicense = 'MIT OR Apache-2.0'\n\
        [features]\nextra = ['dep:extra']\n\
        [dependencies]\ndatafusion = '53'\nextra = { version = '1', optional = true }\nmacros = { path = '../macros' }\n\
        [target.'cfg(windows)'.dependencies]\nwindows = '1'\n\
        [build-dependencies]\ncc = '1'\n",
    ),
    (
        "crates/hardtack/build.rs",
        "fn main() {\n\
        cc::nothing();\n\
        let file = format!(\"{}/made.rs\", std::env::var(\"OUT_DIR\").unwrap());\n\
        std::fs::write(file, \"pub fn made() -> &'static str { file!() }\").unwrap();\n}\n",
    ),
    (
        "crates/hardtack/src/lib.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n\
        pub fn places() -> [&'static str; 3] { [file!(), datafusion::place(), made()] }\n\
        pub fn some<T>(value: Option<T>) -> T { value.expect(\"a value\") }\n",
    ),
    (
        "crates/macros/Cargo.toml",
        "[package]\nname = 'macros'\nversion = '0.7.0'\nedition = '2024'\n[lib]\nproc-macro = true\n",
    ),
    ("crates/macros/src/lib.rs", ""),
    (
        "crates/plain/Cargo.toml",
        "[package]\nname = 'plain'\nversion = '0.1.0'\nedition = '2024'\n[dev-dependencies]\nhardtack = { path = '../hardtack' }\n",
    ),
    ("crates/plain/src/main.rs", "fn main() {}\n"),
    (
        "crates/tool/Cargo.toml",
        "[package]\nname = 'tool'\nversion = '0.1.0'\nedition = '2024'\n[package.metadata.hardtack]\npackage = false\n\
        [dependencies]\nhardtack = { path = '../hardtack' }\n",
    ),
    ("crates/tool/src/main.rs", "fn main() {}\n"),
    (
        "jobs/count/Cargo.toml",
        "[package]\nname = 'count'\nversion = '1.2.3'\nedition = '2024'\nlicense = 'MIT'\ndescription = '''Counts\nlines'''\n\
        repository = 'https://example.com/lake'\n\
        [dependencies]\nhardtack = { path = '../../crates/hardtack' }\n[dev-dependencies]\nmocks = '1'\n",
    ),
    (
        "jobs/count/src/main.rs",
        "#![allow(unexpected_cfgs)]\nfn main() {\n\
        println!(\"count {} of {}\", env!(\"CARGO_PKG_VERSION\"), option_env!(\"HARDTACK_REVISION\").unwrap_or(\"nothing\"));\n\
        println!(\"{:?} {}\", hardtack::places(), cfg!(from_config));\n\
        let _ = std::env::args().nth(9).map(|_| hardtack::some(std::env::args().nth(10)));\n}\n",
    ),
    (
        "jobs/report/Cargo.toml",
        "[package]\nname = 'report'\nversion = '2.0.0'\nedition = '2024'\n\
        [dependencies]\nhardtack = { path = '../../crates/hardtack', features = ['extra'] }\n",
    ),
    ("jobs/report/src/main.rs", "fn main() { println!(\"report\") }\n"),
    (
        "../vendor/datafusion/Cargo.toml",
        "[package]\nname = 'datafusion'\nversion = '53.1.0'\nlicense = 'Apache-2.0'\n[dependencies]\nextra = { version = '1', optional = true }\n",
    ),
    ("../vendor/extra/Cargo.toml", "[package]\nname = 'extra'\nversion = '1.0.5'\nlicense = 'MIT/Apache-2.0'\n"),
    ("../vendor/mocks/Cargo.toml", "[package]\nname = 'mocks'\nversion = '1.0.0'\n"),
    ("../vendor/windows/Cargo.toml", "[package]\nname = 'windows'\nversion = '1.0.0'\n"),
    ("../vendor/cc/Cargo.toml", "[package]\nname = 'cc'\nversion = '1.0.0'\n"),
];

impl TestWorkspace {
    /// A workspace in a git repository, with one commit whose hash is always the same. The crates of its registry are
    /// elsewhere, as they are for everybody.
    pub fn new() -> Self {
        Self::below("w")
    }

    /// The same in a folder of this name.
    pub fn below(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As cargo shows it: the temporary folder may be behind a symbolic link.
        let root = fs::canonicalize(folder.path()).unwrap().join(name);
        let workspace = Self { folder, root };
        for (path, text) in FILES {
            workspace.write(path, text);
        }
        for crate_name in ["datafusion", "extra", "mocks", "windows", "cc"] {
            workspace.write(
                &format!("../vendor/{crate_name}/src/lib.rs"),
                "pub fn nothing() {}\npub fn place() -> &'static str { file!() }\n",
            );
            let sum = format!("{{\"files\":{{}},\"package\":\"{}\"}}", hex_of(crate_name));
            workspace.write(&format!("../vendor/{crate_name}/.cargo-checksum.json"), &sum);
        }
        workspace.run("cargo", &["generate-lockfile", "--offline", "--quiet"]);
        workspace.run("git", &["init", "--quiet"]);
        workspace.run("git", &["add", "."]);
        workspace.run("git", &["commit", "--quiet", "--message", "All of it"]);
        workspace
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let date = format!("@{COMMITTED} +0000");
        let mut command = Command::new(program);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "A. Nobody").env(format!("GIT_{who}_EMAIL"), "a@example.com");
            command.env(format!("GIT_{who}_DATE"), &date);
        }
        // Settings of the person who runs the tests, such as signatures, would change the hash.
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let done = command.args(args).current_dir(&self.root).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Options that write nothing outside of the workspace's temporary folder, and nothing in the workspace.
    pub fn options(&self, jobs: Jobs) -> Options {
        Options {
            folder: self.root.clone(),
            jobs,
            output: Some(self.output()),
            build_folder: Some(self.folder.path().join("build")),
            ..Options::default()
        }
    }

    pub fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub fn head(&self) -> String {
        self.run("git", &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// A folder beside the workspace.
    pub fn beside(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

/// Something like a SHA-256.
fn hex_of(name: &str) -> String {
    name.bytes().cycle().take(32).map(|byte| format!("{byte:02x}")).collect()
}

/// What a program prints.
pub fn printed(program: &Path) -> String {
    String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap()
}
