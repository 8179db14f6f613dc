//! The bytes of one file, from the server into a part on disk, going on where an earlier attempt ended.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::checksum::Checksum;
use super::refusal::Refused;
use super::{Downloads, Progress, space};
use crate::http::{Address, Answer, Client, Credentials, Failure, Request, is_page};

/// Why a file did not come.
#[derive(Debug)]
pub(super) enum Trouble {
    Interrupted,
    /// Another attempt may bring the rest.
    Passing(String),
    /// The server refuses.
    Status(Refused),
    /// What comes is not what was promised.
    Untrue(String),
    /// It does not fit, or cannot be written.
    Disk(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Interrupted => Self::Interrupted,
            Failure::Passing(why) => Self::Passing(why),
            Failure::Refused(why) => Self::Untrue(why),
        }
    }
}

/// What is fetched.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The name, for progress.
    pub(super) file: &'a str,
    pub(super) address: Address,
    pub(super) credentials: Option<&'a Credentials>,
    /// In bytes, if it is known before the first of them comes.
    pub(super) size: Option<u64>,
    pub(super) checksum: Option<Checksum>,
}

/// Brings a part to its whole size, checks it, and puts it safely on disk. The part keeps what has come, except where
/// that has turned out to be something else.
pub(super) fn fetch(
    client: &Client,
    wanted: &Wanted<'_>,
    part: &mut File,
    path: &Path,
    downloads: &Downloads,
) -> Result<u64, Trouble> {
    let before = length(part, path)?;
    let size = match wanted.size {
        Some(size) if before == size && size > 0 => size,
        _ => receive(client, wanted, part, path, downloads)?,
    };
    let written = |part: &mut File| -> io::Result<bool> {
        part.seek(SeekFrom::Start(0))?;
        let fits = match &wanted.checksum {
            Some(checksum) => checksum.fits(&mut *part, size)?,
            None => true,
        };
        part.sync_all()?;
        Ok(fits)
    };
    match written(part).map_err(|e| disk(path, &e))? {
        true => Ok(size),
        false => {
            empty(part, path)?;
            let why = "its bytes are not those that its hash promises";
            // What was there before may be what is wrong.
            Err(if before > 0 { Trouble::Passing(why.into()) } else { Trouble::Untrue(why.into()) })
        }
    }
}

/// The rest of a file. Returns its size.
fn receive(
    client: &Client,
    wanted: &Wanted<'_>,
    part: &mut File,
    path: &Path,
    downloads: &Downloads,
) -> Result<u64, Trouble> {
    let mut have = length(part, path)?;
    // Without a size nothing says that what is there is a beginning of it.
    if wanted.size.is_none_or(|size| have > size) {
        have = empty(part, path)?;
    }
    if let Some(size) = wanted.size {
        fits(path, size, have)?;
    }
    let mut request = Request::get(&wanted.address, wanted.credentials);
    if have > 0 {
        request.headers.push(("Range", format!("bytes={have}-")));
    }
    let mut answer = client.send(request, downloads.interrupt)?;
    let size = match (answer.status, have) {
        (200, _) => {
            let size = size_of(&answer, wanted.size)?;
            if have > 0 {
                // All of it, where the rest was asked for.
                have = empty(part, path)?;
            }
            fits(path, size, 0)?;
            size
        }
        (206, 1..) => match (wanted.size, range(&answer)) {
            (Some(size), Some((start, end, total)))
                if start == have && end < size && total.is_none_or(|total| total == size) =>
            {
                size
            }
            _ => {
                empty(part, path)?;
                return Err(Trouble::Passing("another range came than was asked for".into()));
            }
        },
        (206, 0) => return Err(Trouble::Untrue("a part of it came where all of it was asked for".into())),
        (416, 1..) => {
            empty(part, path)?;
            return Err(Trouble::Passing("the server has no more of it than is here".into()));
        }
        _ => return Err(Trouble::Status(Refused::of(&answer))),
    };
    part.seek(SeekFrom::Start(have)).map_err(|e| disk(path, &e))?;
    while let Some(piece) = answer.next(downloads.interrupt)? {
        if piece.len() as u64 > size - have {
            empty(part, path)?;
            return Err(Trouble::Untrue(page_or(&answer, &piece, format!("more bytes come than its {size}"))));
        }
        part.write_all(&piece).map_err(|e| disk(path, &e))?;
        have += piece.len() as u64;
        (downloads.advance)(&Progress { file: wanted.file, done: have, size });
    }
    match have == size {
        true => Ok(size),
        false => Err(Trouble::Passing(format!("it ended after {have} of {size} bytes"))),
    }
}

/// The size of a whole file, which must be known before a byte of it is written.
fn size_of(answer: &Answer, known: Option<u64>) -> Result<u64, Trouble> {
    match (known, answer.length()) {
        (Some(known), Some(announced)) if known != announced => {
            let why = format!("{announced} bytes are announced where {known} were listed");
            Err(Trouble::Untrue(page_or(answer, b"", why)))
        }
        (Some(size), _) | (None, Some(size)) => Ok(size),
        (None, None) => Err(Trouble::Untrue("nothing says how many bytes it has".into())),
    }
}

/// A reason, or the better one that a page came.
fn page_or(answer: &Answer, beginning: &[u8], why: String) -> String {
    match is_page(answer, beginning) {
        true => format!("a web page came (HTML) in its place, as from a login or a proxy; {why}"),
        false => why,
    }
}

/// First and last byte and the total of a `Content-Range`; no total where the server does not know it.
fn range(answer: &Answer) -> Option<(u64, u64, Option<u64>)> {
    let text = answer.header("content-range")?.trim().strip_prefix("bytes ")?;
    let (range, total) = text.trim().split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, end.parse().ok()?, total))
}

/// Whether the rest of a file fits onto the disk.
fn fits(path: &Path, size: u64, have: u64) -> Result<(), Trouble> {
    let directory = path.parent().unwrap_or(path);
    let (rest, free) = (size.saturating_sub(have), space::free(directory));
    match free {
        Some(free) if free < rest => Err(Trouble::Disk(format!(
            "it needs {rest} more bytes where {} has {free} free; free some space, or set HF_HUB_CACHE to a directory on \
             another disk",
            directory.display()
        ))),
        _ => Ok(()),
    }
}

fn length(part: &File, path: &Path) -> Result<u64, Trouble> {
    part.metadata().map(|found| found.len()).map_err(|e| disk(path, &e))
}

/// Throws away what has come. Returns 0.
fn empty(part: &File, path: &Path) -> Result<u64, Trouble> {
    part.set_len(0).map(|()| 0).map_err(|e| disk(path, &e))
}

fn disk(path: &Path, error: &io::Error) -> Trouble {
    Trouble::Disk(format!(
        "{} cannot be written ({error}); see that its disk has space, or set HF_HUB_CACHE to another directory",
        path.display()
    ))
}
