//! Tickets for the hosts' disk servers (NFC).
//!
//! The service is not in the public description of the API, but every server answers it. A ticket is for
//! one connection, so asking for one twice does no harm: one that is not used dies by itself.

use std::fmt;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::SecretString;

use crate::body::Body;
use crate::client::{Call, Client, Repeat, bad_answer};
use crate::endpoint::base_url;
use crate::reference::Moref;
use crate::vm::vm_gone;
use crate::xml::{Element, Problem};
use crate::{HostRef, Result, VmRef};

/// Where hosts listen when the ticket does not say.
const PORT: u16 = 902;
const INTERNAL: &str = "RetrieveInternalContent";

/// What a ticket is to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NfcAccess {
    /// Reading every file of the VM.
    ReadVm,
    /// Reading one disk.
    ReadDisk {
        /// Its device key.
        key: i32,
    },
    /// Writing one disk.
    WriteDisk {
        /// Its device key.
        key: i32,
    },
}

impl NfcAccess {
    const fn method(self) -> &'static str {
        match self {
            NfcAccess::ReadVm => "NfcGetVmFiles",
            NfcAccess::ReadDisk { .. } => "NfcRandomAccessOpenReadonly",
            NfcAccess::WriteDisk { .. } => "NfcRandomAccessOpenDisk",
        }
    }

    fn body(self, vm: &VmRef, host: Option<&HostRef>) -> Body {
        let body = Body::new().moref("vm", &vm.moref());
        let key = match self {
            NfcAccess::ReadVm => return body,
            NfcAccess::ReadDisk { key } | NfcAccess::WriteDisk { key } => key,
        };
        let body = body.value("diskDeviceKey", key);
        match host {
            Some(host) => body.moref("hostForAccess", &host.moref()),
            None => body,
        }
    }
}

/// The right to one connection to a host's disk server.
#[derive(Debug, Clone)]
pub struct NfcTicket {
    /// The host; the server that gave the ticket when it named none.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the host's certificate is known.
    pub identity: HostIdentity,
    /// The service to ask the host for, such as `vpxa-nfc`.
    pub service: String,
    /// Its version, when the server tells one.
    pub service_version: Option<String>,
    /// Names the session to the host; never printed.
    pub session_id: SecretString,
}

/// How a host's certificate is known.
#[derive(Clone, PartialEq, Eq)]
pub enum HostIdentity {
    /// By the SHA-1 of its DER.
    Sha1([u8; 20]),
    /// By its DER.
    Certificate(Vec<u8>),
}

impl HostIdentity {
    /// Whether a certificate is the host's.
    pub fn is(&self, der: &[u8]) -> bool {
        match self {
            HostIdentity::Sha1(expected) => {
                let found = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
                found.as_ref() == expected
            }
            HostIdentity::Certificate(expected) => expected == der,
        }
    }

    /// From a ticket, which carries one of the two; the certificate says more.
    fn of(ticket: &Element) -> Result<Self, Problem> {
        if let Some(pem) = ticket.optional("sslCertificate") {
            let der = CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|error| Problem(format!("sslCertificate: {error}")))?;
            return Ok(HostIdentity::Certificate(der.to_vec()));
        }
        let told = ticket.string("sslThumbprint")?;
        sha1(&told)
            .map(HostIdentity::Sha1)
            .ok_or_else(|| Problem(format!("sslThumbprint is {told:?}")))
    }
}

impl fmt::Debug for HostIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostIdentity::Sha1(bytes) => {
                f.write_str("Sha1(")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))?;
                f.write_str(")")
            }
            HostIdentity::Certificate(der) => write!(f, "Certificate({} bytes)", der.len()),
        }
    }
}

/// Twenty bytes in hex, with or without colons.
fn sha1(text: &str) -> Option<[u8; 20]> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let bytes = data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes());
    bytes.ok()?.try_into().ok()
}

impl Client {
    /// A ticket for a VM or one of its disks, on the host that is asked for, or on one that the server
    /// chooses. A disk that a running VM has open can be read only below a snapshot.
    pub async fn nfc_ticket(
        &self,
        vm: &VmRef,
        access: NfcAccess,
        host: Option<&HostRef>,
    ) -> Result<NfcTicket> {
        let this = self.nfc_service().await?;
        let method = access.method();
        let call = Call {
            method,
            this: &this,
            body: access.body(vm, host),
            repeat: Repeat::Safe,
        };
        let returned = self.call_one(call).await;
        let returned = returned.map_err(|error| vm_gone(error, vm))?;
        let ours = base_url(self.address())?;
        ticket(&returned, ours.host_str().unwrap_or_default())
            .map_err(|problem| bad_answer(method, problem))
    }

    /// The service's object: vCenter's has a name that is known, a host tells its own.
    async fn nfc_service(&self) -> Result<Moref> {
        if self.about().is_vcenter {
            return Ok(Moref::new("NfcService", "nfcService"));
        }
        let this = Moref::new("ServiceInstance", "ServiceInstance");
        let call = Call {
            method: INTERNAL,
            this: &this,
            body: Body::new(),
            repeat: Repeat::Safe,
        };
        let content = self.call_one(call).await?;
        content
            .need_moref("nfcService")
            .map_err(|problem| bad_answer(INTERNAL, problem))
    }
}

/// Reads a `HostServiceTicket`. `ours` stands for a host that is not named.
fn ticket(returned: &Element, ours: &str) -> Result<NfcTicket, Problem> {
    let host = returned.optional("host");
    let host = host.filter(|host| host != "*");
    Ok(NfcTicket {
        host: host.unwrap_or_else(|| ours.trim_matches(['[', ']']).to_owned()),
        port: returned.optional_value("port")?.unwrap_or(PORT),
        identity: HostIdentity::of(returned)?,
        service: returned.string("service")?,
        service_version: returned.optional("serviceVersion"),
        session_id: SecretString::from(
            returned
                .optional("sessionId")
                .ok_or_else(|| Problem::new("no sessionId"))?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(xml: &str) -> Result<NfcTicket, Problem> {
        let xml = format!("<returnval>{xml}</returnval>");
        ticket(&Element::parse(&xml).expect("reads"), "[2001:db8::1]")
    }

    const THUMBPRINT: &str = "<sslThumbprint>00:01:02:03:04:05:06:07:08:09:0a:0B:0C:0D:0E:0F:10:11:12:13</sslThumbprint>";
    const REST: &str = "<service>vpxa-nfc</service><serviceVersion>1.1</serviceVersion><sessionId>52-se-cret</sessionId>";

    #[test]
    fn a_ticket_is_read_whole_and_its_session_is_not_printed() {
        let xml = format!("<host>esx1</host><port>9902</port>{THUMBPRINT}{REST}");
        let found = read(&xml).expect("a ticket");
        assert_eq!((found.host.as_str(), found.port), ("esx1", 9902));
        assert_eq!(found.service, "vpxa-nfc");
        assert_eq!(found.session_id.expose_secret(), "52-se-cret");
        let printed = format!("{found:?}");
        assert!(!printed.contains("se-cret"), "{printed}");
        assert!(printed.contains("Sha1(00010203"), "{printed}");
    }

    #[test]
    fn a_host_that_names_none_is_the_server_itself() {
        let found = read(&format!("{THUMBPRINT}{REST}")).expect("a ticket");
        assert_eq!((found.host.as_str(), found.port), ("2001:db8::1", 902));
    }

    #[test]
    fn a_ticket_without_a_way_to_know_the_host_is_refused() {
        for bad in [
            REST.to_owned(),
            format!("<sslThumbprint>00:01</sslThumbprint>{REST}"),
            format!("<sslCertificate>none</sslCertificate>{THUMBPRINT}{REST}"),
            format!("{THUMBPRINT}<service>vpxa-nfc</service>"),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_compared_whole_or_by_its_sha1() {
        let key = rcgen::generate_simple_self_signed(["esx".to_owned()]).expect("a key");
        let der = key.cert.der().to_vec();
        let xml = format!("<sslCertificate>{}</sslCertificate>{REST}", key.cert.pem());
        let whole = read(&xml).expect("a ticket").identity;
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
        let text = data_encoding::HEXUPPER.encode(digest.as_ref());
        let by_sha1 = HostIdentity::Sha1(sha1(&text).expect("twenty bytes"));
        for identity in [whole, by_sha1] {
            assert!(identity.is(&der));
            assert!(!identity.is(b"other"));
        }
    }

    #[track_caller]
    fn check(access: NfcAccess, host: Option<&HostRef>, expected: &str) {
        let body = access.body(&VmRef::new("vm-1"), host);
        assert_eq!(body.as_str(), expected);
    }

    #[test]
    fn questions_are_in_schema_order() {
        const VM: &str = r#"<vm type="VirtualMachine">vm-1</vm>"#;
        let host = HostRef::new("host-9");
        check(NfcAccess::ReadVm, Some(&host), VM);
        let read = NfcAccess::ReadDisk { key: 2000 };
        check(
            read,
            None,
            &format!("{VM}<diskDeviceKey>2000</diskDeviceKey>"),
        );
        let write = NfcAccess::WriteDisk { key: 2001 };
        check(
            write,
            Some(&host),
            &format!(
                r#"{VM}<diskDeviceKey>2001</diskDeviceKey><hostForAccess type="HostSystem">host-9</hostForAccess>"#
            ),
        );
        assert_eq!(write.method(), "NfcRandomAccessOpenDisk");
    }
}
