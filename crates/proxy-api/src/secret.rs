//! Bytes that must not be seen.

use secrecy::{ExposeSecret, SecretBox};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Never printed, wiped when dropped.
        #[derive(Debug)]
        pub struct $name(SecretBox<[u8; 32]>);

        impl $name {
            /// Wraps the bytes.
            pub fn new(bytes: [u8; 32]) -> Self {
                Self(SecretBox::new(Box::new(bytes)))
            }

            /// The bytes, for the one place that must have them.
            pub fn expose(&self) -> &[u8; 32] {
                self.0.expose_secret()
            }
        }

        impl Clone for $name {
            fn clone(&self) -> Self {
                Self::new(*self.expose())
            }
        }
    };
}

secret!(
    /// The key of one dataset, given to a proxy for one transfer.
    DatasetKey
);
secret!(
    /// The right to read one export.
    Ticket
);

impl PartialEq for Ticket {
    /// Looks at every byte, so that the time taken tells nothing about where two tickets differ.
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.expose().iter().zip(other.expose());
        pairs.fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl Eq for Ticket {}
