//! Passwords of others: from a file, the environment or a person, never from a command line.

use std::io::{self, IsTerminal};
use std::path::Path;

use secrecy::SecretString;
use stillwater_types::{Fault, Reason};

/// More is no password and no certificate.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The password of `username`, from where it is to be had.
pub(crate) fn ask(
    file: Option<&Path>,
    variable: &str,
    username: &str,
) -> Result<SecretString, Fault> {
    if let Some(file) = file {
        let text = String::from_utf8(read(file)?).map_err(|_| {
            Fault::new(Reason::BadField, format!("{} is not UTF-8", file.display()))
        })?;
        // Editors end the line; no password ends with one.
        let password = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(SecretString::from(
            password.strip_suffix('\r').unwrap_or(password),
        ));
    }
    if let Ok(password) = std::env::var(variable) {
        return Ok(SecretString::from(password));
    }
    if !io::stdin().is_terminal() {
        let message = format!("no password: give --password-file or set {variable}");
        return Err(Fault::new(Reason::BadField, message));
    }
    let asked = rpassword::prompt_password(format!("Password of {username}: "));
    let failed = |err| Fault::new(Reason::BadField, format!("read the password: {err}"));
    asked.map(SecretString::from).map_err(failed)
}

/// The bytes of a small file.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Fault> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(
            &mut io::Read::take(std::fs::File::open(file)?, FILE_BYTES_MAX + 1),
            &mut bytes,
        )?;
        match bytes.len() as u64 > FILE_BYTES_MAX {
            true => Err(io::Error::other("more than 64 KiB")),
            false => Ok(bytes),
        }
    };
    read().map_err(|err| Fault::new(Reason::BadField, format!("read {}: {err}", file.display())))
}
