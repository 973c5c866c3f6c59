//! Whether protecting a VM does no harm to what is around it.

use stillwater_types::Reason;
use stillwater_vsphere::Told;

use super::{Check, Facts, Finding, Subject, Verdict};
use crate::run::Judgement;

pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let foreign = facts.guards.foreign(facts.vm, facts.cluster, facts.now);
    let foreign = found(Check::ForeignSnapshots, Subject::Vm, foreign);
    let mut all = vec![foreign.because(Reason::SnapshotLimit)];
    let whole = |verdict, message| {
        let judged = Judgement { verdict, message };
        found(Check::Headroom, Subject::Vm, judged)
    };
    match &facts.around.datastores {
        Told::Known(datastores) if datastores.is_empty() => {
            all.push(whole(Verdict::Ok, "has no files".to_owned()));
        }
        Told::Known(datastores) => {
            let reachable = datastores
                .iter()
                .filter(|datastore| datastore.is_accessible);
            all.extend(reachable.map(|datastore| {
                let subject = Subject::Datastore(datastore.name.clone());
                let judged = facts.guards.headroom(facts.vm, datastore);
                found(Check::Headroom, subject, judged).because(Reason::DatastoreFull)
            }));
        }
        Told::Unknown(why) => {
            let message = format!("the room on its datastores is not known: {why}");
            let mut unknown = whole(Verdict::Warning, message);
            unknown.is_told_by_runs = false;
            all.push(unknown);
        }
    }
    all
}

fn found(check: Check, subject: Subject, judged: Judgement) -> Finding {
    Finding::new(check, judged.verdict, subject, judged.message)
}
