//! Join tokens: single use, fifteen minutes, for one role, kept only as a hash.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_rpc::Token;
use stillwater_types::{Fault, NodeId, Reason, Role};

use crate::event::Part;

/// At most this many unused tokens at once: more is a script gone wild, and each costs memory.
const OPEN_TOKENS_MAX: usize = 1000;

/// Hash of a token's secret, as the token makes it: all that the controller keeps of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of `token`'s secret.
    pub fn of(token: &Token) -> Self {
        Self(token.secret_hash())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TokenHash({})",
            blake3::Hash::from_bytes(self.0).to_hex()
        )
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        blake3::Hash::from_bytes(hash.0).to_hex().to_string()
    }
}

impl TryFrom<String> for TokenHash {
    type Error = blake3::HexError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes()))
    }
}

/// What the journal says about tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenEvent {
    /// A token was made.
    Created {
        /// Hash of its secret.
        hash: TokenHash,
        /// The role that whoever uses it gets.
        role: Role,
        /// When it ends unused.
        expires_at: Timestamp,
    },
    /// A token was used, and can never be used again.
    Used {
        /// Hash of its secret.
        hash: TokenHash,
        /// The node that it enrolled.
        node: NodeId,
    },
}

/// A token that may still be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    role: Role,
    expires_at: Timestamp,
}

/// The tokens that may still be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    open: BTreeMap<TokenHash, Open>,
}

impl Tokens {
    /// The role of a token that may be used at `at`.
    ///
    /// Unknown, used and expired are one answer: which of them it was helps only a thief.
    pub fn role(&self, at: Timestamp, hash: &TokenHash) -> Result<Role, Fault> {
        match self.open.get(hash) {
            Some(open) if at < open.expires_at => Ok(open.role),
            _ => Err(invalid()),
        }
    }
}

impl Part for Tokens {
    type Event = TokenEvent;

    fn check(&self, at: Timestamp, event: &TokenEvent) -> Result<(), Fault> {
        match event {
            TokenEvent::Created { .. } => {
                let open = self
                    .open
                    .values()
                    .filter(|open| at < open.expires_at)
                    .count();
                if open < OPEN_TOKENS_MAX {
                    return Ok(());
                }
                let message = format!("{open} tokens are unused; wait until some have expired");
                Err(Fault::new(Reason::RateLimited, message))
            }
            TokenEvent::Used { hash, .. } => self.role(at, hash).map(|_| ()),
        }
    }

    fn apply(&mut self, at: Timestamp, event: &TokenEvent) {
        match event {
            TokenEvent::Created {
                hash,
                role,
                expires_at,
            } => {
                self.open.retain(|_, open| at < open.expires_at);
                self.open.insert(
                    *hash,
                    Open {
                        role: *role,
                        expires_at: *expires_at,
                    },
                );
            }
            TokenEvent::Used { hash, .. } => {
                self.open.remove(hash);
            }
        }
    }
}

fn invalid() -> Fault {
    Fault::new(
        Reason::TokenInvalid,
        "the join token is unknown, used or expired; make a new one with `stillwater token create`",
    )
}

#[cfg(test)]
mod tests {
    use stillwater_rpc::Pin;

    use super::*;

    const NODE: NodeId = NodeId::from_bytes([7; 16]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small timestamp")
    }

    fn hash(byte: u8) -> TokenHash {
        TokenHash([byte; 32])
    }

    fn created(token: u8, expires: i64) -> TokenEvent {
        TokenEvent::Created {
            hash: hash(token),
            role: Role::Proxy,
            expires_at: at(expires),
        }
    }

    fn used(token: u8) -> TokenEvent {
        TokenEvent::Used {
            hash: hash(token),
            node: NODE,
        }
    }

    #[track_caller]
    fn check(history: &[(i64, TokenEvent)], now: i64, token: u8, expected: Result<Role, Reason>) {
        let mut tokens = Tokens::default();
        history
            .iter()
            .for_each(|(second, event)| tokens.apply(at(*second), event));
        let role = tokens
            .role(at(now), &hash(token))
            .map_err(|fault| fault.reason);
        assert_eq!(role, expected);
        let event = tokens
            .check(at(now), &used(token))
            .map_err(|fault| fault.reason);
        assert_eq!(event, expected.map(|_| ()));
    }

    #[test]
    fn a_token_works_until_its_last_second() {
        check(&[(0, created(1, 900))], 899, 1, Ok(Role::Proxy));
        check(&[(0, created(1, 900))], 900, 1, Err(Reason::TokenInvalid));
    }

    #[test]
    fn a_used_token_is_as_unknown_as_one_that_never_was() {
        check(
            &[(0, created(1, 900)), (1, used(1))],
            2,
            1,
            Err(Reason::TokenInvalid),
        );
        check(&[(0, created(1, 900))], 2, 2, Err(Reason::TokenInvalid));
    }

    #[test]
    fn one_token_used_leaves_the_others() {
        let history = [(0, created(1, 900)), (0, created(2, 900)), (1, used(1))];
        check(&history, 2, 2, Ok(Role::Proxy));
    }

    #[test]
    fn expired_tokens_are_dropped_when_the_next_is_made() {
        let mut tokens = Tokens::default();
        tokens.apply(at(0), &created(1, 900));
        tokens.apply(at(901), &created(2, 1800));
        assert_eq!(tokens.open.len(), 1);
    }

    #[test]
    fn the_event_holds_a_hash_and_never_the_secret() {
        let token = Token::mint("controller.example:7443", Pin([7; 32]), Role::Proxy);
        let token = token.expect("a good address");
        let hash = TokenHash::of(&token);
        let event = TokenEvent::Created {
            hash,
            role: Role::Proxy,
            expires_at: at(900),
        };
        let json = serde_json::to_string(&event).expect("serializes");
        assert!(!json.contains(token.to_text().as_str()));
        assert_eq!(
            serde_json::from_str::<TokenEvent>(&json).expect("parses"),
            event
        );
    }
}
