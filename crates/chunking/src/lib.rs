//! Cut, identify and compress disk content, and build and read its Merkle tree
