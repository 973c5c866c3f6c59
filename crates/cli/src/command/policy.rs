//! `stillwater policy`.

use std::io::IsTerminal;
use std::path::Path;

use stillwater_controller_api::{
    ApplyPolicyRequest, ApplyPolicyResponse, ListPolicyPointsRequest, SimulatePolicyRequest,
};
use stillwater_types::{Fault, Reason};

use super::Desk;
use crate::arguments::{Format, Policy};
use crate::exit::Outcome;
use crate::{output, view};

pub(super) async fn run(desk: &Desk, policy: Policy) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match policy {
        Policy::Apply { file, dry_run, yes } => apply(desk, &file, dry_run, yes).await?,
        Policy::List => {
            let policies = controller.list_policies().await?;
            let json = || policies.iter().map(view::policy::json).collect();
            output::print(desk.format, || view::policy::list(&policies), json)?;
        }
        Policy::Show { name } => {
            let policy = controller.get_policy(name).await?;
            let json = || view::policy::json(&policy);
            output::print(desk.format, || policy.file.clone(), json)?;
        }
        Policy::Members { name, all } => {
            let mut members = controller.list_policy_members(name).await?;
            members.retain(|member| all || member.is_in);
            let json = || members.iter().map(view::policy::member_json).collect();
            output::print(desk.format, || view::policy::members(&members), json)?;
        }
        Policy::Simulate { name, file, days } => {
            if name.is_none() && file.is_none() {
                let message = "name a policy, or a policy file by --file";
                return Err(Fault::new(Reason::BadField, message));
            }
            let request = SimulatePolicyRequest {
                name: name.unwrap_or_default(),
                file: file.as_deref().map(read).transpose()?.unwrap_or_default(),
                days,
            };
            let told = controller.simulate_policy(request).await?;
            let json = || view::policy::simulated_json(&told);
            output::print(desk.format, || view::policy::simulated(&told), json)?;
        }
        Policy::Retention { name, vm, expired } => {
            let request = ListPolicyPointsRequest {
                policy: name,
                vm: vm.unwrap_or_default(),
            };
            let mut told = controller.list_policy_points(request).await?;
            told.points.retain(|point| point.is_expired || !expired);
            let json = || told.points.iter().map(view::policy::point_json).collect();
            output::print(desk.format, || view::policy::points(&told.points), json)?;
            if told.left_off_count > 0 {
                let count = told.left_off_count;
                output::say(&format!(
                    "{count} more points are not shown; name one VM by --vm"
                ));
            }
        }
        Policy::Remove { name, yes } => {
            if !yes {
                confirm(&format!(
                    "no run of policy {name} starts any more; its points stay. type yes"
                ))?;
            }
            controller.remove_policy(name.clone()).await?;
            output::say(&format!("policy {name} is removed"));
        }
    }
    Ok(Outcome::Done)
}

/// What changes is shown before it does; what is weaker, and whom a policy loses, is asked about.
async fn apply(desk: &Desk, file: &Path, dry_run: bool, yes: bool) -> Result<(), Fault> {
    let controller = &desk.session.controller;
    let text = read(file)?;
    let request = |dry_run| ApplyPolicyRequest {
        file: text.clone(),
        dry_run,
    };
    let told = controller.apply_policy(request(true)).await?;
    let print = |told: &ApplyPolicyResponse| {
        let json = || view::policy::applied_json(told);
        output::print(desk.format, || view::policy::applied(told), json)
    };
    if dry_run || told.changes.is_empty() {
        return print(&told);
    }
    let is_asked = !yes && takes_away(&told);
    if is_asked {
        output::say(&view::policy::applied(&told));
        confirm("something is protected less than before. type yes to apply it")?;
    } else if desk.format == Format::Table {
        print(&told)?;
    }
    let told = controller.apply_policy(request(false)).await?;
    // A person has seen it before; a program reads what became of it.
    match desk.format {
        Format::Table => output::say(&format!("policy {} is applied", told.name)),
        Format::Json => print(&told)?,
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(file).map_err(|error| {
        let message = format!("read policy file {}: {error}", file.display());
        Fault::new(Reason::BadField, message)
    })
}

fn takes_away(told: &ApplyPolicyResponse) -> bool {
    !told.leave.is_empty() || told.changes.iter().any(|change| change.is_weaker)
}

fn confirm(question: &str) -> Result<(), Fault> {
    let refusal = |message: &str| Err(Fault::new(Reason::BadField, message));
    if !std::io::stdin().is_terminal() {
        return refusal(
            "this asks first and stdin is no terminal; repeat with --yes if you mean it",
        );
    }
    output::say(question);
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        Ok(_) => refusal("nothing was changed"),
        Err(error) => Err(Fault::new(
            Reason::BadField,
            format!("read the answer: {error}"),
        )),
    }
}
