//! The proxy role: reads frozen disks into sealed chunks, and back
