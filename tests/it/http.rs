//! The HTTP front and who is let in.
