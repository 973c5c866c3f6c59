//! The lines by which a host's authentication daemon turns a ticket into an NFC session.

use secrecy::{ExposeSecret, SecretString};
use stillwater_vsphere::Fingerprint;

use super::Violation;

/// No line that is known has more than 200 bytes.
pub const LINE_BYTES_MAX: usize = 1024;

/// Asks for the host's line of greeting, which is how it says that it knows the ticket.
pub const BANNER: &str = "BANNER \r\n";
/// Asks for the fingerprint of the certificate that comes next.
pub const THUMBPRINT: &str = "THUMBPRINT_SHA2 PlainText\r\n";

/// What NFC inside TLS is called.
const OVER_TLS: &str = "ssl";

/// Shows the ticket's secret. It has no answer. None when the secret is no word: it would be read as
/// another command.
pub fn session(id: &SecretString) -> Option<SecretString> {
    let id = id.expose_secret();
    is_word(id).then(|| SecretString::from(format!("SESSION {id}\r\n")))
}

/// Asks for the service of a ticket, always the form inside TLS.
pub fn proxy(service: &str) -> Option<String> {
    let tail = match service.ends_with(OVER_TLS) {
        true => "",
        false => OVER_TLS,
    };
    is_word(service).then(|| format!("PROXY {service}{tail}\r\n"))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() < LINE_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What a line of the host says, without its end.
///
/// # Errors
/// When it is no text.
pub fn text(line: &[u8]) -> Result<&str, Violation> {
    let text = std::str::from_utf8(line).map_err(|_| Violation::Line)?;
    let text = text.trim_end_matches(['\r', '\n']);
    match text.chars().any(char::is_control) {
        true => Err(Violation::Line),
        false => Ok(text),
    }
}

/// The text behind a status; none when the line has another status.
fn with_status<'a>(line: &'a str, status: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(status)?;
    (rest.is_empty() || rest.starts_with([' ', '-'])).then(|| rest.trim())
}

/// Whether a line greets.
pub fn is_greeting(line: &str) -> bool {
    with_status(line, "220").is_some()
}

/// Whether a greeting says that NFC is to be had inside TLS.
pub fn offers_tls(greeting: &str) -> bool {
    greeting.contains("NFCSSL supported")
}

/// The fingerprint in the answer to [`THUMBPRINT`]: none when the host says none in a form that is
/// known, and no answer at all when it refuses.
pub fn thumbprint(line: &str) -> Option<Option<Fingerprint>> {
    with_status(line, "200").map(|text| text.parse().ok())
}

/// What the host connected to, such as `ha-nfcssl`; none when it refuses.
pub fn connected(line: &str) -> Option<&str> {
    with_status(line, "200")?
        .strip_prefix("Connect")
        .map(str::trim)
}

/// Whether that is inside TLS.
pub fn is_over_tls(connected: &str) -> bool {
    connected.ends_with(OVER_TLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn the_lines_are_what_the_table_says() {
        let line = session(&secret("52ab-cd")).expect("a word");
        assert_eq!(line.expose_secret(), "SESSION 52ab-cd\r\n");
        assert_eq!(BANNER, "BANNER \r\n");
        assert_eq!(THUMBPRINT, "THUMBPRINT_SHA2 PlainText\r\n");
        assert_eq!(proxy("vpxa-nfc").as_deref(), Some("PROXY vpxa-nfcssl\r\n"));
        assert_eq!(
            proxy("vpxa-nfcssl").as_deref(),
            Some("PROXY vpxa-nfcssl\r\n")
        );
    }

    #[test]
    fn a_ticket_cannot_say_more_than_one_word() {
        for text in ["", "a b", "a\r\nPROXY x", "a\0", "ä"] {
            assert!(session(&secret(text)).is_none(), "{text:?}");
            assert!(proxy(text).is_none(), "{text:?}");
        }
        assert!(proxy(&"a".repeat(LINE_BYTES_MAX)).is_none());
    }

    #[test]
    fn the_host_s_lines_are_read() {
        let greeting = "220 VMware Authentication Daemon Version 1.10: SSL Required, \
                        ServerDaemonProtocol:SOAP, NFCSSL supported/t";
        assert!(is_greeting(greeting) && offers_tls(greeting));
        assert!(is_greeting("220 "));
        assert!(!is_greeting("2200 x") && !is_greeting("530 no") && !is_greeting(""));
        assert!(!offers_tls(
            "220 VMware Authentication Daemon: SSL Required"
        ));
        assert_eq!(connected("200 Connect ha-nfcssl"), Some("ha-nfcssl"));
        assert_eq!(connected("200 Connect ha-nfc"), Some("ha-nfc"));
        assert_eq!(connected("530 Please login"), None);
        assert!(is_over_tls("ha-nfcssl") && !is_over_tls("ha-nfc"));
        assert_eq!(text(b"220 ok\r\n"), Ok("220 ok"));
        assert_eq!(text(b"220 \xff\r\n"), Err(Violation::Line));
        assert_eq!(text(b"220 a\rb\r\n"), Err(Violation::Line));
    }

    #[test]
    fn the_announced_fingerprint_is_read_with_or_without_colons() {
        let colons = vec!["AB"; 32].join(":");
        for text in [colons.clone(), colons.replace(':', "").to_lowercase()] {
            let line = format!("200 {text}");
            assert_eq!(
                thumbprint(&line),
                Some(Some(Fingerprint::from_bytes([0xab; 32]))),
                "{line}"
            );
        }
        assert_eq!(thumbprint("200 none"), Some(None));
        assert_eq!(thumbprint("200 AB:CD"), Some(None));
        assert_eq!(thumbprint("500 what?"), None);
    }
}
