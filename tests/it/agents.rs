//! Badly behaved agents: each has its expected outcome for the client and for the process table.
