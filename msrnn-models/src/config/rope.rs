//! What a configuration says about the rotary embedding, in the spellings of old and new transformers versions.
//!
//! transformers 4 writes `rope_theta` and `rope_scaling`, whose type is under `type`, since 4.43 under `rope_type`
//! too; transformers 5 writes all of it into `rope_parameters`. As transformers 5 reads them: `rope_scaling` wins
//! unless it is null or empty, and a `rope_theta` inside wins over one outside.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{Keys, Said, shown};
use super::limits;

/// Scaling of the rotary frequencies for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every position divided by `factor`.
    Linear {
        /// Ratio of the new context to the old.
        factor: f64,
    },
    /// θ raised with the length of the text, once that is beyond `max_position_embeddings`: neural tangent kernel
    /// scaling, as transformers has it (bloc97, emozilla).
    Dynamic {
        /// How fast θ is raised.
        factor: f64,
    },
    /// Slow frequencies divided by `factor`, fast ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// Ratio of the new context to the old.
        factor: f64,
        /// Pairs that turn less often than this within the original context are slowed down.
        low_freq_factor: f64,
        /// Pairs that turn more often than this within the original context are kept.
        high_freq_factor: f64,
        /// The original context in tokens.
        original_max_position_embeddings: usize,
    },
    /// As Llama 3.1, but blended along the pairs, and queries and keys scaled (Peng et al. 2023, YaRN,
    /// arXiv 2309.00071).
    Yarn {
        /// Ratio of the new context to the old.
        factor: f64,
        /// What rotated queries and keys are multiplied with.
        attention_factor: f64,
        /// Turns within the original context from which on a pair is kept.
        beta_fast: f64,
        /// Turns within the original context down to which a pair is slowed down.
        beta_slow: f64,
        /// Whether the range of pairs that are blended is widened to whole pairs.
        truncate: bool,
        /// The original context in tokens.
        original_max_position_embeddings: usize,
    },
}

/// Keys that are the same for every type.
const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

/// Keys that a type takes, and those that say nothing to it but are found in files of it.
fn taken(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "default" => &[],
        "linear" | "dynamic" => &["factor", "original_max_position_embeddings"],
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        "yarn" => &[
            "factor",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            "original_max_position_embeddings",
            "finetuned",
        ],
        _ => return None,
    })
}

/// θ and the scaling of a configuration whose context is `context` tokens; `theta`: where it names none.
pub(super) fn read(config: Keys<'_>, context: usize, theta: f64) -> Result<(f64, RopeScaling), String> {
    let given = |key: &'static str| {
        let object = config.object(key)?.value();
        Ok::<_, String>(object.filter(|keys| !keys.0.is_empty()).map(|keys| Rope { name: key, keys }))
    };
    let rope = match given("rope_scaling")? {
        Some(rope) => Some(rope),
        None => given("rope_parameters")?,
    };
    let outside = config.number("rope_theta")?;
    let theta = match rope.as_ref().map_or(Ok(Said::Absent), |rope| rope.keys.number("rope_theta"))? {
        Said::Absent => outside.or_default("rope_theta", theta)?,
        inside => inside.or_default("rope_theta", theta)?,
    };
    if !(theta > 1.0 && theta <= limits::THETA) {
        return Err(format!("`rope_theta` is {theta}; it must be above 1 and at most {:e}", limits::THETA));
    }
    for keys in [Some(config), rope.as_ref().map(|rope| rope.keys)].into_iter().flatten() {
        if let Some(part) = keys.number("partial_rotary_factor")?.value().filter(|part| *part != 1.0) {
            return Err(format!(
                "`partial_rotary_factor` is {part}, which is not read: models whose heads rotate all of their channels are; \
                 remove the key if this is one"
            ));
        }
    }
    let outside = config.count("original_max_position_embeddings", limits::CONTEXT)?.value();
    let scaling = rope.map_or(Ok(RopeScaling::None), |rope| rope.scaling(context, outside))?;
    Ok((theta, scaling))
}

/// `rope_scaling` or `rope_parameters`.
struct Rope<'a> {
    name: &'static str,
    keys: Keys<'a>,
}

impl Rope<'_> {
    fn kind(&self) -> Result<&str, String> {
        let name = self.name;
        match (self.keys.text("rope_type")?, self.keys.text("type")?) {
            (Said::Is(new), Said::Is(old)) if new != old => Err(format!(
                "`{name}` has `rope_type` {new:?} and `type` {old:?}, and versions of transformers differ in which \
                 one they take; keep one of them"
            )),
            (Said::Is(kind), _) | (Said::Absent, Said::Is(kind)) => Ok(kind),
            (Said::Null, _) | (_, Said::Null) => {
                Err(format!("the `rope_type` of `{name}` is null; say \"default\" for no scaling"))
            }
            (Said::Absent, Said::Absent) => {
                let nested = self.keys.0.iter().find(|(_, value)| value.is_object());
                if let Some((layers, _)) = nested {
                    return Err(format!(
                        "`{name}` has parameters for layers of type {layers:?}; the layers of the models that are read \
                         share theirs, so write them into `{name}` itself"
                    ));
                }
                match self.keys.0.keys().find(|key| !COMMON.contains(&key.as_str())) {
                    Some(key) => Err(format!(
                        "`{name}` has `{key}` and no `rope_type`, without which transformers scales nothing; add the \
                         type, or remove the rest"
                    )),
                    None => Ok("default"),
                }
            }
        }
    }

    /// `outside`: the original context as the configuration has it beside the rotary parameters.
    fn scaling(&self, context: usize, outside: Option<usize>) -> Result<RopeScaling, String> {
        let (name, kind) = (self.name, self.kind()?);
        let Some(taken) = taken(kind) else {
            let why = match kind {
                "longrope" | "su" => "; its frequencies change for all tokens at once in the middle of a text",
                _ => "",
            };
            return Err(format!(
                "rope scaling type {kind:?} is not supported{why}; supported are \"default\", \"linear\", \"dynamic\", \
                 \"llama3\" and \"yarn\""
            ));
        };
        let unknown = |key: &&String| !COMMON.contains(&key.as_str()) && !taken.contains(&key.as_str());
        if let Some(key) = self.keys.0.keys().filter(|key| self.keys.has(key)).find(unknown) {
            return Err(format!(
                "rope scaling {kind:?} knows no `{key}` (`{name}` says {}), and transformers ignores it; remove the \
                 key, or correct the type",
                shown(&self.keys.0[key])
            ));
        }
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.need("factor")? }),
            "dynamic" => Ok(RopeScaling::Dynamic { factor: self.need("factor")? }),
            "llama3" => {
                let (low_freq_factor, high_freq_factor) =
                    (self.need("low_freq_factor")?, self.need("high_freq_factor")?);
                if high_freq_factor <= low_freq_factor {
                    return Err("rope scaling \"llama3\": `high_freq_factor` must exceed `low_freq_factor`".into());
                }
                Ok(RopeScaling::Llama3 {
                    factor: self.need("factor")?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: self.original(context, outside)?,
                })
            }
            _ => self.yarn(context, outside),
        }
    }

    fn yarn(&self, context: usize, outside: Option<usize>) -> Result<RopeScaling, String> {
        let original = self.original(context, outside)?;
        let factor = match self.keys.number("factor")? {
            Said::Null => context as f64 / original as f64,
            _ => self.need("factor")?,
        };
        let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        // As in transformers, 0 is none.
        let some = |key: &str| Ok::<_, String>(self.positive(key)?.value().filter(|value| *value != 0.0));
        let attention_factor = match (self.keys.has("attention_factor"), some("mscale")?, some("mscale_all_dim")?) {
            (true, _, _) => self.need("attention_factor")?,
            (false, Some(mscale), Some(all)) => scale(mscale) / scale(all),
            _ => scale(1.0),
        };
        let (beta_fast, beta_slow) = (some("beta_fast")?.unwrap_or(32.0), some("beta_slow")?.unwrap_or(1.0));
        if beta_fast < beta_slow {
            return Err(format!(
                "rope scaling \"yarn\": `beta_fast` {beta_fast} must not be below `beta_slow` {beta_slow}"
            ));
        }
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast,
            beta_slow,
            truncate: self.keys.flag("truncate")?.or_default("truncate", true)?,
            original_max_position_embeddings: original,
        })
    }

    /// The original context: what the configuration says beside the rotary parameters, then what they say, then the
    /// context.
    fn original(&self, context: usize, outside: Option<usize>) -> Result<usize, String> {
        const KEY: &str = "original_max_position_embeddings";
        match (self.keys.count(KEY, limits::CONTEXT)?, outside) {
            (Said::Is(inside), Some(outside)) if inside != outside => Err(format!(
                "`{KEY}` is {outside} in the configuration and {inside} in `{}`, and versions of transformers differ \
                 in which one they take; keep one of them",
                self.name
            )),
            (inside, outside) => inside.or_default(KEY, outside.unwrap_or(context)),
        }
    }

    /// A number that is not negative.
    fn positive(&self, key: &str) -> Result<Said<f64>, String> {
        let number = self.keys.number(key)?;
        match number {
            Said::Is(value) if !(value.is_finite() && value >= 0.0) => {
                Err(format!("rope scaling: `{key}` is {value}; it must be positive"))
            }
            number => Ok(number),
        }
    }

    /// A number that must be there and above 0.
    fn need(&self, key: &str) -> Result<f64, String> {
        let kind = self.kind()?;
        match self.positive(key)?.value() {
            Some(value) if value > 0.0 => Ok(value),
            Some(value) => Err(format!("rope scaling {kind:?}: `{key}` is {value}; it must be positive")),
            None => Err(format!("rope scaling {kind:?} needs `{key}`")),
        }
    }
}

impl RopeScaling {
    /// As transformers 4 writes `rope_scaling`.
    pub(super) fn to_json(self) -> Value {
        match self {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Dynamic { factor } => json!({ "rope_type": "dynamic", "factor": factor }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                json!({
                    "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                })
            }
            RopeScaling::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                truncate,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "yarn", "factor": factor, "attention_factor": attention_factor, "beta_fast": beta_fast,
                "beta_slow": beta_slow, "truncate": truncate,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
        }
    }
}
