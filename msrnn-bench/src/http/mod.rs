//! HTTP to servers that are not trusted: the Hugging Face hub and whom it sends to, and a judge.
//!
//! On ureq, of which only one request and its answer are used. What is decided here and not left to it:
//!
//! - **Redirects** are followed one by one, [`client::REDIRECTS`] at most, and only for requests without a body.
//!   An address that was https is never left for http; an http endpoint may send to http or https. A redirect
//!   to any other scheme, with a user or password in it, or with signs that belong in no address is refused.
//! - **Credentials** go to one origin (scheme, host and port) only, and to nobody any more once a redirect
//!   has led away from it.
//! - **Time**: connecting, the answer's first byte, and every pause within a body have limits ([`Patience`]);
//!   the whole has none, because files may take any time.
//! - **An interrupt** ends every wait within a tenth of a second.
//! - **Encodings** are refused: a length means the bytes that were asked for.
//! - **What a server says** is printed without control characters ([`text::shown`]).

mod address;
mod client;
mod exchange;
mod text;

pub(crate) use address::Address;
pub use client::Patience;
pub(crate) use client::{Answer, Client, Credentials, Failure, Following, Request};
pub(crate) use text::{is_page, shown};
pub(crate) use ureq::http::Method;
