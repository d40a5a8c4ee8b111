//! Archives: what is in them, and that they are the same everywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hardtack_core::ErrorKind;
use hardtack_package::{Binary, Jobs, Options, package, verify};
use rstest::rstest;

use crate::workspace::{TestWorkspace, printed};
use crate::{SAMPLE, archive, files_in, json, named, sample, target, with_filters};

#[test]
fn an_archive_has_what_a_release_needs() {
    let (workspace, packaged) = &*SAMPLE;
    assert_eq!((&packaged.revision, packaged.dirty), (&Some(workspace.head()), false));
    assert_eq!(packaged.warnings, [""; 0]);
    let entries = archive(sample("count", ".tar.zst"));
    let lines: Vec<&str> = entries.iter().map(|(_, line, _)| line.as_str()).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    0755 0:0 @1700000000 count-1.2.3/
    0644 0:0 @1700000000 count-1.2.3/LICENSE-MIT
    0644 0:0 @1700000000 count-1.2.3/NOTICE
    0644 0:0 @1700000000 count-1.2.3/build.json
    0755 0:0 @1700000000 count-1.2.3/count
    0644 0:0 @1700000000 count-1.2.3/sbom.cdx.json
    ");
    let record = String::from_utf8(entries[3].2.clone()).unwrap();
    with_filters(|| {
        insta::assert_snapshot!(record, @r#"
        {
          "format": 1,
          "name": "count",
          "version": "1.2.3",
          "target": "TARGET",
          "profile": "release",
          "revision": "REVISION",
          "dirty": false,
          "time": "2023-11-14T22:13:20Z",
          "rustc": "RUSTC",
          "hardtack": "0.7.0",
          "datafusion": "53.1.0",
          "built_with": [
            "count",
            "report"
          ]
        }
        "#);
    });
}

#[test]
fn the_binary_knows_its_revision_and_not_its_folder() {
    let (workspace, _) = &*SAMPLE;
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("count");
    fs::write(&binary, &archive(sample("count", ".tar.zst"))[4].2).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    // Flags of cargo's configuration count, too.
    let printed = printed(&binary);
    let (revision, places) = printed.trim_end().split_once('\n').unwrap();
    assert_eq!(revision, format!("count 1.2.3 of {}", workspace.head()));
    insta::with_settings!({filters => [("hardtack-[0-9a-f]{16}", "hardtack-HASH")]}, {
        insta::assert_snapshot!(places, @r#"["crates/hardtack/src/lib.rs", "/path/datafusion-53.1.0/src/lib.rs", "./target/release/build/hardtack-HASH/out/made.rs"] true"#);
    });
}

#[test]
fn artefacts_are_the_same_in_whatever_folder_they_are_built() {
    let (first, _) = &*SAMPLE;
    let other = TestWorkspace::below("another folder/with a longer name");
    assert_eq!(first.head(), other.head());
    package(&Options { image: true, ..other.options(Jobs::All) }).unwrap();
    let (first, other) = (files_in(&first.output()), files_in(&other.output()));
    assert_eq!(first.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let different: Vec<_> =
        first.iter().filter(|(name, bytes)| other[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(different.is_empty(), "{different:?}");
}

#[test]
fn only_complete_artefacts_are_in_the_folder() {
    let (workspace, packaged) = &*SAMPLE;
    let target = target();
    let artefacts = [
        format!("count-1.2.3-{target}.oci.tar"),
        format!("count-1.2.3-{target}.tar.zst"),
        format!("report-2.0.0-{target}.oci.tar"),
        format!("report-2.0.0-{target}.tar.zst"),
    ];
    assert_eq!(packaged.artefacts.iter().map(|artefact| artefact.name()).collect::<Vec<_>>(), artefacts);
    let mut wanted: Vec<String> = artefacts.iter().flat_map(|name| [name.clone(), format!("{name}.sha256")]).collect();
    wanted.push("SHA256SUMS".to_owned());
    wanted.sort();
    assert_eq!(files_in(&workspace.output()).into_keys().collect::<Vec<_>>(), wanted);
    let check = |file: &str| {
        Command::new("sha256sum").args(["--check", "--strict", file]).current_dir(workspace.output()).output().unwrap()
    };
    let checked = String::from_utf8(check("SHA256SUMS").stdout).unwrap();
    assert_eq!(checked, artefacts.map(|name| format!("{name}: OK\n")).concat());
    assert!(check(&wanted[2]).status.success(), "{}", wanted[2]);
}

/// The crates of an SBOM, with what each needs.
fn crates(sbom: &[u8]) -> String {
    let sbom = json(sbom);
    let short = |reference: &serde_json::Value| reference.as_str().unwrap().rsplit('#').next().unwrap().to_owned();
    let lines = sbom["dependencies"].as_array().unwrap().iter().map(|dependency| {
        let needs: Vec<String> = dependency["dependsOn"].as_array().unwrap().iter().map(short).collect();
        format!("{}: {}", short(&dependency["ref"]), needs.join(", "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sbom_has_the_crates_in_the_binary_and_no_others() {
    let entries = archive(sample("report", ".tar.zst"));
    insta::assert_snapshot!(crates(&entries[5].2), @"
    report@2.0.0: hardtack@0.7.0
    hardtack@0.7.0: datafusion@53.1.0, extra@1.0.5
    datafusion@53.1.0: 
    extra@1.0.5: 
    ");
    with_filters(|| insta::assert_snapshot!("sbom", String::from_utf8(entries[5].2.clone()).unwrap()));
}

#[test]
fn features_are_those_of_the_jobs_that_are_built_together() {
    let (workspace, _) = &*SAMPLE;
    let together = archive(sample("count", ".tar.zst"));
    assert!(crates(&together[5].2).contains("extra@1.0.5"));
    let output = workspace.beside("alone");
    let alone = package(&Options { output: Some(output), ..workspace.options(named(&["count"])) }).unwrap();
    let alone = archive(&alone.artefacts[0].path);
    assert!(!crates(&alone[5].2).contains("extra"), "{}", crates(&alone[5].2));
    assert_eq!(json(&alone[3].2)["built_with"], serde_json::json!(["count"]));
}

#[test]
fn changes_that_are_not_committed_are_on_record() {
    let workspace = TestWorkspace::new();
    // An ignored file is not a change; a new one may be built into a binary.
    workspace.write("ignored", "");
    // Neither is what was packaged, wherever it is.
    let output = Some(workspace.root.join("dist"));
    let options = Options { profile: "dev".to_owned(), output, ..workspace.options(named(&["report"])) };
    for _ in 0..2 {
        assert!(!package(&options).unwrap().dirty);
    }
    workspace.write(
        "jobs/report/src/main.rs",
        "fn main() { println!(\"{} {}\", env!(\"CARGO_MANIFEST_DIR\"), env!(\"HARDTACK_REVISION\")) }\n",
    );
    let packaged = package(&options).unwrap();
    assert!(packaged.dirty);
    let root = workspace.root.display();
    assert_eq!(
        packaged.warnings,
        [format!("the binary of `report` names the folder `{root}`, so a build in another folder is not the same")]
    );
    let verified = verify(&packaged.artefacts[0].path).unwrap();
    let record = verified.record.unwrap();
    assert_eq!((record.dirty, record.revision), (true, Some(workspace.head())));
    let binary = workspace.beside("build").join("debug/report");
    assert_eq!(printed(&binary), format!("{root}/jobs/report {}-dirty\n", workspace.head()));
}

#[test]
fn a_workspace_without_a_repository_has_no_revision() {
    let workspace = TestWorkspace::new();
    fs::remove_dir_all(workspace.root.join(".git")).unwrap();
    let binary = Binary { job: None, path: std::env::current_exe().unwrap() };
    let options = Options { binaries: vec![binary], ..workspace.options(named(&["count"])) };
    let packaged = package(&Options { time: Some(86_400), ..options.clone() }).unwrap();
    assert_eq!((packaged.revision, packaged.dirty), (None, false));
    let [warning] = &*packaged.warnings else { panic!("{:?}", packaged.warnings) };
    assert!(warning.starts_with("there is no git revision: fatal: not a git repository"), "{warning}");
    let record = verify(&packaged.artefacts[0].path).unwrap().record.unwrap();
    assert_eq!((record.revision, record.time.as_str()), (None, "1970-01-02T00:00:00Z"));
    // A binary that exists already says by which compiler it was made; by which profile nobody knows.
    assert!(record.rustc.is_some_and(|version| version.starts_with("rustc 1.")));
    assert_eq!(record.profile, None);
}

#[test]
fn what_was_written_is_verified() {
    let (workspace, packaged) = &*SAMPLE;
    for artefact in &packaged.artefacts {
        let verified = verify(&artefact.path).unwrap();
        assert_eq!(verified.artefact, *artefact);
        let revision = verified.record.map(|record| record.revision);
        let wanted = artefact.name().ends_with(".zst").then(|| Some(workspace.head()));
        assert_eq!(revision, wanted);
    }
}

/// How a file is damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A byte in the middle has changed.
    Byte,
    /// The second half is missing.
    Half,
}

#[rstest]
#[case::archive(".tar.zst", Damage::Byte)]
#[case::short_archive(".tar.zst", Damage::Half)]
#[case::image(".oci.tar", Damage::Byte)]
#[case::short_image(".oci.tar", Damage::Half)]
fn a_damaged_artefact_is_refused(
    #[case] ending: &str,
    #[case] damage: Damage,
    #[values(false, true)] new_checksum: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample("count", ending);
    let name = sample.file_name().unwrap().to_str().unwrap();
    let mut bytes = fs::read(sample).unwrap();
    let middle = bytes.len() / 2;
    match damage {
        Damage::Byte => bytes[middle] ^= 1,
        Damage::Half => bytes.truncate(middle),
    }
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    let sums = folder.path().join(format!("{name}.sha256"));
    if new_checksum {
        let sum = Command::new("sha256sum").arg(name).current_dir(folder.path()).output().unwrap();
        fs::write(&sums, sum.stdout).unwrap();
    } else {
        fs::copy(sample.with_file_name(format!("{name}.sha256")), &sums).unwrap();
    }
    let error = verify(&file).unwrap_err();
    let checksum_differs = error.message() == "the file is not the one that its checksum is of";
    assert_eq!((error.kind(), checksum_differs), (ErrorKind::Refused, !new_checksum), "{error:?}");
    assert_eq!(error.get("file"), file.to_str());
}
