//! Who may call what: compiled-in tables, default deny.

use std::collections::BTreeSet;

use prost_types::FileDescriptorSet;
use stillwater_types::{Fault, Reason, Role};

/// Which roles may make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The HTTP/2 path: `/package.Service/Method`.
    pub path: &'static str,
    /// The roles that may call.
    pub roles: &'static [Role],
    /// Whether a caller without a certificate may call as well.
    pub anonymous: bool,
}

impl Access {
    /// Only callers of these roles.
    pub const fn roles(path: &'static str, roles: &'static [Role]) -> Self {
        Self {
            path,
            roles,
            anonymous: false,
        }
    }

    /// Anybody, with a certificate of the cluster or without one.
    pub const fn anyone(path: &'static str) -> Self {
        Self {
            path,
            roles: &Role::ALL,
            anonymous: true,
        }
    }
}

/// Whether a caller may call `path`; `role` is `None` for a caller without a certificate.
///
/// # Errors
/// `NO_CERTIFICATE` for an anonymous caller, `ROLE_NOT_ALLOWED` for any other and for paths that
/// no entry names.
pub fn allow(table: &[Access], path: &str, role: Option<Role>) -> Result<(), Fault> {
    let entry = table.iter().find(|entry| entry.path == path);
    match (entry, role) {
        (Some(entry), None) if entry.anonymous => Ok(()),
        (Some(entry), Some(role)) if entry.roles.contains(&role) => Ok(()),
        (_, None) => Err(Fault::new(
            Reason::NoCertificate,
            "this call needs a certificate of the cluster: join or log in first",
        )),
        (_, Some(role)) => Err(Fault::new(
            Reason::RoleNotAllowed,
            format!("a certificate of role {role} may not make this call"),
        )
        .with("role", role)),
    }
}

/// What keeps `table` from covering each method of `descriptors` exactly once; empty when it does.
pub fn gaps(table: &[Access], descriptors: &FileDescriptorSet) -> Vec<String> {
    let methods = methods(descriptors);
    let mut seen = BTreeSet::new();
    let mut gaps = Vec::new();
    for entry in table {
        if !seen.insert(entry.path) {
            gaps.push(format!("{} is listed twice", entry.path));
        }
        if !methods.contains(entry.path) {
            gaps.push(format!("{} is no method of the protocol", entry.path));
        }
    }
    let missing = methods
        .iter()
        .filter(|method| !seen.contains(method.as_str()));
    gaps.extend(missing.map(|method| format!("{method} is not listed")));
    gaps
}

fn methods(descriptors: &FileDescriptorSet) -> BTreeSet<String> {
    let services = descriptors.file.iter().flat_map(|file| {
        file.service
            .iter()
            .map(move |service| (file.package(), service))
    });
    services
        .flat_map(|(package, service)| {
            let path = move |method: &str| format!("/{package}.{}/{method}", service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

    use super::*;

    const TABLE: &[Access] = &[
        Access::anyone("/a.v1.NodeService/Join"),
        Access::roles("/a.v1.NodeService/List", &[Role::Admin]),
    ];

    fn descriptors(methods: &[&str]) -> FileDescriptorSet {
        let method = |name: &&str| MethodDescriptorProto {
            name: Some((*name).to_owned()),
            ..Default::default()
        };
        let service = ServiceDescriptorProto {
            name: Some("NodeService".into()),
            method: methods.iter().map(method).collect(),
            ..Default::default()
        };
        let file = FileDescriptorProto {
            package: Some("a.v1".into()),
            service: vec![service],
            ..Default::default()
        };
        FileDescriptorSet { file: vec![file] }
    }

    #[track_caller]
    fn check(path: &str, role: Option<Role>, expected: Option<Reason>) {
        let reason = allow(TABLE, path, role).err().map(|fault| fault.reason);
        assert_eq!(reason, expected, "{path} {role:?}");
    }

    #[test]
    fn only_listed_roles_may_call_and_only_listed_paths_exist() {
        for role in Role::ALL {
            let admin_only = (role != Role::Admin).then_some(Reason::RoleNotAllowed);
            check("/a.v1.NodeService/Join", Some(role), None);
            check("/a.v1.NodeService/List", Some(role), admin_only);
            check(
                "/a.v1.NodeService/list",
                Some(role),
                Some(Reason::RoleNotAllowed),
            );
            check(
                "/a.v1.NodeService/List/",
                Some(role),
                Some(Reason::RoleNotAllowed),
            );
            check("", Some(role), Some(Reason::RoleNotAllowed));
        }
        check("/a.v1.NodeService/Join", None, None);
        check("/a.v1.NodeService/List", None, Some(Reason::NoCertificate));
        check(
            "/a.v1.NodeService/Unknown",
            None,
            Some(Reason::NoCertificate),
        );
    }

    #[test]
    fn gaps_are_found_in_both_directions() {
        assert_eq!(
            gaps(TABLE, &descriptors(&["Join", "List"])),
            Vec::<String>::new()
        );
        assert_eq!(
            gaps(TABLE, &descriptors(&["List", "Remove"])),
            [
                "/a.v1.NodeService/Join is no method of the protocol",
                "/a.v1.NodeService/Remove is not listed"
            ],
        );
        let twice = [TABLE, TABLE].concat();
        assert_eq!(gaps(&twice, &descriptors(&["Join", "List"])).len(), 2);
    }
}
