//! Processes of a guest.

use super::{Guest, one};
use crate::Result;
use crate::body::Body;
use crate::client::{Repeat, bad_answer};
use crate::error::FaultKind;
use crate::xml::{Element, Problem};

const START: &str = "StartProgramInGuest";
const LIST: &str = "ListProcessesInGuest";

/// A process of a guest; one that ended is remembered for some minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestProcess {
    /// Its number in the guest.
    pub pid: i64,
    /// The program's name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Its command line as the guest shows it.
    pub command_line: String,
    /// Whether it has ended.
    pub has_ended: bool,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i32>,
}

impl Guest {
    /// Starts a program and answers with its process. `arguments` are visible in the guest and in
    /// vCenter's log, and a shell of the guest reads them: no secret belongs there.
    pub async fn start_program(
        &self,
        program: &str,
        arguments: &str,
        working_directory: Option<&str>,
    ) -> Result<i64> {
        let body = self
            .body()
            .then(program_spec(program, arguments, working_directory));
        let returned = self
            .call(START, &self.processes, body, Repeat::Never)
            .await?;
        one(START, returned)?
            .parsed()
            .map_err(|problem| bad_answer(START, problem))
    }

    /// Processes by their numbers; every one of the guest when none is given.
    pub async fn processes(&self, pids: &[i64]) -> Result<Vec<GuestProcess>> {
        let body = pids
            .iter()
            .fold(self.body(), |body, pid| body.value("pids", pid));
        match self.call(LIST, &self.processes, body, Repeat::Safe).await {
            Err(error) if error.is(&FaultKind::GuestProcessNotFound) => Ok(Vec::new()),
            returned => returned?
                .iter()
                .map(|process| process_of(process).map_err(|problem| bad_answer(LIST, problem)))
                .collect(),
        }
    }

    /// Ends a process. One that has ended is no error.
    pub async fn terminate(&self, pid: i64) -> Result<()> {
        const METHOD: &str = "TerminateProcessInGuest";
        let body = self.body().value("pid", pid);
        match self.call(METHOD, &self.processes, body, Repeat::Safe).await {
            Err(error) if error.is(&FaultKind::GuestProcessNotFound) => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// `GuestProgramSpec`. Its `envVariables` are left out: they would stand in vCenter's log.
fn program_spec(program: &str, arguments: &str, working_directory: Option<&str>) -> Body {
    let spec = Body::new()
        .value("programPath", program)
        .value("arguments", arguments)
        .optional("workingDirectory", working_directory);
    Body::new().typed("spec", "GuestProgramSpec", spec)
}

fn process_of(process: &Element) -> Result<GuestProcess, Problem> {
    let exit_code = process.optional_value("exitCode")?;
    Ok(GuestProcess {
        pid: process.value("pid")?,
        name: process.string("name")?,
        owner: process.optional("owner").unwrap_or_default(),
        command_line: process.optional("cmdLine").unwrap_or_default(),
        has_ended: process.find("endTime").is_some() || exit_code.is_some(),
        exit_code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_in_schema_order() {
        let body = program_spec("/bin/sh", "'/tmp/a b'", Some("/"));
        assert_eq!(
            body.as_str(),
            r#"<spec xsi:type="GuestProgramSpec"><programPath>/bin/sh</programPath><arguments>&apos;/tmp/a b&apos;</arguments><workingDirectory>/</workingDirectory></spec>"#
        );
    }

    #[test]
    fn a_process_has_ended_when_it_has_an_end_or_an_exit_code() {
        let read = |inside: &str| {
            let xml = format!(
                "<returnval><name>sh</name><pid>7</pid><owner>root</owner><cmdLine>sh</cmdLine><startTime>t</startTime>{inside}</returnval>"
            );
            process_of(&Element::parse(&xml).expect("reads")).expect("a process")
        };
        assert!(!read("").has_ended);
        let ended = read("<endTime>t</endTime><exitCode>-3</exitCode>");
        assert_eq!((ended.has_ended, ended.exit_code), (true, Some(-3)));
        let killed = read("<endTime>t</endTime>");
        assert_eq!((killed.has_ended, killed.exit_code), (true, None));
    }
}
