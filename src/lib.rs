//! spawnfix
