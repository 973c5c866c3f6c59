//! Keys, derivation and authenticated encryption; the only crate that names a cipher
