//! How large a container is.

use hardtack_core::{Error, Result};

/// The sizes that [Fargate has](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html): vCPUs
/// in hundredths; least and most memory and its steps, in MiB.
const FARGATE: [(u32, u32, u32, u32); 7] = [
    (25, 512, 2048, 512),
    (50, 1024, 4096, 1024),
    (100, 2048, 8192, 1024),
    (200, 4096, 16384, 1024),
    (400, 8192, 30720, 1024),
    (800, 16384, 61440, 4096),
    (1600, 32768, 122_880, 8192),
];

/// What a job gets that says nothing.
pub(crate) const DEFAULT_VCPUS: f64 = 1.0;
pub(crate) const DEFAULT_MEMORY_MIB: u32 = 2048;

/// Checks that Fargate has containers of this size, and names those it has.
pub(crate) fn check_fargate(vcpus: f64, memory_mib: u32, disk_gib: Option<u32>) -> Result<()> {
    let known = FARGATE.iter().find(|(hundredths, ..)| (f64::from(*hundredths) / 100.0 - vcpus).abs() < 1e-9);
    let Some(&(_, least, most, step)) = known else {
        return Err(Error::usage("Fargate has no containers with so many vCPUs")
            .with("vcpus", vcpus)
            .hint("it has 0.25, 0.5, 1, 2, 4, 8 and 16"));
    };
    // The smallest has 512, 1024 and 2048.
    let is_step = memory_mib.is_multiple_of(step) && !(least == 512 && memory_mib == 1536);
    if !(least..=most).contains(&memory_mib) || !is_step {
        return Err(Error::usage("Fargate has no containers with so much memory for these vCPUs")
            .with("vcpus", vcpus)
            .with("memory", format!("{memory_mib} MiB"))
            .hint(match least {
                512 => "it has 512, 1024 and 2048 MiB".to_owned(),
                _ => format!("it has {least} to {most} MiB in steps of {step} MiB"),
            }));
    }
    match disk_gib {
        Some(gib) if !(21..=200).contains(&gib) => {
            Err(Error::usage("Fargate has no containers with so much disk space")
                .with("disk-gib", gib)
                .hint("it has 21 to 200 GiB; leave it out for 20 GiB"))
        }
        _ => Ok(()),
    }
}

/// A number of vCPUs as Batch takes it.
pub(crate) fn vcpus_text(vcpus: f64) -> String {
    format!("{vcpus}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0.25, 512, None, "")]
    #[case(0.25, 1536, None, "it has 512, 1024 and 2048 MiB")]
    #[case(0.3, 512, None, "it has 0.25, 0.5, 1, 2, 4, 8 and 16")]
    #[case(1.0, 1024, None, "it has 2048 to 8192 MiB in steps of 1024 MiB")]
    #[case(1.0, 2500, None, "it has 2048 to 8192 MiB in steps of 1024 MiB")]
    #[case(8.0, 20480, None, "")]
    #[case(8.0, 17408, None, "it has 16384 to 61440 MiB in steps of 4096 MiB")]
    #[case(16.0, 122_880, Some(200), "")]
    #[case(1.0, 2048, Some(20), "it has 21 to 200 GiB; leave it out for 20 GiB")]
    fn sizes_are_those_of_fargate(
        #[case] vcpus: f64,
        #[case] memory: u32,
        #[case] disk: Option<u32>,
        #[case] hint: &str,
    ) {
        let said = check_fargate(vcpus, memory, disk).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(hint) && said.is_empty() == hint.is_empty(), "{said}");
    }
}
