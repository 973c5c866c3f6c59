//! Hosts: what runs on them, and how their certificates are known.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::client::Client;
use crate::endpoint::pem;
use crate::reference::Moref;
use crate::xml::{Element, Problem};
use crate::{Fingerprint, HostRef, Result, Trust};

const CERTIFICATE: &str = "config.certificate";
/// A certificate has some two thousand bytes.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

impl Client {
    /// The DER of a host's certificate, as the server has it on record.
    pub async fn host_certificate(&self, host: &HostRef) -> Result<Vec<u8>> {
        self.certificate_of(&host.moref()).await
    }

    async fn certificate_of(&self, host: &Moref) -> Result<Vec<u8>> {
        let read = self.read(host, &[CERTIFICATE]).await?;
        let told = read.need(CERTIFICATE)?;
        certificate(told).map_err(|problem| read.bad(problem))
    }

    /// How a host's certificate is checked when it is talked to directly: by the authorities that vouch
    /// for the server, or as the one that the server has on record.
    pub(crate) async fn host_trust(&self, host: &Moref) -> Result<Trust> {
        let known = self.certificate_of(host).await;
        match (&self.endpoint().trust, known) {
            (Trust::Ca(authorities), known) => {
                let mut all = authorities.clone();
                // A host that signs its own certificate is known by the server all the same.
                if let Ok(der) = known {
                    all.push(b'\n');
                    all.extend_from_slice(pem(&der).as_bytes());
                }
                Ok(Trust::Ca(all))
            }
            (Trust::Fingerprint(_), Ok(der)) => Ok(Trust::Fingerprint(Fingerprint::of(&der))),
            (Trust::Fingerprint(_), Err(error)) => Err(error),
        }
    }
}

/// `config.certificate` is PEM, told byte by byte: `ArrayOfByte` of signed numbers.
fn certificate(told: &Element) -> Result<Vec<u8>, Problem> {
    if told.children.len() > CERTIFICATE_BYTES_MAX {
        return Err(Problem::new("a certificate that is too long"));
    }
    let pem: Vec<u8> = match told.children.is_empty() {
        true => told.text.clone().into_bytes(),
        false => told.children.iter().map(byte).collect::<Result<_, _>>()?,
    };
    CertificateDer::from_pem_slice(&pem)
        .map(|der| der.to_vec())
        .map_err(|error| Problem(format!("{CERTIFICATE}: {error}")))
}

/// A byte is told as a number from -128 on, by some servers from 0 on.
fn byte(element: &Element) -> Result<u8, Problem> {
    let number: i16 = element.parsed()?;
    u8::try_from(number)
        .or_else(|_| i8::try_from(number).map(i8::cast_unsigned))
        .map_err(|_| Problem(format!("a byte is {number}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(xml: &str, expected: Option<&[u8]>) {
        let found = certificate(&Element::parse(xml).expect("reads")).ok();
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn a_certificate_is_read_byte_by_byte_or_as_text() {
        let key = rcgen::generate_simple_self_signed(["esx".to_owned()]).expect("a key");
        let (der, pem) = (key.cert.der().to_vec(), key.cert.pem());
        let bytes: String = pem
            .bytes()
            .map(|byte| format!("<byte>{}</byte>", byte.cast_signed()))
            .collect();
        check(&format!("<val>{bytes}</val>"), Some(&der));
        check(&format!("<val>{pem}</val>"), Some(&der));
        check("<val><byte>45</byte></val>", None);
        check("<val><byte>300</byte></val>", None);
        check("<val/>", None);
    }
}
