//! `stillwater point`.

use stillwater_types::Fault;

use super::Desk;
use crate::arguments::Point;
use crate::exit::Outcome;
use crate::{output, resolve, view};

pub(super) async fn run(desk: &Desk, point: Point) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match point {
        Point::List { vm, limit } => {
            let points = resolve::points(controller, vm, limit).await?;
            let json = || points.iter().map(view::point::json).collect();
            output::print(desk.format, || view::point::list(&points), json)?;
        }
        Point::Show { point } => {
            let point = resolve::point(controller, &point).await?;
            let shown = controller.get_point(point).await?;
            let json = || view::point::shown_json(&shown);
            output::print(desk.format, || view::point::show(&shown), json)?;
        }
    }
    Ok(Outcome::Done)
}
