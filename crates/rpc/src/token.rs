//! Join tokens: what a new node needs to find the controller, believe it, and be believed.
//!
//! Text form: `swt1.` and the base64url of a fixed layout, so that it survives shells and chats.
//! A token is a secret until it is used or fifteen minutes are over.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stillwater_types::{Fault, Reason, Role};
use zeroize::Zeroizing;

use crate::Pin;

/// How long a token may be used after it was made.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

const PREFIX: &str = "swt1.";
const ADDRESS_BYTES_MAX: usize = 255;
const HASH_CONTEXT: &[u8] = b"stillwater join token v1\0";

/// What `stillwater token create` prints. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// `host:port` of the controller.
    pub controller: String,
    /// The cluster's authority, so that nobody in between can pose as the controller.
    pub ca_pin: Pin,
    /// What the node will be. A hint for the joining side: the controller goes by what it noted
    /// beside the secret's hash.
    pub role: Role,
    secret: Zeroizing<[u8; 32]>,
}

impl Token {
    /// Makes a token with a fresh secret.
    ///
    /// # Errors
    /// `BAD_FIELD` when the address is not 1 to 255 bytes.
    pub fn mint(controller: &str, ca_pin: Pin, role: Role) -> Result<Self, Fault> {
        if controller.is_empty() || controller.len() > ADDRESS_BYTES_MAX {
            return Err(Fault::new(
                Reason::BadField,
                "the controller's address must have 1 to 255 bytes",
            ));
        }
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut())
            .map_err(|err| Fault::new(Reason::Bug, format!("read random bytes: {err}")))?;
        Ok(Self {
            controller: controller.to_owned(),
            ca_pin,
            role,
            secret,
        })
    }

    /// What the controller keeps instead of the token. SHA-256: the secret has 256 random bits,
    /// so that a slow hash would add nothing.
    pub fn secret_hash(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(HASH_CONTEXT);
        context.update(self.secret.as_ref());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// The text to hand to the new node. It holds the secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(66 + self.controller.len()));
        bytes.push(role_byte(self.role));
        bytes.extend_from_slice(&self.ca_pin.0);
        bytes.extend_from_slice(self.secret.as_ref());
        bytes.extend_from_slice(self.controller.as_bytes());
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes)))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&role, rest) = bytes.split_first()?;
        let (pin, rest) = rest.split_first_chunk::<32>()?;
        let (secret, address) = rest.split_first_chunk::<32>()?;
        let controller = std::str::from_utf8(address).ok()?;
        if controller.is_empty() || controller.len() > ADDRESS_BYTES_MAX {
            return None;
        }
        Some(Self {
            controller: controller.to_owned(),
            ca_pin: Pin(*pin),
            role: Role::ALL
                .into_iter()
                .find(|known| role_byte(*known) == role)?,
            secret: Zeroizing::new(*secret),
        })
    }
}

const fn role_byte(role: Role) -> u8 {
    match role {
        Role::Controller => 1,
        Role::Proxy => 2,
        Role::Repository => 3,
        Role::Admin => 4,
    }
}

impl FromStr for Token {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let invalid = |message: &str| Fault::new(Reason::TokenInvalid, message);
        let body = text.trim().strip_prefix(PREFIX).ok_or_else(|| {
            invalid("a join token starts with \"swt1.\": copy all of what `token create` printed")
        })?;
        // Checked before decoding, so that nobody makes us decode a megabyte.
        if body.len() > (65 + ADDRESS_BYTES_MAX) * 4 / 3 + 4 {
            return Err(invalid("the join token is too long: copy just the token"));
        }
        let damaged = || invalid("the join token is cut short or damaged: copy all of it");
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged())?);
        Self::decode(&bytes).ok_or_else(damaged)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("controller", &self.controller)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(role: Role) -> Token {
        Token::mint("controller.example:7443", Pin([7; 32]), role).expect("a good address")
    }

    #[test]
    fn a_token_parses_what_it_prints() {
        for role in Role::ALL {
            let token = token(role);
            assert_eq!(token.to_text().parse::<Token>(), Ok(token.clone()));
            assert_eq!(
                format!(" {}\n", *token.to_text()).parse::<Token>(),
                Ok(token)
            );
        }
    }

    #[test]
    fn two_tokens_share_neither_secret_nor_hash() {
        let (one, two) = (token(Role::Proxy), token(Role::Proxy));
        assert_ne!(one.secret_hash(), two.secret_hash());
        assert_eq!(one.secret_hash(), one.clone().secret_hash());
        assert!(!one.secret_hash().iter().eq(one.secret.iter()));
    }

    #[test]
    fn debug_shows_neither_secret_nor_text() {
        let token = token(Role::Proxy);
        let shown = format!("{token:?}");
        assert!(shown.contains("controller.example"), "{shown}");
        assert!(
            !shown.contains("secret") && !shown.contains(token.to_text().as_str()),
            "{shown}"
        );
    }

    #[test]
    fn a_cut_token_is_refused_at_every_length() {
        let text = token(Role::Repository).to_text();
        // Cutting inside the address leaves a shorter address, which the length cannot tell.
        for length in 0..PREFIX.len() + 65 * 4 / 3 {
            let fault = text[..length].parse::<Token>().expect_err("too short");
            assert_eq!(fault.reason, Reason::TokenInvalid);
            assert!(!fault.message.contains(&text[PREFIX.len()..]));
        }
        assert!(
            format!("{PREFIX}{}", "A".repeat(1 << 20))
                .parse::<Token>()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "(swt1\\.)?[A-Za-z0-9_=-]{0,200}") {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.to_text().parse::<Token>(), Ok(token));
            }
        }
    }
}
