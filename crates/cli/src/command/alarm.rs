//! `stillwater alarm`.

use stillwater_controller_api::ListAlarmsRequest;
use stillwater_types::Fault;

use super::Desk;
use crate::arguments::Alarm;
use crate::exit::Outcome;
use crate::{output, view};

pub(super) async fn run(desk: &Desk, alarm: Alarm) -> Result<Outcome, Fault> {
    let Alarm::List { all } = alarm;
    let request = ListAlarmsRequest {
        include_cleared: all,
    };
    let alarms = desk.session.controller.list_alarms(request).await?;
    let text = || view::alarm::list(&alarms);
    output::print(desk.format, text, || view::alarm::json(&alarms))?;
    Ok(Outcome::Done)
}
