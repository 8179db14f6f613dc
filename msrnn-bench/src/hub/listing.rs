//! What the server says a repository holds, and what it says about one file.

use serde::Deserialize;

use super::names::{is_commit, is_hash, is_inside, of_etag};
use crate::http::{Answer, shown};

/// Longest list that is read, in bytes.
pub(super) const LONGEST: usize = 64 << 20;

/// A repository at one commit.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "sha")]
    pub(super) commit: String,
    #[serde(rename = "siblings")]
    files: Vec<Listed>,
}

/// A file as it is listed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "rfilename")]
    pub(super) name: String,
    pub(super) size: Option<u64>,
    /// The hash that git knows it by; of a large file that of its pointer.
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Large>,
}

/// What is known about a file that git does not hold itself.
#[derive(Clone, Debug, Deserialize)]
struct Large {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let listing: Self = serde_json::from_slice(text).map_err(|e| shown(&e.to_string()))?;
        match is_commit(&listing.commit) {
            true => Ok(listing),
            false => Err(format!("{:?} is no commit", shown(&listing.commit))),
        }
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.iter().any(|listed| listed.name == file)
    }

    /// A file, if it is listed once and under a name that may be put on a disk.
    pub(super) fn file(&self, name: &str) -> Option<&Listed> {
        let mut found = self.files.iter().filter(|listed| listed.name == name && is_inside(name));
        let first = found.next();
        first.filter(|_| found.next().is_none())
    }

    /// Names of files that end so, a few at most, as they may be shown.
    pub(super) fn ending(&self, extension: &str) -> Vec<String> {
        let ends = |listed: &&Listed| {
            is_inside(&listed.name) && listed.name.rsplit_once('.').is_some_and(|(_, ending)| ending == extension)
        };
        self.files.iter().filter(ends).take(8).map(|listed| shown(&listed.name)).collect()
    }

    /// How many files there are, and the names of some.
    pub(super) fn examples(&self) -> (usize, String) {
        let some: Vec<String> = self.files.iter().take(8).map(|listed| shown(&listed.name)).collect();
        (self.files.len(), some.join(", "))
    }
}

impl Listed {
    /// The SHA-256 of its bytes, if it is listed.
    pub(super) fn sha256(&self) -> Option<&str> {
        let large = self.lfs.as_ref()?;
        let hash =
            large.sha256.as_deref().or_else(|| large.oid.as_deref().map(|oid| oid.trim_start_matches("sha256:")));
        hash.filter(|hash| is_hash(hash, 64))
    }

    /// The hash that git gives to its bytes, if it is listed.
    pub(super) fn git(&self) -> Option<&str> {
        let blob = self.blob.as_deref().filter(|hash| is_hash(hash, 40));
        blob.filter(|_| self.lfs.is_none())
    }

    /// Its size, if it is listed, and listed once.
    ///
    /// # Errors
    ///
    /// The two sizes, where there are two.
    pub(super) fn size(&self) -> Result<Option<u64>, (u64, u64)> {
        one(self.size, self.lfs.as_ref().and_then(|large| large.size))
    }
}

/// One number out of two that must be equal.
pub(super) fn one(first: Option<u64>, second: Option<u64>) -> Result<Option<u64>, (u64, u64)> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => Err((first, second)),
        _ => Ok(first.or(second)),
    }
}

/// What the server says when it is asked for one file of a commit.
#[derive(Debug)]
pub(super) struct Described {
    /// The name of its content in the cache.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
}

impl Described {
    /// Reads the headers of an answer.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn of(answer: &Answer, commit: &str) -> Result<Self, String> {
        if let Some(other) = answer.header("x-repo-commit").filter(|other| *other != commit) {
            return Err(format!("it is of commit {:?} where {commit} was asked for", shown(other)));
        }
        let header = answer.header("x-linked-etag").or_else(|| answer.header("etag"));
        let header = header.ok_or("its content has no name (a single readable ETag)")?;
        let etag = of_etag(header).ok_or_else(|| {
            format!("its content is called {:?} (ETag), which is no name that may be put on a disk", shown(header))
        })?;
        let number = |name: &str| answer.header(name).and_then(|number| number.trim().parse().ok());
        // What a redirect announces is the length of the redirect.
        let size = number("x-linked-size").or_else(|| number("content-length").filter(|_| answer.status == 200));
        Ok(Self { etag, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &str) -> Result<Listing, String> {
        Listing::parse(format!(r#"{{"sha":"{}","siblings":[{files}]}}"#, "0a".repeat(20)).as_bytes())
    }

    #[test]
    fn a_list_gives_sizes_and_hashes_only_where_they_are_some() {
        let (sha, git) = ("b".repeat(64), "c".repeat(40));
        let found = listing(&format!(
            r#"{{"rfilename":"small","size":3,"blobId":"{git}"}},{{"rfilename":"bare"}},{{"rfilename":"odd","blobId":"../x"}},
               {{"rfilename":"large","size":9,"blobId":"{git}","lfs":{{"sha256":"{sha}","size":9,"pointerSize":130}}}},
               {{"rfilename":"tree","lfs":{{"oid":"{sha}","size":9}}}},{{"rfilename":"two","size":1,"lfs":{{"size":2}}}}"#
        ));
        let found = found.unwrap();
        let of = |name: &str| {
            let listed = found.file(name).unwrap();
            (listed.size(), listed.sha256().is_some(), listed.git().is_some())
        };
        assert_eq!(of("small"), (Ok(Some(3)), false, true));
        assert_eq!(of("bare"), (Ok(None), false, false));
        assert_eq!(of("odd"), (Ok(None), false, false));
        assert_eq!(of("large"), (Ok(Some(9)), true, false));
        assert_eq!(of("tree"), (Ok(Some(9)), true, false));
        assert_eq!(of("two").0, Err((1, 2)));
    }

    #[test]
    fn what_is_no_list_is_refused_and_what_is_listed_twice_is_not_there() {
        for sizes in ["-1", "1e400", "1.5", "99999999999999999999999", "\"3\""] {
            assert!(listing(&format!(r#"{{"rfilename":"a","size":{sizes}}}"#)).is_err(), "{sizes}");
        }
        for text in ["", "[]", "null", "{}", r#"{"sha":"../..","siblings":[]}"#, r#"{"sha":"main","siblings":[]}"#] {
            assert!(Listing::parse(text.as_bytes()).is_err(), "{text}");
        }
        let twice = listing(r#"{"rfilename":"a","size":1},{"rfilename":"a","size":2},{"rfilename":"../b"}"#).unwrap();
        assert!(twice.file("a").is_none() && twice.file("../b").is_none());
    }
}
