//! `stillwater token`.

use secrecy::ExposeSecret;
use serde_json::json;
use stillwater_types::{Fault, Role};

use super::Desk;
use crate::arguments::{Format, Token, TokenRole};
use crate::exit::Outcome;
use crate::output;

pub(super) async fn run(desk: &Desk, token: Token) -> Result<Outcome, Fault> {
    let Token::Create { role } = token;
    let role = match role {
        TokenRole::Proxy => Role::Proxy,
        TokenRole::Repository => Role::Repository,
        TokenRole::Admin => Role::Admin,
    };
    let made = desk.session.controller.create_token(role).await?;
    // The token alone is on stdout, so that it can be passed on by a pipe.
    if desk.format == Format::Table {
        let command = match role {
            Role::Admin => "stillwater login".to_owned(),
            role => format!("stillwater-{role} join"),
        };
        let until = output::moment(made.expires_at);
        output::say(&format!(
            "for one `{command} TOKEN` until {until}; it is not shown again"
        ));
    }
    let json = || {
        json!({
            "token": made.token.expose_secret(),
            "role": role.as_str(),
            "expires_at": made.expires_at.to_string(),
        })
    };
    output::print(desk.format, || made.token.expose_secret().to_owned(), json)?;
    Ok(Outcome::Done)
}
