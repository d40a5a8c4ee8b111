//! The job of AWS Batch that a process belongs to.

/// The job of AWS Batch that a run was started by, as its environment says.
///
/// See [the variables that Batch sets](https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchJob {
    /// Its id; that of a child of an array job ends with `:` and its index.
    pub(crate) id: String,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// The index of this child of an array job, and how many children there are.
    pub(crate) array: Option<(u32, u32)>,
}

impl BatchJob {
    /// That of this process, if Batch has started it.
    pub(crate) fn from_env() -> Option<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "Batch tells by the environment, and it is the same all the time"
        )]
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name| variable(name)?.parse().ok();
        Some(Self {
            id: variable("AWS_BATCH_JOB_ID").filter(|id| !id.is_empty())?,
            attempt: number("AWS_BATCH_JOB_ATTEMPT").unwrap_or(1),
            array: number("AWS_BATCH_JOB_ARRAY_INDEX").zip(number("AWS_BATCH_JOB_ARRAY_SIZE")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn batch_is_recognised_by_its_variables() {
        let env = |pairs: &[(&str, &str)]| -> Option<BatchJob> {
            let all: HashMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            BatchJob::of(|name| all.get(name).cloned())
        };
        assert_eq!(env(&[]), None);
        assert_eq!(env(&[("AWS_BATCH_JOB_ID", "")]), None);
        let job = env(&[("AWS_BATCH_JOB_ID", "a-1"), ("AWS_BATCH_JOB_ATTEMPT", "2")]);
        assert_eq!(job, Some(BatchJob { id: "a-1".into(), attempt: 2, array: None }));
        let child = env(&[
            ("AWS_BATCH_JOB_ID", "a-1:3"),
            ("AWS_BATCH_JOB_ATTEMPT", "1"),
            ("AWS_BATCH_JOB_ARRAY_INDEX", "3"),
            ("AWS_BATCH_JOB_ARRAY_SIZE", "10"),
        ]);
        assert_eq!(child.unwrap().array, Some((3, 10)));
    }
}
