//! What the environment says about the hub, read as `huggingface_hub` reads it (`constants.py`, `_auth.py`).
//!
//! A variable that is set to nothing counts as absent, where Hugging Face's programs would take some of them for
//! the current directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Hub, Patience};
use crate::error::BenchError;

/// Variables by name.
type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Hub {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// When there is no home directory to put a cache into, or a variable cannot be read.
    pub fn from_env() -> Result<Self, BenchError> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// As some variables say.
    ///
    /// # Errors
    ///
    /// As [`Hub::from_env`].
    pub fn from_variables(variables: Variables<'_>) -> Result<Self, BenchError> {
        let variable = |name: &str| -> Result<Option<String>, BenchError> {
            let value = variables(name).map(OsString::into_string).transpose();
            let value = value.map_err(|_| BenchError::Input(format!("{name} is not UTF-8; set it to text")))?;
            Ok(value.filter(|value| !value.trim().is_empty()))
        };
        let home = || -> Result<String, BenchError> {
            let absent = || BenchError::Input("there is no home directory for the cache of models; set HF_HOME".into());
            if let Some(home) = variable("HOME")? {
                return Ok(home);
            }
            let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).ok_or_else(absent)?;
            home.into_os_string().into_string().map_err(|_| absent())
        };
        let expand = |name: &str, path: &str| -> Result<String, BenchError> {
            let path = match path.strip_prefix('~') {
                None => path.to_owned(),
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    format!("{}{rest}", home()?.trim_end_matches('/'))
                }
                Some(_) => {
                    return Err(BenchError::Input(format!(
                        "{name} is {path:?}, in the home of another user; write that directory in full"
                    )));
                }
            };
            Ok(substituted(&path, &|name| variables(name)?.into_string().ok()))
        };

        let home_of_hub = match variable("HF_HOME")? {
            Some(home) => expand("HF_HOME", &home)?,
            None => match variable("XDG_CACHE_HOME")? {
                Some(caches) => expand("XDG_CACHE_HOME", &join(&caches, "huggingface"))?,
                None => expand("HOME", &join(&home()?, ".cache/huggingface"))?,
            },
        };
        let cache = match variable("HF_HUB_CACHE")? {
            Some(cache) => cache,
            None => variable("HUGGINGFACE_HUB_CACHE")?.unwrap_or_else(|| join(&home_of_hub, "hub")),
        };
        let cache = PathBuf::from(expand("HF_HUB_CACHE", &cache)?);

        let token = match is_true(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN")?.as_deref()) {
            true => None,
            false => {
                let named = match variable("HF_TOKEN")? {
                    Some(token) => Some(token),
                    None => variable("HUGGING_FACE_HUB_TOKEN")?,
                };
                match named.as_deref().and_then(cleaned) {
                    Some(token) => Some(token),
                    None => {
                        let file = variable("HF_TOKEN_PATH")?.unwrap_or_else(|| join(&home_of_hub, "token"));
                        fs::read_to_string(expand("HF_TOKEN_PATH", &file)?).ok().as_deref().and_then(cleaned)
                    }
                }
            }
        };
        let offline = match variable("HF_HUB_OFFLINE")? {
            Some(value) => Some(value),
            None => variable("TRANSFORMERS_OFFLINE")?,
        };
        let endpoint = variable("HF_ENDPOINT")?.unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self { endpoint, cache, token, offline: is_true(offline.as_deref()), patience: Patience::default() })
    }
}

fn join(directory: &str, name: &str) -> String {
    Path::new(directory).join(name).to_string_lossy().into_owned()
}

/// The spellings of true in Hugging Face's variables.
fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

/// A token without the line ends and spaces that come with copying one.
fn cleaned(token: &str) -> Option<String> {
    let token = token.replace(['\r', '\n'], "").trim().to_owned();
    (!token.is_empty()).then_some(token)
}

/// A path with `$NAME` and `${NAME}` replaced as Python's `os.path.expandvars` does: what is not set stays as it is.
fn substituted(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut done, mut rest) = (String::new(), path);
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = match after.strip_prefix('{').and_then(|inner| inner.find('}').map(|end| &inner[..end])) {
            Some(name) => (name, name.len() + 2),
            None => {
                let end = after.find(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_').unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match variable(name).filter(|_| !name.is_empty() && !name.contains(['=', '\0'])) {
            Some(value) => done.push_str(&value),
            None => done.push_str(&rest[at..at + 1 + length]),
        }
        rest = &after[length..];
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Result<Hub, BenchError> {
        Hub::from_variables(&|name| {
            variables.iter().chain(&[("HOME", "/home/me")]).find(|(known, _)| *known == name).map(|(_, v)| v.into())
        })
    }

    #[test]
    fn homes_and_variables_are_expanded_in_paths() {
        let cache = |variables: &[(&str, &str)]| hub(variables).unwrap().cache.to_str().unwrap().to_owned();
        assert_eq!(cache(&[]), "/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[("HF_HOME", "~/hf")]), "/home/me/hf/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "~/c")]), "/home/me/c/huggingface/hub");
        assert_eq!(cache(&[("HF_HUB_CACHE", "${DISK}/$USER.x/$no/$"), ("DISK", "/d"), ("USER", "u")]), "/d/u.x/$no/$");
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/hf")]), "/old");
        assert_eq!(cache(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/new");
        assert_eq!(cache(&[("HF_HOME", " ")]), "/home/me/.cache/huggingface/hub");
        let error = hub(&[("HF_HOME", "~you/hf")]).unwrap_err().to_string();
        assert!(error.contains("in full"), "{error}");
    }

    #[test]
    fn offline_and_the_token_follow_hugging_faces_precedence() {
        let offline = |variables: &[(&str, &str)]| hub(variables).unwrap().offline;
        for value in ["1", "on", "Yes", "TRUE"] {
            assert!(offline(&[("HF_HUB_OFFLINE", value)]) && offline(&[("TRANSFORMERS_OFFLINE", value)]), "{value}");
        }
        assert!(!offline(&[("HF_HUB_OFFLINE", "y")]) && !offline(&[]));
        assert!(!offline(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]), "the first that is set decides");
        let token = |variables: &[(&str, &str)]| hub(variables).unwrap().token;
        assert_eq!(token(&[("HF_TOKEN", " a\r\n"), ("HUGGING_FACE_HUB_TOKEN", "b")]).as_deref(), Some("a"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "b")]).as_deref(), Some("b"));
        assert_eq!(token(&[("HF_TOKEN", "a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("t"), "from-file\n").unwrap();
        let path = place.path().to_str().unwrap();
        assert_eq!(token(&[("HF_TOKEN_PATH", "$PLACE/t"), ("PLACE", path)]).as_deref(), Some("from-file"));
        fs::write(place.path().join("token"), "of-home").unwrap();
        assert_eq!(token(&[("HF_HOME", path)]).as_deref(), Some("of-home"));
    }
}
