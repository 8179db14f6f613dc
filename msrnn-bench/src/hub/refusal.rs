//! What a server's refusal means, and what to do.

use super::Repository;
use crate::http::Answer;

/// A status that is no success, with the hub's own name for the reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// `X-Error-Code`: `RepoNotFound`, `GatedRepo`, `RevisionNotFound`.
    pub(super) code: String,
}

impl Refused {
    pub(super) fn of(answer: &Answer) -> Self {
        Self { status: answer.status, code: answer.header("x-error-code").unwrap_or_default().into() }
    }

    /// Whether the same request may be answered another time.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..)
    }
}

/// The message for a repository, or for one of its files. `page` is where people look at it.
pub(super) fn message(
    repository: &Repository,
    file: Option<&str>,
    page: &str,
    token: bool,
    refused: &Refused,
) -> String {
    let what = file.map_or_else(|| repository.to_string(), |file| format!("{file} of {repository}"));
    let Refused { status, code } = refused;
    let login = match token {
        true => "the token that was sent (HF_TOKEN or `hf auth login`) has no access to it",
        false => "no token was sent; make one at https://huggingface.co/settings/tokens and set HF_TOKEN",
    };
    match (*status, code.as_str()) {
        (_, "GatedRepo") | (403, _) => {
            format!("{what} is gated: ask for access at {page}; {login} (status {status})")
        }
        (_, "RevisionNotFound") => {
            format!("{page} has no revision {:?}; look at its branches, tags and commits there", repository.revision)
        }
        (404, "EntryNotFound") => format!("{what} is not there; look at {page}"),
        (401 | 404, _) => format!(
            "{what}: there is no such directory on this machine, and at {page} it does not exist, is private, or is \
             gated; check the name and revision; {login} (status {status})"
        ),
        (429, _) => format!("{what}: too many requests; wait some minutes, or set HF_TOKEN (status 429)"),
        _ => format!("{what}: the server at {page} failed (status {status}); try again later"),
    }
}
