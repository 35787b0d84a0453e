//! Flags, environment, file; what a person sees on a bad value; the subcommands.
