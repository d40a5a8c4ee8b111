//! Which runs are started again.

use serde_json::{Value, json};

/// What Batch does with an attempt that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAction {
    /// It starts another.
    Retry,
    /// The job has failed.
    Exit,
}

/// The retry strategy of all jobs: a wrong call and refused data stay what they are, everything else may pass.
///
/// ```
/// use hardtack_core::ErrorKind;
/// use hardtack_deploy::{RetryAction, RetryStrategy};
///
/// let strategy = RetryStrategy::new(3);
/// assert_eq!(strategy.action(Some(ErrorKind::Refused.exit_code()), ""), RetryAction::Exit);
/// assert_eq!(strategy.action(Some(ErrorKind::Unavailable.exit_code()), ""), RetryAction::Retry);
/// assert_eq!(strategy.action(None, "Host EC2 (instance i-1) terminated."), RetryAction::Retry);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryStrategy {
    attempts: u32,
}

/// A condition, of which the first that matches decides.
enum Condition {
    StatusReason(&'static str),
    ExitCode(&'static str),
}

const CONDITIONS: [(Condition, RetryAction); 4] = [
    // The instance was taken back, or died.
    (Condition::StatusReason("Host EC2*"), RetryAction::Retry),
    // A wrong call; refused data.
    (Condition::ExitCode("2"), RetryAction::Exit),
    (Condition::ExitCode("3"), RetryAction::Exit),
    (Condition::ExitCode("*"), RetryAction::Retry),
];

impl RetryStrategy {
    /// A strategy by which a job is started so often in all.
    pub fn new(attempts: u32) -> Self {
        Self { attempts }
    }

    /// What Batch does after an attempt that ended with this exit code, if it had one, and for this reason. If no condition
    /// matches, it starts another attempt.
    pub fn action(&self, exit_code: Option<u8>, status_reason: &str) -> RetryAction {
        let is_like = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == pattern,
        };
        let matches = |condition: &Condition| match condition {
            Condition::StatusReason(pattern) => is_like(pattern, status_reason),
            Condition::ExitCode(pattern) => exit_code.is_some_and(|code| is_like(pattern, &code.to_string())),
        };
        CONDITIONS.iter().find(|(condition, _)| matches(condition)).map_or(RetryAction::Retry, |(_, action)| *action)
    }

    pub(crate) fn to_json(&self) -> Value {
        let condition = |(condition, action): &(Condition, RetryAction)| {
            let action = match action {
                RetryAction::Retry => "RETRY",
                RetryAction::Exit => "EXIT",
            };
            match condition {
                Condition::StatusReason(pattern) => json!({"OnStatusReason": pattern, "Action": action}),
                Condition::ExitCode(pattern) => json!({"OnExitCode": pattern, "Action": action}),
            }
        };
        json!({"Attempts": self.attempts, "EvaluateOnExit": CONDITIONS.iter().map(condition).collect::<Vec<_>>()})
    }
}
