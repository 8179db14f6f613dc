//! What a file that somebody gives holds: its bytes, unpacked, and its text.
//!
//! Everything that is read as text goes through here, so that a byte order mark, UTF-16 or a binary file is
//! treated alike in texts, token ids, questions and settings.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::BenchError;
use crate::memory;

/// U+FEFF in UTF-8, which editors on Windows put before a text. It is no part of it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How files begin that are no text, and what they are. The first that fits counts.
const BEGINNINGS: [(&[u8], &str, &str); 19] = [
    (b"\xff\xfe\0\0", "UTF-32", "convert it, for example with `iconv -f UTF-32 -t UTF-8`"),
    (b"\0\0\xfe\xff", "UTF-32", "convert it, for example with `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe", "UTF-16", "convert it, for example with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "UTF-16", "convert it, for example with `iconv -f UTF-16 -t UTF-8`"),
    (b"\x1f\x8b", "gzip", "give it a name that ends in .gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "give it a name that ends in .zst"),
    (b"PAR1", "parquet", "give it a name that ends in .parquet"),
    (b"PK\x03\x04", "a zip archive", "unpack it and give the files in it"),
    (b"PK\x05\x06", "an empty zip archive", "give a text"),
    (b"\xfd7zXZ\0", "xz", "unpack it with `xz -d`"),
    (b"BZh", "bzip2", "unpack it with `bunzip2`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and give the files in it"),
    (b"%PDF-", "PDF", "take the text out of it, for example with pdftotext"),
    (b"ARROW1", "Arrow", "write it as .parquet or .jsonl"),
    (b"GGUF", "a GGUF model", "give a text"),
    (b"\x89HDF", "HDF5", "write its texts as .jsonl"),
    (b"\x93NUMPY", "a NumPy array", "write ids as a JSON array for ‘ids’, and texts as .jsonl"),
    (b"SQLite format 3", "an SQLite database", "write its texts as .jsonl or .csv"),
    (b"{\\rtf", "RTF", "save it as plain text in UTF-8"),
];

/// The bytes of a file; unpacked where its name ends in `.gz` or `.zst`.
///
/// # Errors
///
/// When it cannot be read or unpacked, or is, or unpacks to, more than the memory at hand allows for.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, BenchError> {
    let failed = |source| BenchError::Read { path: path.into(), source };
    let found = std::fs::metadata(path).map_err(failed)?;
    let kind = found.file_type();
    if !(kind.is_file() || kind.is_dir() || is_pipe(kind)) {
        return Err(BenchError::Input(format!(
            "{} is a device or a socket, which may have no end; give a file, or a pipe such as /dev/stdin of one",
            path.display()
        )));
    }
    let file = File::open(path).map_err(failed)?;
    let packing = packing(path);
    // Small files are read without asking how much memory there is.
    let limit = if packing.is_none() && found.len() <= memory::SMALL && kind.is_file() {
        memory::SMALL
    } else {
        memory::for_texts()
    };
    let whole = |claimed| {
        let does = if packing.is_some() { "unpacks to" } else { "holds" };
        all_of(claimed, &file, path, packing, limit)?.ok_or_else(|| {
            memory::beyond(
                limit,
                &format!("{} {does}", path.display()),
                "cut it into smaller files, or take a part of it",
            )
        })
    };
    match packing {
        None => whole(found.len()),
        Some(_) => whole(0),
    }
}

/// The bytes of a file, unpacked; none where they are more than `limit`. `claimed`: how many they are said to be.
fn all_of(
    claimed: u64,
    file: &File,
    path: &Path,
    packing: Option<Packing>,
    limit: u64,
) -> Result<Option<Vec<u8>>, BenchError> {
    let damaged = |e: std::io::Error| {
        BenchError::Input(format!(
            "{}: {e}; expected a whole file of what its name says: fetch or pack it again",
            path.display()
        ))
    };
    match packing {
        None => {
            let failed = |source| BenchError::Read { path: path.into(), source };
            up_to(file, claimed, limit).map_err(failed)
        }
        // Members one after the other are one file, as for gzip itself.
        Some(Packing::Gzip) => {
            up_to(flate2::bufread::MultiGzDecoder::new(BufReader::new(file)), 0, limit).map_err(damaged)
        }
        Some(Packing::Zstd) => zstd::stream::Decoder::new(file).and_then(|all| up_to(all, 0, limit)).map_err(damaged),
    }
}

/// All bytes there are, if they are no more than `limit`. Room is made for those that are `claimed`, and then for no more
/// than half as much again as have come.
fn up_to(mut from: impl Read, claimed: u64, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    const STEP: usize = 64 << 10;
    if claimed > limit {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // One more than there are, so that the end is seen without growing.
    bytes.try_reserve_exact(usize::try_from(claimed).unwrap_or(usize::MAX).saturating_add(1))?;
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.try_reserve_exact((bytes.len() / 2).max(STEP))?;
        }
        let room = (bytes.capacity() - bytes.len()).min(16 * STEP);
        match (&mut from).take(room as u64).read_to_end(&mut bytes)? {
            0 => return Ok(Some(bytes)),
            _ if bytes.len() as u64 > limit => return Ok(None),
            _ => {}
        }
    }
}

/// Whether something ends when its writer ends, as standard input from another command.
fn is_pipe(kind: std::fs::FileType) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::FileTypeExt::is_fifo(&kind);
    #[cfg(not(unix))]
    {
        let _ = kind;
        false
    }
}

/// The text of a file in UTF-8, without a byte order mark; unpacked where its name ends in `.gz` or `.zst`.
///
/// # Errors
///
/// When it cannot be read or unpacked, is empty, or is no text in UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, BenchError> {
    let text = decode(read_bytes(path)?).map_err(|what| BenchError::Input(format!("{}: {what}", path.display())))?;
    match text.is_empty() {
        true => Err(BenchError::Input(format!("{}: the file is empty; give a text", path.display()))),
        false => Ok(text),
    }
}

/// Bytes as UTF-8, without a byte order mark.
///
/// # Errors
///
/// Says what the bytes are instead, and the remedy.
pub(crate) fn decode(mut bytes: Vec<u8>) -> Result<String, String> {
    if let Some((_, what, remedy)) = BEGINNINGS.iter().find(|(beginning, ..)| bytes.starts_with(beginning)) {
        return Err(format!("this is {what}, no text in UTF-8; {remedy}"));
    }
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(format!(
            "byte {at} is 0, so this is no text in UTF-8 but a binary file, or UTF-16 without a mark; give a text, or \
             convert it, for example with `iconv -f UTF-16LE -t UTF-8`"
        ));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        format!("not UTF-8 at byte {at}; convert it first, for example with iconv")
    })
}

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Zstd,
}

/// How a file is packed, by its name.
pub(crate) fn packing(path: &Path) -> Option<Packing> {
    match path.extension().and_then(OsStr::to_str)?.to_ascii_lowercase().as_str() {
        "gz" => Some(Packing::Gzip),
        "zst" => Some(Packing::Zstd),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text_and_only_the_first_goes() {
        let marked = |text: &str| decode([MARK, text.as_bytes()].concat()).unwrap();
        assert_eq!(marked("a"), "a");
        assert_eq!(marked("\u{feff}a\u{feff}"), "\u{feff}a\u{feff}");
        assert_eq!(decode(MARK.to_vec()).unwrap(), "");
    }

    #[test]
    fn utf_16_is_refused_with_its_remedy_whether_marked_or_not() {
        let units = |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        for bytes in [units("\u{feff}Once", u16::to_le_bytes), units("\u{feff}Once", u16::to_be_bytes)] {
            let error = decode(bytes).unwrap_err();
            assert!(error.contains("UTF-16") && error.contains("iconv -f UTF-16 -t UTF-8"), "{error}");
        }
        let error = decode(units("Once", u16::to_le_bytes)).unwrap_err();
        assert!(error.contains("UTF-16 without a mark") && error.contains("iconv"), "{error}");
    }

    #[test]
    fn every_beginning_is_refused_as_what_it_is() {
        for (beginning, what, remedy) in BEGINNINGS {
            let error = decode([beginning, b" and more"].concat()).unwrap_err();
            assert!(error.contains(what) && error.contains(remedy), "{error}");
        }
    }

    /// A reader of so many bytes that counts how many were asked for.
    struct Zeros<'c>(u64, &'c std::cell::Cell<u64>);

    impl Read for Zeros<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = (buffer.len() as u64).min(self.0) as usize;
            buffer[..n].fill(0);
            self.0 -= n as u64;
            self.1.set(self.1.get() + n as u64);
            Ok(n)
        }
    }

    #[test]
    fn no_more_is_read_than_a_limit_allows_whatever_is_claimed() {
        for length in [0, 1, 65_535, 65_536, 65_537, 300_000] {
            for claimed in [0, length / 2, length, length + 9] {
                let read = std::cell::Cell::new(0);
                let all = up_to(Zeros(length, &read), claimed, 400_000).unwrap().unwrap();
                assert_eq!(all.len() as u64, length);
                assert!(all.capacity() as u64 <= claimed.max(length + length / 2) + 70_000, "{length}, {claimed}");
            }
        }
        let read = std::cell::Cell::new(0);
        assert_eq!(up_to(Zeros(u64::MAX, &read), 0, 400_000).unwrap(), None);
        assert!(read.get() < 1_500_000, "{}", read.get());
        assert_eq!(up_to(Zeros(5, &read), 400_001, 400_000).unwrap(), None);
        assert_eq!(up_to(Zeros(400_000, &read), 0, 400_000).unwrap().unwrap().len(), 400_000);
    }

    #[test]
    fn packed_files_are_what_was_packed_and_damaged_ones_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let text = "Once upon a time.\n".repeat(50);
        let (half, rest) = text.split_at(400);
        let packed = gzip(text.as_bytes());
        for path in [
            file("a.txt.gz", &packed),
            file("members.txt.GZ", &[gzip(half.as_bytes()), gzip(rest.as_bytes())].concat()),
            file("a.txt.zst", &zstd::stream::encode_all(text.as_bytes(), 1).unwrap()),
        ] {
            assert_eq!(read_text(&path).unwrap(), text, "{}", path.display());
        }
        for (path, says) in [
            (file("cut.txt.gz", &packed[..packed.len() - 9]), "whole file"),
            (file("plain.txt.gz", text.as_bytes()), "whole file"),
            (file("twice.txt.gz", &gzip(&packed)), "this is gzip"),
            (file("empty.txt.gz", &gzip(b"")), "empty"),
            (file("named.txt", &packed), "ends in .gz"),
        ] {
            let error = read_text(&path).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}
