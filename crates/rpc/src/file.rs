//! Small files that must be whole or absent.
