//! Why a point stays or goes, in words.

use stillwater_policy::retention::{Expire, Keep};

use super::judge::{Fate, Stay};

/// Every reason, each as one short sentence.
pub fn why(fate: &Fate) -> Vec<String> {
    match fate {
        Fate::Keep(reasons) => reasons.iter().map(stay).collect(),
        Fate::Expire(reasons) => reasons
            .iter()
            .map(|(policy, why)| format!("{policy}: {}", expire(*why)))
            .collect(),
    }
}

fn stay(stay: &Stay) -> String {
    match stay {
        Stay::Wanted(policy, why) => format!("{policy}: {}", keep(why)),
        Stay::NoPolicy => "no policy made it".to_owned(),
        Stay::PolicyRemoved => "the policy that made it was removed".to_owned(),
        Stay::InUse => "a run reads it".to_owned(),
        Stay::VcenterSilent => {
            "its vcenter does not answer: whether the vm is in scope is not known".to_owned()
        }
        Stay::RepositorySilent => "its repository does not answer".to_owned(),
    }
}

/// Why a policy keeps a point.
pub(crate) fn keep(keep: &Keep) -> String {
    match keep {
        Keep::Last(1) => "the newest".to_owned(),
        Keep::Last(rank) => format!("number {rank} from the newest"),
        Keep::Period(label) => format!("the last of {label}"),
        Keep::Locked(until) => format!("locked until {until:.0}"),
        Keep::LastGood => "the newest good one".to_owned(),
        Keep::Unverified => "not proved good, and would stay if it were".to_owned(),
        Keep::NothingBetter => "there is nothing better".to_owned(),
        Keep::ClockDoubtful => "dated after now: some clock was or is wrong".to_owned(),
    }
}

const fn expire(why: Expire) -> &'static str {
    match why {
        Expire::Superseded => "newer ones stand for its periods, or these are over",
        Expire::Unverified => "not proved good, and would go if it were",
        Expire::Bad => "damaged, and there is better",
    }
}
