//! Hosts: what runs on them, and how their certificates are known.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::client::Client;
use crate::collect::{Properties, Wanted};
use crate::endpoint::pem;
use crate::reference::Moref;
use crate::xml::{Element, Problem};
use crate::{DatastoreRef, Fingerprint, HostRef, Result, Trust};

const CERTIFICATE: &str = "config.certificate";
/// A certificate has some two thousand bytes.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

const HOSTS: [Wanted; 2] = [
    Wanted {
        kind: "HostSystem",
        paths: &[
            "name",
            "parent",
            "datastore",
            "summary.config.product",
            "runtime.connectionState",
            "runtime.inMaintenanceMode",
        ],
    },
    Wanted {
        kind: "ClusterComputeResource",
        paths: &["name"],
    },
];

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The host.
    pub host: HostRef,
    /// Its name.
    pub name: String,
    /// Such as `8.0.2`; empty when the server has never seen it connected.
    pub version: String,
    /// Its build number; empty when the server has never seen it connected.
    pub build: String,
    /// Whether the server can reach it.
    pub connection: HostConnection,
    /// Whether it is in maintenance.
    pub in_maintenance: bool,
    /// Name of its cluster, if it is in one.
    pub cluster: Option<String>,
    /// What it mounts.
    pub datastores: Vec<DatastoreRef>,
}

/// Whether the server can reach a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostConnection {
    /// It can.
    Connected,
    /// Somebody disconnected it.
    Disconnected,
    /// It does not answer.
    NotResponding,
}

impl Client {
    /// Every host, in the order of their names.
    pub async fn hosts(&self) -> Result<Vec<HostFacts>> {
        let objects = self.list(&HOSTS).await?;
        let (hosts, clusters): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .partition(|object| object.object.kind == "HostSystem");
        let mut all = Vec::new();
        for host in &hosts {
            all.extend(facts(host, &clusters)?);
        }
        all.sort_by(|a, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
        Ok(all)
    }

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

/// None for a host that went away while the list was made.
fn facts(host: &Properties, clusters: &[Properties]) -> Result<Option<HostFacts>> {
    let Some(name) = host.text("name") else {
        return Ok(None);
    };
    let above = host.moref("parent")?;
    let cluster = clusters
        .iter()
        .find(|cluster| Some(&cluster.object) == above.as_ref());
    let product = |field: &str| {
        let product = host.get("summary.config.product");
        product
            .and_then(|product| product.optional(field))
            .unwrap_or_default()
    };
    let datastores = host.morefs("datastore")?.into_iter();
    Ok(Some(HostFacts {
        host: HostRef::new(&host.object.value),
        name,
        version: product("version"),
        build: product("build"),
        connection: match host.text("runtime.connectionState").as_deref() {
            Some("connected") => HostConnection::Connected,
            Some("disconnected") => HostConnection::Disconnected,
            _ => HostConnection::NotResponding,
        },
        in_maintenance: host.text("runtime.inMaintenanceMode").as_deref() == Some("true"),
        cluster: cluster.and_then(|cluster| cluster.text("name")),
        datastores: datastores
            .map(|moref| DatastoreRef::new(moref.value))
            .collect(),
    }))
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
