//! The repository engine: packs, chunk index, commit log and point catalogue on a Vfs
