//! The server that is asked, and what it is told about who asks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::BenchError;
use crate::http::{Address, Credentials};

/// A hub's address, and the credentials that go to its origin alone.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) credentials: Option<Credentials>,
}

impl Endpoint {
    /// Reads an address, which may have a user and password for who has no token.
    ///
    /// # Errors
    ///
    /// When it is no address, or the token cannot be sent. Neither it nor the token is in the message.
    pub(super) fn new(endpoint: &str, token: Option<&str>) -> Result<Self, BenchError> {
        let (login, plain) = split(endpoint);
        let address = Address::parse(&plain).map_err(|why| {
            BenchError::Input(format!(
                "HF_ENDPOINT is not the address of a server ({why}); set it to one such as https://huggingface.co"
            ))
        })?;
        let header = token.map(|token| format!("Bearer {token}")).or_else(|| login.map(|login| basic(&login)));
        let credentials = header.map(|header| {
            Credentials::new(&address, header).ok_or_else(|| {
                BenchError::Input(
                    "the token (HF_TOKEN or `hf auth login`) has signs that no token has; copy it again from \
                     https://huggingface.co/settings/tokens"
                        .into(),
                )
            })
        });
        let credentials = credentials.transpose()?;
        if credentials.is_some() && address.is_in_the_clear() {
            tracing::warn!("{address} is http: the token can be read on the way; use https in HF_ENDPOINT");
        }
        Ok(Self { address, credentials })
    }
}

/// User and password of an address, and the address without them.
fn split(endpoint: &str) -> (Option<String>, String) {
    let Some((scheme, rest)) = endpoint.split_once("://") else { return (None, endpoint.to_owned()) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => (Some(rest[..at].to_owned()), format!("{scheme}://{}", &rest[at + 1..])),
        None => (None, endpoint.to_owned()),
    }
}

fn basic(login: &str) -> String {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let login = [decoded(user), b":".to_vec(), decoded(password)].concat();
    format!("Basic {}", STANDARD.encode(login))
}

/// Percent signs and digits as the bytes they stand for.
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, others @ ..] = rest {
        let pair = others.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &others[2..] } else { others };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for endpoint in
            ["https://me:s3cret@host:8443/hub/", "https://me:s3cret@/", "x://me:s3cret@host", "https://me:s3cret@h h"]
        {
            let shown = match Endpoint::new(endpoint, None) {
                Ok(endpoint) => format!("{endpoint:?} {}", endpoint.address),
                Err(error) => error.to_string(),
            };
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        assert_eq!(Endpoint::new("https://me:x@host/hub/", None).unwrap().address.to_string(), "https://host/hub");
    }

    #[test]
    fn a_token_that_would_break_a_header_is_refused_without_being_shown() {
        for token in ["hf_a\nX-Evil: 1", "hf_\u{e4}", "hf_\0"] {
            let error = Endpoint::new("https://host", Some(token)).unwrap_err().to_string();
            assert!(error.contains("copy it again") && !error.contains("hf_"), "{error}");
        }
    }

    #[test]
    fn user_and_password_are_decoded() {
        // RFC 7617, section 2.
        assert_eq!(basic("Aladdin:open%20sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(decoded("100%"), b"100%");
    }
}
