use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn command(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> GuestCommand {
    let secret = |(name, value): &(&str, &str)| {
        ((*name).to_owned(), SecretString::from((*value).to_owned()))
    };
    GuestCommand {
        program: program.into(),
        arguments: arguments.iter().map(|word| (*word).into()).collect(),
        environment: environment.iter().map(secret).collect(),
        working_directory: None,
        input: None,
        timeout: Duration::from_secs(1),
        output_limit: 100,
    }
}

/// Runs a command's script with this machine's own shell; its output and what else it did.
fn run(command: &GuestCommand) -> (String, String, Option<i32>, bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("utf-8").to_owned();
    let paths = Paths {
        script: path("it's a script.sh"),
        input: None,
        stdout: path("out put"),
        stderr: path("err"),
    };
    let script = Shell::Posix.script(command, &paths).expect("a script");
    std::fs::write(&paths.script, script.expose_secret()).expect("writes");
    let (program, arguments) = Shell::Posix.start(&paths.script);
    // As the guest's agent does.
    let status = Command::new("/bin/sh")
        .args(["-c", &format!("\"{program}\" {arguments}")])
        .status()
        .expect("runs");
    let text = |path: &str| std::fs::read_to_string(path).expect("a file");
    (
        text(&paths.stdout),
        text(&paths.stderr),
        status.code(),
        std::path::Path::new(&paths.script).exists(),
    )
}

#[test]
fn a_script_runs_the_program_with_its_words_and_removes_itself() {
    let script = "echo \"$A|$1|$2\"; echo oops >&2; exit 7";
    let words = ["-c", script, "sh", "a 'b' $HOME", "`id`\n*"];
    let found = run(&command("/bin/sh", &words, &[("A", "x'; exit 9; '%PATH%")]));
    assert_eq!(found.0, "x'; exit 9; '%PATH%|a 'b' $HOME|`id`\n*\n");
    assert_eq!(
        (found.1.as_str(), found.2, found.3),
        ("oops\n", Some(7), false)
    );
}

#[test]
fn the_shell_stays_under_its_scripts_name_while_the_program_runs() {
    let line = "tr '\\0' ' ' < /proc/$PPID/cmdline";
    let found = run(&command("/bin/sh", &["-c", line], &[]));
    assert!(found.0.contains("it's a script.sh"), "{}", found.0);
}

#[test]
fn a_program_or_directory_that_is_not_there_is_an_exit_code() {
    let found = run(&command("/nowhere/program", &[], &[]));
    assert_eq!(found.2, Some(127));
    assert!(found.1.contains("nowhere"), "{}", found.1);
    let lost = GuestCommand {
        working_directory: Some("/nowhere".into()),
        ..command("/bin/true", &[], &[])
    };
    assert_eq!(run(&lost).2, Some(126));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_words_reach_the_program_as_they_are(words in prop::collection::vec("[^\\x00]{0,12}", 1..4)) {
        let mut all = vec!["%s\\n"];
        all.extend(words.iter().map(String::as_str));
        let found = run(&command("/usr/bin/printf", &all, &[]));
        prop_assert_eq!(found.0, words.iter().map(|word| format!("{word}\n")).collect::<String>());
    }
}

#[test]
fn windows_gets_a_batch_file() {
    let paths = Paths {
        script: "C:\\t\\s.cmd".into(),
        input: Some("C:\\t\\i".into()),
        stdout: "C:\\t\\o".into(),
        stderr: "C:\\t\\e".into(),
    };
    let mut wanted = command("C:\\a b\\p.exe", &["100%", "C:\\dir\\"], &[("KEY", "a&b")]);
    wanted.working_directory = Some("C:\\w".into());
    let script = Shell::Cmd.script(&wanted, &paths).expect("a script");
    let expected = [
        "@echo off",
        "chcp 65001 >nul",
        "cd /d \"C:\\w\" || exit /b 126",
        "set \"KEY=a&b\"",
        "\"C:\\a b\\p.exe\" \"100%%\" \"C:\\dir\\\\\" <\"C:\\t\\i\" >\"C:\\t\\o\" 2>\"C:\\t\\e\"",
        "exit /b %ERRORLEVEL%",
        "",
    ];
    assert_eq!(script.expose_secret(), expected.join("\r\n"));
    assert_eq!(Shell::Cmd.start("C:\\t\\s.cmd").1, "/d /c \"C:\\t\\s.cmd\"");
}

#[track_caller]
fn refused(shell: Shell, command: &GuestCommand) {
    let outcome = shell.script(command, &Paths::default());
    assert!(
        matches!(outcome, Err(Error::BadGuestCommand { .. })),
        "{command:?}"
    );
}

#[test]
fn what_cannot_be_told_is_refused_and_not_bent() {
    refused(Shell::Posix, &command("", &[], &[]));
    refused(Shell::Posix, &command("a", &["b\0c"], &[]));
    refused(Shell::Posix, &command("a", &[], &[("A=B;rm", "x")]));
    refused(Shell::Posix, &command("a", &[], &[("", "x")]));
    refused(Shell::Cmd, &command("a", &["b\"c"], &[]));
    refused(Shell::Cmd, &command("a", &[], &[("A", "b\nc")]));
    assert!(Shell::of(GuestFamily::Other).is_err());
}

#[test]
fn a_command_is_printed_without_its_variables() {
    let printed = format!("{:?}", command("p", &[], &[("A", "hidden")]));
    assert!(!printed.contains("hidden"), "{printed}");
}
