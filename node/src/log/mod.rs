//! The log: raft, storage and history. Raft types stay inside this folder.
