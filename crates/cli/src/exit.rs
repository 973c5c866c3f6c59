//! How the tool ends.

use std::process::ExitCode;

use stillwater_types::{Fault, Kind};

use crate::output;

/// What the help and the manual say about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  anything else, such as a cancelled run, damaged data, or a bug
  2  the command line or a value on it is wrong
  3  done with warnings, or the restore point is incomplete
  4  there is no such thing
  5  not logged in, not allowed, or a login was refused
  6  the state of things forbids it
  7  something does not answer or has no room: try again later";

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything asked for is done.
    Done,
    /// Done, but a person should look at what was said.
    Warned,
}

/// Prints the fault, if any, and answers the exit code.
pub(crate) fn code(outcome: Result<Outcome, Fault>) -> ExitCode {
    let code = match outcome {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Warned) => 3,
        Err(fault) => {
            output::say(&explain(&fault));
            number(fault.kind())
        }
    };
    ExitCode::from(code)
}

/// The exit code of a kind; no wildcard, so that a new kind must be placed.
pub(crate) const fn number(kind: Kind) -> u8 {
    match kind {
        Kind::InvalidRequest => 2,
        Kind::NotFound => 4,
        Kind::Unauthenticated | Kind::Forbidden => 5,
        Kind::Precondition | Kind::AlreadyExists => 6,
        Kind::Unavailable | Kind::Timeout | Kind::Exhausted => 7,
        Kind::Conflict | Kind::Cancelled | Kind::Corrupt | Kind::Unsupported | Kind::Internal => 1,
    }
}

/// A fault as a person needs it.
pub(crate) fn explain(fault: &Fault) -> String {
    let Fault {
        reason,
        message,
        details,
    } = fault;
    let mut text = format!("error: {reason}: {message}");
    for (key, value) in details {
        text.push_str(&format!("\n  {key}: {value}"));
    }
    text.push_str(&format!("\n  see docs/operations/errors/{reason}.md"));
    text
}

#[cfg(test)]
mod tests {
    use stillwater_types::Reason;

    use super::*;

    #[test]
    fn a_fault_is_told_with_its_page() {
        let fault = Fault::new(Reason::VmNotFound, "no VM is called web").with("vm", "web");
        assert_eq!(
            explain(&fault),
            "error: VM_NOT_FOUND: no VM is called web\n  vm: web\n  \
             see docs/operations/errors/VM_NOT_FOUND.md"
        );
    }

    #[test]
    fn no_fault_ends_as_if_all_were_well() {
        for reason in Reason::ALL {
            let code = number(reason.kind());
            assert!(code != 0 && code != 3 && code <= 7, "{reason}: {code}");
        }
    }

    #[test]
    fn the_operations_guide_has_the_exit_codes_of_the_help() {
        let guide = include_str!("../../../docs/operations/cli.md");
        for line in EXIT_CODES.lines().skip(1) {
            assert!(
                guide.contains(line),
                "docs/operations/cli.md lacks {line:?}"
            );
        }
    }
}
