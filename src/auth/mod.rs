//! Who is let in: one secret token, and a brake for those who guess.
//!
//! Whoever holds the token can run commands on this machine. So it lies in a file that only its owner
//! reads, it is compared in constant time, and its type can be neither printed nor compared by accident:
//!
//! ```compile_fail,E0277
//! fn show(token: claude_session_manager::auth::Token) { println!("{token:?}"); }
//! ```
//! ```compile_fail,E0277
//! fn show(token: claude_session_manager::auth::Token) { println!("{token}"); }
//! ```
//! ```compile_fail,E0369
//! use claude_session_manager::auth::Token;
//! fn same(a: Token, b: Token) -> bool { a == b }
//! ```

mod guard;
mod token;

pub use guard::{ADDRESSES_MAX, AuthGuard, FAILURES_MAX, FAILURES_WINDOW, Verdict};
pub use token::{TOKEN_CHARS_MAX, TOKEN_CHARS_MIN, Token, TokenError};
