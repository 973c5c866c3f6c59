//! Which VMs and which of their disks a policy is for, and why.

use std::fmt;

use serde::{Deserialize, Serialize};
use stillwater_types::VmId;

use crate::glob;

/// A tag of vCenter; names are unique only within a category.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Its category.
    pub category: String,
    /// Its name in the category.
    pub name: String,
}

/// What is known of one disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFacts {
    /// The device key, such as 2000.
    pub key: i32,
    /// The label, such as `Hard disk 1`.
    pub label: String,
}

/// What is known of a VM, as far as a scope asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmFacts {
    /// Which one it is.
    pub vm: VmId,
    /// The name by which its vCenter is known to the cluster.
    pub vcenter: String,
    /// Its name.
    pub name: String,
    /// The path of its folder from the datacenter down, such as `/Berlin/vm/Production`.
    pub folder: String,
    /// The cluster of its host, if it is in one.
    pub cluster: Option<String>,
    /// The path of its resource pool.
    pub resource_pool: Option<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its disks.
    pub disks: Vec<DiskFacts>,
    /// A template never runs.
    pub template: bool,
}

/// What must all be so of a VM. At least one key is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Clause {
    /// One VM, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// The name of a vCenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcenter: Option<String>,
    /// A folder; what lies below it is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The name of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A resource pool; what lies below it is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_pool: Option<String>,
    /// A tag, `Category/Name`; `Category/*` is any tag of the category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// A name with `*` and `?`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Disks that are left out: of which VMs, and which ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskClause {
    /// One VM, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// A VM's name with `*` and `?`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A disk's label with `*` and `?`, such as `Hard disk 3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A disk's device key, such as 2002.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<i32>,
}

/// Which VMs a policy is for: those that any `include` names and no `exclude`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scope {
    /// A VM that one of these fits is in.
    #[serde(default)]
    pub include: Vec<Clause>,
    /// A VM that one of these fits is out all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Clause>,
    /// Disks that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_disks: Vec<DiskClause>,
}

/// Whether a policy is for a VM, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is, and here is what becomes of each disk.
    In {
        /// The first clause that fits.
        by: Clause,
        /// Each disk of the VM.
        disks: Vec<DiskVerdict>,
    },
    /// No `include` fits.
    Outside,
    /// An `exclude` fits.
    Excluded {
        /// The first one that does.
        by: Clause,
    },
    /// An `include` fits, but a template is nothing that runs.
    Template,
}

/// Whether a disk is protected, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskVerdict {
    /// The device key.
    pub key: i32,
    /// What leaves it out.
    pub excluded_by: Option<DiskClause>,
}

impl Clause {
    fn fits(&self, facts: &VmFacts) -> bool {
        // Destructured so that a key added to the clause cannot be forgotten here.
        let Clause {
            vm,
            vcenter,
            folder,
            cluster,
            resource_pool,
            tag,
            name,
        } = self;
        let is =
            |asked: &Option<String>, fits: &dyn Fn(&str) -> bool| asked.as_deref().is_none_or(fits);
        !self.is_empty()
            && is(vm, &|id| facts.vm.to_string() == id)
            && is(vcenter, &|asked| glob::same(asked, &facts.vcenter))
            && is(folder, &|above| glob::within(&facts.folder, above))
            && is(cluster, &|asked| {
                facts
                    .cluster
                    .as_deref()
                    .is_some_and(|has| glob::same(asked, has))
            })
            && is(resource_pool, &|above| {
                facts
                    .resource_pool
                    .as_deref()
                    .is_some_and(|pool| glob::within(pool, above))
            })
            && is(tag, &|asked| facts.tags.iter().any(|tag| tag.is(asked)))
            && is(name, &|pattern| glob::matches(pattern, &facts.name))
    }

    /// A clause without a key: it fits nothing, and no policy is taken with one.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Clause::default()
    }

    /// What is wrong with it, and what to write instead.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.is_empty() {
            return Some("an empty clause fits nothing: write { name = \"*\" } for all VMs".into());
        }
        if let Some(id) = self.vm.as_deref().filter(|id| id.parse::<VmId>().is_err()) {
            return Some(format!("{id:?} is no VM's id: copy it from `vm list`"));
        }
        // A path without a root could be meant from anywhere.
        let rootless = [&self.folder, &self.resource_pool]
            .into_iter()
            .flatten()
            .find(|path| !path.starts_with('/'));
        if let Some(path) = rootless {
            return Some(format!("write the whole path: \"/Datacenter/vm/{path}\""));
        }
        self.tag
            .as_deref()
            .filter(|tag| {
                tag.split_once('/')
                    .is_none_or(|(category, name)| category.is_empty() || name.is_empty())
            })
            .map(|tag| format!("write the tag with its category: \"Category/{tag}\""))
    }
}

impl Tag {
    /// Whether a clause that names `Category/Name` or `Category/*` means it.
    pub fn is(&self, asked: &str) -> bool {
        asked.split_once('/').is_some_and(|(category, name)| {
            glob::same(category, &self.category) && (name == "*" || glob::same(name, &self.name))
        })
    }
}

impl DiskClause {
    fn fits(&self, facts: &VmFacts, disk: &DiskFacts) -> bool {
        let DiskClause {
            vm,
            name,
            label,
            key,
        } = self;
        (label.is_some() || key.is_some())
            && vm.as_ref().is_none_or(|id| *id == facts.vm.to_string())
            && name
                .as_ref()
                .is_none_or(|pattern| glob::matches(pattern, &facts.name))
            && label
                .as_ref()
                .is_none_or(|pattern| glob::matches(pattern, &disk.label))
            && key.is_none_or(|key| key == disk.key)
    }

    /// What is wrong with it, and what to write instead.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Some(id) = self.vm.as_deref().filter(|id| id.parse::<VmId>().is_err()) {
            return Some(format!("{id:?} is no VM's id: copy it from `vm list`"));
        }
        (self.label.is_none() && self.key.is_none())
            .then(|| "write which disk: label = \"Hard disk 2\" or key = 2001".into())
    }
}

impl Scope {
    /// The tags that it names, as clauses write them: whoever does not know them cannot tell who is in.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        let clauses = self.include.iter().chain(&self.exclude);
        clauses.filter_map(|clause| clause.tag.as_deref())
    }

    /// Whether the policy is for this VM, and why.
    pub fn verdict(&self, facts: &VmFacts) -> Verdict {
        if let Some(by) = self.exclude.iter().find(|clause| clause.fits(facts)) {
            return Verdict::Excluded { by: by.clone() };
        }
        let Some(by) = self.include.iter().find(|clause| clause.fits(facts)) else {
            return Verdict::Outside;
        };
        if facts.template {
            return Verdict::Template;
        }
        let disks = facts.disks.iter().map(|disk| DiskVerdict {
            key: disk.key,
            excluded_by: self
                .exclude_disks
                .iter()
                .find(|clause| clause.fits(facts, disk))
                .cloned(),
        });
        Verdict::In {
            by: by.clone(),
            disks: disks.collect(),
        }
    }
}

impl Verdict {
    /// Whether the policy is for the VM.
    pub const fn is_in(&self) -> bool {
        matches!(self, Verdict::In { .. })
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = [
            ("vm", &self.vm),
            ("vcenter", &self.vcenter),
            ("folder", &self.folder),
            ("cluster", &self.cluster),
            ("resource-pool", &self.resource_pool),
            ("tag", &self.tag),
            ("name", &self.name),
        ];
        let written = keys.into_iter().filter_map(|(key, value)| {
            let value = value.as_ref()?;
            Some(format!("{key} {value:?}"))
        });
        f.write_str(&written.collect::<Vec<_>>().join(" and "))
    }
}

impl fmt::Display for DiskClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{key} {value:?}"))
        };
        let written = [
            text("vm", &self.vm),
            text("name", &self.name),
            text("label", &self.label),
            self.key.map(|key| format!("key {key}")),
        ];
        f.write_str(
            &written
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" and "),
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::In { by, disks } => {
                write!(f, "in: {by}")?;
                for disk in disks {
                    if let Some(clause) = &disk.excluded_by {
                        write!(f, "; without disk {} ({clause})", disk.key)?;
                    }
                }
                Ok(())
            }
            Verdict::Outside => f.write_str("out: no include fits"),
            Verdict::Excluded { by } => write!(f, "out: excluded by {by}"),
            Verdict::Template => f.write_str("out: a template never runs"),
        }
    }
}

#[cfg(test)]
mod tests;
