//! Whether bytes are those that were promised.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::listing::Listed;
use super::names::is_hash;

/// The hash that a file must have, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Of its bytes.
    Sha256(String),
    /// Of git's header, `blob`, the length and a zero byte, and its bytes.
    Git(String),
}

impl Checksum {
    /// What is promised about a file: by the list, else by the name of its content where that is a hash as the
    /// hub gives them.
    ///
    /// # Errors
    ///
    /// The hash that is listed, where the name is another.
    pub(super) fn of(listed: &Listed, etag: &str) -> Result<Option<Self>, String> {
        let known = match (listed.sha256(), listed.git()) {
            (Some(hash), _) => Some((hash, 64)),
            (None, Some(hash)) => Some((hash, 40)),
            (None, None) => None,
        };
        match known {
            // A mirror may give names of its own, but none that is a hash of the same kind.
            Some((hash, digits)) if is_hash(etag, digits) && hash != etag => Err(hash.to_owned()),
            Some((hash, 64)) => Ok(Some(Self::Sha256(hash.to_owned()))),
            Some((hash, _)) => Ok(Some(Self::Git(hash.to_owned()))),
            None if is_hash(etag, 64) => Ok(Some(Self::Sha256(etag.to_owned()))),
            None if is_hash(etag, 40) => Ok(Some(Self::Git(etag.to_owned()))),
            None => Ok(None),
        }
    }

    /// Whether `size` bytes have it.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub(super) fn fits(&self, bytes: impl Read, size: u64) -> io::Result<bool> {
        match self {
            Self::Sha256(hash) => Ok(digest::<Sha256>(&[], bytes)? == *hash),
            Self::Git(hash) => Ok(digest::<Sha1>(format!("blob {size}\0").as_bytes(), bytes)? == *hash),
        }
    }
}

fn digest<D: Digest>(header: &[u8], mut bytes: impl Read) -> io::Result<String> {
    let mut state = D::new();
    state.update(header);
    let mut piece = vec![0; 1 << 20];
    loop {
        match bytes.read(&mut piece)? {
            0 => break,
            length => state.update(&piece[..length]),
        }
    }
    Ok(state.finalize().iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin` and `| sha256sum`.
        let git = Checksum::Git("ce013625030ba8dba906f756967f9e9ca394464a".into());
        let sha = Checksum::Sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".into());
        for checksum in [git, sha] {
            assert!(checksum.fits(&b"hello\n"[..], 6).unwrap());
            assert!(!checksum.fits(&b"hellO\n"[..], 6).unwrap());
        }
    }

    #[test]
    fn a_name_that_contradicts_the_list_is_an_error() {
        let (sha, git) = ("b".repeat(64), "c".repeat(40));
        let parse = |text: String| serde_json::from_str::<Listed>(&text).unwrap();
        let large = parse(format!(r#"{{"rfilename":"a","lfs":{{"sha256":"{sha}"}}}}"#));
        let small = parse(format!(r#"{{"rfilename":"a","blobId":"{git}"}}"#));
        let bare = parse(r#"{"rfilename":"a"}"#.into());
        assert_eq!(Checksum::of(&large, "own-name"), Ok(Some(Checksum::Sha256(sha.clone()))));
        assert_eq!(Checksum::of(&large, &"d".repeat(64)), Err(sha.clone()));
        assert_eq!(Checksum::of(&small, &git), Ok(Some(Checksum::Git(git.clone()))));
        assert_eq!(Checksum::of(&small, &"d".repeat(40)), Err(git.clone()));
        assert_eq!(Checksum::of(&bare, &git), Ok(Some(Checksum::Git(git))));
        assert_eq!(Checksum::of(&bare, &sha), Ok(Some(Checksum::Sha256(sha))));
        assert_eq!(Checksum::of(&bare, "own-name"), Ok(None));
    }
}
