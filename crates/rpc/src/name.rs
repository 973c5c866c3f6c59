//! What a certificate says about its holder.

use std::fmt;
use std::str::FromStr;

use stillwater_types::{ClusterId, InvalidId, NodeId, Role};

/// Names one certificate's holder: `spiffe://<cluster>/role/<role>/<node>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// The cluster whose authority signed.
    pub cluster: ClusterId,
    /// What the holder may act as.
    pub role: Role,
    /// Which holder.
    pub node: NodeId,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/role/{}/{}",
            self.cluster, self.role, self.node
        )
    }
}

impl FromStr for Name {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            what: "certificate name",
            text: text.chars().take(80).collect(),
        };
        let rest = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let mut parts = rest.split('/');
        let mut part = || parts.next().ok_or_else(invalid);
        let cluster = part()?.parse()?;
        if part()? != "role" {
            return Err(invalid());
        }
        let role = Role::parse(part()?).ok_or_else(invalid)?;
        let node = part()?.parse()?;
        match parts.next() {
            None => Ok(Self {
                cluster,
                role,
                node,
            }),
            Some(_) => Err(invalid()),
        }
    }
}

/// The DNS name that every server of `role` proves, whatever address it is reached at.
pub(crate) fn dns(role: Role) -> String {
    format!("{role}.stillwater.internal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_parses_what_it_prints_and_nothing_else() {
        for role in Role::ALL {
            let name = Name {
                cluster: ClusterId::mint(),
                role,
                node: NodeId::mint(),
            };
            assert_eq!(name.to_string().parse(), Ok(name));
            let text = name.to_string();
            for bad in [
                text.replace("spiffe", "https"),
                text.replace("/role/", "/user/"),
                text.replace(role.as_str(), "root"),
                format!("{text}/more"),
                format!("{text}/"),
                text.chars().take(60).collect(),
            ] {
                assert!(bad.parse::<Name>().is_err(), "{bad}");
            }
        }
    }
}
