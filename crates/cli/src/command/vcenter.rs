//! `stillwater vcenter`.

use std::io::{self, BufRead, IsTerminal, Write};

use bytes::Bytes;
use stillwater_controller_api::{AddVcenterRequest, Client, VcenterTrust};
use stillwater_types::{Fault, Reason, RequestId};

use super::Desk;
use crate::arguments::{AddVcenter, Trust, Vcenter};
use crate::exit::Outcome;
use crate::view::vcenter::fingerprint;
use crate::{output, password, view};

/// Where the password may be, for scripts.
const PASSWORD_VARIABLE: &str = "STILLWATER_VCENTER_PASSWORD";

pub(super) async fn run(desk: &Desk, vcenter: Vcenter) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match vcenter {
        Vcenter::Add(add) => {
            let added = controller
                .add_vcenter(request(controller, add).await?)
                .await?;
            let text = || view::vcenter::list(std::slice::from_ref(&added));
            output::print(desk.format, text, || view::vcenter::json(&added))?;
        }
        Vcenter::List => {
            let vcenters = controller.list_vcenters().await?;
            let json = || vcenters.iter().map(view::vcenter::json).collect();
            output::print(desk.format, || view::vcenter::list(&vcenters), json)?;
        }
        Vcenter::Test { vcenter } => {
            let test = controller.test_vcenter(vcenter).await?;
            let json = || view::vcenter::tested_json(&test);
            output::print(desk.format, || view::vcenter::tested(&test), json)?;
        }
        Vcenter::Remove { vcenter } => {
            controller.remove_vcenter(vcenter.clone()).await?;
            output::say(&format!("vcenter {vcenter} is forgotten; its points stay"));
        }
    }
    Ok(Outcome::Done)
}

async fn request(controller: &Client, add: AddVcenter) -> Result<AddVcenterRequest, Fault> {
    let trust = match &add.trust {
        Trust {
            ca_file: Some(file),
            ..
        } => VcenterTrust::CaPem(Bytes::from(password::read(file)?)),
        Trust {
            fingerprint: Some(hex),
            ..
        } => VcenterTrust::CertificateSha256(parse_fingerprint(hex)?),
        Trust {
            ca_file: None,
            fingerprint: None,
        } => ask_trust(controller, &add).await?,
    };
    let password = password::ask(
        add.password_file.as_deref(),
        PASSWORD_VARIABLE,
        &add.username,
    )?;
    let AddVcenter {
        name,
        address,
        username,
        ..
    } = add;
    let request_id = RequestId::mint();
    Ok(AddVcenterRequest {
        request_id,
        name,
        address,
        username,
        password,
        trust,
    })
}

/// Shows the certificate that the address presents, and pins it if a person says so. Nothing is
/// ever trusted because nobody looked.
async fn ask_trust(controller: &Client, add: &AddVcenter) -> Result<VcenterTrust, Fault> {
    let shown = controller.probe_vcenter(add.address.clone()).await?;
    let pin = fingerprint(&shown.certificate_sha256);
    output::say(&format!(
        "{} presents this certificate, seen from the controller:",
        add.address
    ));
    output::say(&output::sheet(&[
        ("  subject", shown.subject.clone()),
        ("  valid until", shown.not_after.clone()),
        ("  sha256", pin.clone()),
    ]));
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let message = format!(
            "nobody has compared the certificate's fingerprint: if it is the server's own, run {}",
            repeat(add, &pin)
        );
        return Err(Fault::new(Reason::CertificateUntrusted, message));
    }
    if !agreed("Is this the server's own fingerprint? Type yes to trust it: ")? {
        let message = "the certificate was not accepted; nothing was registered";
        return Err(Fault::new(Reason::CertificateUntrusted, message));
    }
    Ok(VcenterTrust::CertificateSha256(shown.certificate_sha256))
}

fn agreed(question: &str) -> Result<bool, Fault> {
    let ask = || -> io::Result<String> {
        let mut stderr = io::stderr().lock();
        stderr.write_all(question.as_bytes())?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|err| Fault::new(Reason::BadField, format!("ask: {err}")))?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// The command to type once the fingerprint was compared.
fn repeat(add: &AddVcenter, pin: &str) -> String {
    let mut words = ["stillwater", "vcenter", "add"].map(str::to_owned).to_vec();
    words.extend([quoted(&add.name), quoted(&add.address)]);
    words.extend(["--username".to_owned(), quoted(&add.username)]);
    if let Some(file) = &add.password_file {
        words.extend([
            "--password-file".to_owned(),
            quoted(&file.to_string_lossy()),
        ]);
    }
    words.extend(["--fingerprint".to_owned(), pin.to_owned()]);
    words.join(" ")
}

/// A word as a POSIX shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Reads a fingerprint as browsers, openssl and we print it.
fn parse_fingerprint(text: &str) -> Result<[u8; 32], Fault> {
    let lower = text.trim().to_ascii_lowercase();
    let hex: String = lower
        .strip_prefix("sha256:")
        .unwrap_or(&lower)
        .replace([':', ' '], "");
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let bytes: Option<Vec<u8>> = digits.map(|digits| {
        digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |b, d| b << 4 | d))
            .collect()
    });
    bytes
        .filter(|_| hex.len() == 64)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            let message =
                format!("{text:?} is no SHA-256 fingerprint: it has 64 hexadecimal digits");
            Fault::new(Reason::BadField, message)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_others_print_it() {
        let hash: [u8; 32] = std::array::from_fn(|i| i as u8 * 7);
        let shown = fingerprint(&hash);
        for text in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace(':', ""),
            format!("SHA256:{shown}"),
            format!(" {} ", shown.replace(':', " ")),
        ] {
            assert_eq!(parse_fingerprint(&text), Ok(hash), "{text}");
        }
        for bad in [
            "",
            "00",
            &shown[1..],
            &format!("{shown}:00"),
            &"zz".repeat(32),
        ] {
            assert!(parse_fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_to_repeat_survives_a_shell() {
        let add = AddVcenter {
            name: "main".into(),
            address: "vc.example:443".into(),
            username: "it's me@vsphere.local".into(),
            password_file: Some("/run/my secrets/vc".into()),
            trust: Trust {
                ca_file: None,
                fingerprint: None,
            },
        };
        assert_eq!(
            repeat(&add, "AB:CD"),
            "stillwater vcenter add main vc.example:443 --username 'it'\\''s me@vsphere.local' \
             --password-file '/run/my secrets/vc' --fingerprint AB:CD"
        );
    }
}
