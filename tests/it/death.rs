//! How processes end, and that nothing outlives its session.
