//! The datastores that a VM's files are on.

use stillwater_types::Reason;
use stillwater_vsphere::{DatastoreFacts, Told};

use super::{Check, Facts, Finding, Subject, Verdict};

pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let found = |verdict, subject, message: String| {
        Finding::new(Check::Datastore, verdict, subject, message).because(Reason::VcenterTaskFailed)
    };
    match &facts.around.datastores {
        Told::Known(datastores) if datastores.is_empty() => {
            vec![found(Verdict::Ok, Subject::Vm, "has no files".to_owned())]
        }
        Told::Known(datastores) => datastores
            .iter()
            .map(|datastore| {
                let (verdict, message) = judge(datastore);
                let subject = Subject::Datastore(datastore.name.clone());
                found(verdict, subject, message)
            })
            .collect(),
        Told::Unknown(why) => {
            let message = format!("its datastores could not be looked at: {why}");
            let mut unknown = found(Verdict::Warning, Subject::Vm, message);
            unknown.is_told_by_runs = false;
            vec![unknown]
        }
    }
}

fn judge(datastore: &DatastoreFacts) -> (Verdict, String) {
    match datastore.is_accessible {
        true => {
            let message = format!(
                "{} MiB of {} MiB are free",
                datastore.free_bytes >> 20,
                datastore.capacity_bytes >> 20
            );
            (Verdict::Ok, message)
        }
        false => (
            Verdict::Blocked,
            "no host can reach it; look at its storage".to_owned(),
        ),
    }
}
