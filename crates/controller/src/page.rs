//! The page of a list that a client asks for.

use std::str::FromStr;

use stillwater_types::{Fault, Reason};

/// The place that an earlier page answered with; none for the first page.
pub fn place<T: FromStr>(token: Option<&str>) -> Result<Option<T>, Fault> {
    let place = token.map(str::parse).transpose();
    place.map_err(|_| unknown_token())
}

/// A token that no list gave.
pub fn unknown_token() -> Fault {
    let message = "page_token is not one that a list answered with";
    Fault::new(Reason::BadField, message).with("field", "page_token")
}

/// Rows of a page, at least one.
pub fn limit(page_size: u32) -> usize {
    usize::try_from(page_size).unwrap_or(usize::MAX).max(1)
}
