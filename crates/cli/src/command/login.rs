//! `stillwater login` and `stillwater context`.

use serde_json::json;
use stillwater_rpc::Token;
use stillwater_types::Fault;

use crate::arguments::{Context, Format, Login};
use crate::context::Contexts;
use crate::exit::Outcome;
use crate::output::{self, Field, table};
use crate::session;

pub(super) async fn run(login: Login) -> Result<Outcome, Fault> {
    let Login { token, name } = login;
    let contexts = Contexts::of_user()?;
    let token: Token = token.parse()?;
    // The token is worth one try: whether the context can be kept is found out before.
    contexts.check(&name, token.ca_pin)?;
    let (controller, identity) = session::join(&token).await?;
    contexts.keep(&name, &controller, &identity)?;
    output::say(&format!("logged in to {controller} as context {name}"));
    Ok(Outcome::Done)
}

pub(super) fn contexts(context: Context, format: Format) -> Result<Outcome, Fault> {
    let contexts = Contexts::of_user()?;
    match context {
        Context::List => list(&contexts, format)?,
        Context::Use { name } => contexts.choose(&name)?,
    }
    Ok(Outcome::Done)
}

fn list(contexts: &Contexts, format: Format) -> Result<(), Fault> {
    let current = contexts.current()?;
    let names = contexts.names()?;
    let is_current = |name: &String| current.as_ref() == Some(name);
    let row = |name: &String| {
        [
            Field::text(name),
            Field::text(if is_current(name) { "yes" } else { "no" }),
        ]
    };
    let json = || {
        names
            .iter()
            .map(|name| json!({"name": name, "current": is_current(name)}))
    };
    output::print(
        format,
        || table(["NAME", "CURRENT"], names.iter().map(row)),
        || json().collect(),
    )
}
