//! What a file that somebody gives holds: its bytes, unpacked, and its text.
//!
//! Everything that is read as text goes through here, so that a byte order mark, UTF-16 or a binary file is
//! treated alike in texts, token ids, questions and settings.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use crate::error::BenchError;

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
    (b"\x93NUMPY", "a NumPy array", "write ids as a JSON array for --ids, and texts as .jsonl"),
    (b"SQLite format 3", "an SQLite database", "write its texts as .jsonl or .csv"),
    (b"{\\rtf", "RTF", "save it as plain text in UTF-8"),
];

/// The bytes of a file; unpacked where its name ends in `.gz` or `.zst`.
///
/// # Errors
///
/// When it cannot be read or unpacked.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, BenchError> {
    let failed = |source| BenchError::Read { path: path.into(), source };
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !(kind.is_file() || kind.is_dir() || is_pipe(kind)) {
        return Err(BenchError::Input(format!(
            "{} is a device or a socket, which may have no end; give a file, or a pipe such as /dev/stdin of one",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let damaged = |e: std::io::Error| {
        BenchError::Input(format!(
            "{}: {e}; expected a whole file of what its name says: fetch or pack it again",
            path.display()
        ))
    };
    let mut unpacked = Vec::new();
    match packing(path) {
        None => return Ok(bytes),
        // Members one after the other are one file, as for gzip itself.
        Some(Packing::Gzip) => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked),
        Some(Packing::Zstd) => {
            zstd::stream::Decoder::new(&bytes[..]).and_then(|mut all| all.read_to_end(&mut unpacked))
        }
    }
    .map_err(damaged)?;
    Ok(unpacked)
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
pub fn read_text(path: &Path) -> Result<String, BenchError> {
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
pub fn decode(mut bytes: Vec<u8>) -> Result<String, String> {
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
