//! What the runtime promises to a job that writes many files: one for each partition of its table. The second delivery
//! has the partitions.

use std::process::Command;

use super::{JobContract, deliver, names};
use crate::job::{Finished, JobBinary};
use crate::lake::TempLake;
use crate::matching::{Expected, assert_frame};

/// The job on a disk of its own with these limits, and again when there is space. The disk disappears with the
/// processes that see it, so the script leaves copies of its content, and the job's output.
const ON_A_SMALL_DISK: &str = r#"
set -e
mkdir out
mount -t tmpfs -o "$1" small out
code=0; "$0" --source in --target out 2>first.txt || code=$?
echo "$code" >>first.txt
cp -r out first
mount -o remount,size=64m,nr_inodes=10000 out
"$0" --source in --target out
cp -r out second
"#;

impl JobContract {
    fn table(&self) -> String {
        format!("out/{}", self.tables[0])
    }

    /// The number of partitions that a reader sees; each has only one file.
    #[track_caller]
    fn partitions(&self, lake: &TempLake) -> usize {
        let files = lake.files(&self.table());
        assert!(files.iter().all(|file| file.ends_with(".parquet")), "readers would find {files:?}");
        let mut folders: Vec<_> = files.iter().filter_map(|file| Some(file.rsplit_once('/')?.0)).collect();
        folders.dedup();
        assert_eq!(folders.len(), files.len(), "a partition has two files");
        files.len()
    }

    /// Killed in the middle of staging and in the middle of publishing, and rolled forward: at the end all `files`
    /// exist, with these rows, and nothing else.
    #[track_caller]
    pub fn killed_amid_many_files_nothing_is_half_visible_and_the_next_run_heals(
        &self,
        files: usize,
        rows: impl Into<Expected>,
    ) {
        let half = files / 2;
        // Allows for files that are in progress concurrently: at most 64.
        let middle = half - 100..half + 100;
        let job = self.job().in_memory();
        deliver(job.dir(), &self.delivered);

        let killed = job.failing_at("stage.file.created", &format!("{half}*off->return(kill)")).run();
        assert_eq!(killed.signal(), Some(9), "{killed}");
        let staged = job.dir().hidden_files("out").len();
        assert!(middle.contains(&staged), "{staged} files were staged: that is not the middle");
        assert_eq!(self.partitions(job.dir()), 0, "something was visible before the commit");

        let killed = job.failing_at("publish.file.after", &format!("{half}*off->return(kill)")).run();
        assert_eq!(killed.signal(), Some(9), "{killed}");
        let visible = self.partitions(job.dir());
        assert!(middle.contains(&visible), "{visible} files were visible: that is not the middle");
        let found = job.dir().read_parquet(&self.table()).num_rows();
        assert!((visible..=2 * visible).contains(&found), "{found} rows in {visible} files");

        // The source is removed, so that the result is the commit that was rolled forward, and not the work of a new
        // run.
        job.dir().remove("in");
        job.run().assert_code(1);
        assert_eq!((self.partitions(job.dir()), job.dir().hidden_files("out")), (files, vec![]));
        assert_frame(job.dir().read_parquet(&self.table()), rows);
    }

    /// When stopped, it discards everything that it has staged, and also the dozens of files that are just being
    /// created. (Discarding is slow here, so they have time to appear.)
    #[track_caller]
    pub fn stopped_amid_many_files_nothing_is_left(&self, files: usize) {
        let job = self.job_with_delivery();
        let slow = "stage.file.before=200*off->sleep(300);discard.after=sleep(600)";
        let mut run = job.again().env("FAILPOINTS", slow).start();
        assert!(run.wait_until(|| job.dir().hidden_files("out").len() >= 200), "it was not in the middle of staging");
        run.terminate();
        assert_nothing_is_left(&job, run.wait().assert_code(143));
        job.run().assert_code(0);
        assert_eq!(self.partitions(job.dir()), files);
    }

    /// One of the `files` is larger than the disk has room for, the others are not.
    #[track_caller]
    pub fn without_room_nothing_is_published_and_the_error_says_what_to_do(&self, files: usize, rows: usize) {
        let job = self.job_with_delivery();
        let ended = job.again().with_file_limit(64).run();
        names(ended.assert_code(1), &[&format!("{}/.", self.table()), "free some space", "run again"]);
        assert_nothing_is_left(&job, &ended);
        job.run().assert_code(0);
        assert_eq!((self.partitions(job.dir()), job.dir().hidden_files("out")), (files, vec![]));
        assert_eq!(job.dir().read_parquet(&self.table()).num_rows(), rows);
    }

    /// The disk is full while files are staged, then while they are published. It mounts a file system, which root may
    /// do, or anybody in a user namespace.
    #[track_caller]
    pub fn on_a_full_disk_nothing_is_half_visible_and_with_room_the_next_run_heals(&self, files: usize, rows: usize) {
        let cases: [(&str, &[&str], usize); 2] = [
            ("size=400k", &["the disk is full; free some space and run again"], 0),
            ("nr_inodes=300", &["the run has committed", "the disk is full"], 1),
        ];
        for (limits, named, visible) in cases {
            let job = self.job_with_delivery();
            let lake = job.dir();
            let mut command = Command::new("unshare");
            let script = ["-rm", "sh", "-c", ON_A_SMALL_DISK, self.binary, limits];
            let ended = command.args(script).current_dir(lake.path()).env_clear().output().expect("unshare starts");
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));

            let said = lake.read("first.txt");
            assert!(said.ends_with("\n1\n"), "the exit code should be 1\n{said}");
            assert!(named.iter().all(|part| said.contains(part)), "{named:?} should be named\n{said}");
            // The file that had no room: a staged one, or one that readers would see.
            let key = lake.files("second")[0].split(['/', '=']).nth(2).expect("a partition").to_owned();
            let file = format!("{}/{}", self.table(), if visible == 0 { "." } else { &key });
            assert!(said.contains(&file), "`{file}` should be named\n{said}");
            let found = lake.files("first");
            assert!(found.iter().all(|file| file.ends_with(".parquet")), "readers would find {found:?}");
            assert_eq!((found.len().min(1), lake.hidden_files("first").is_empty()), (visible, visible == 0), "{said}");

            assert_eq!((lake.files("second").len(), lake.hidden_files("second").len()), (files, 0));
            assert_eq!(lake.read_parquet("second").num_rows(), rows);
        }
    }
}

#[track_caller]
fn assert_nothing_is_left(job: &JobBinary<'_>, ended: &Finished) {
    assert_eq!((job.dir().files("out"), job.dir().hidden_files("out")), (vec![], vec![]), "{ended}");
}
