//! Files made for what is said about them: headers, configurations, vocabularies.

use super::header::{Header, Refusal};
use super::write::{Announced, Entry, filler, header};
use super::*;
use crate::config::{Architecture, RopeScaling};
use msrnn_core::kernels::Format;

type Entries = Vec<(String, Entry)>;

/// A Llama of no layer's worth.
fn llama() -> Entries {
    of("llama")
}

/// The same of another architecture.
fn of(architecture: &str) -> Entries {
    let count = |key: &str, count| (format!("{architecture}.{key}"), Entry::U32(count));
    vec![
        ("general.architecture".into(), Entry::Text(architecture.into())),
        count("context_length", 64),
        count("embedding_length", 32),
        count("block_count", 1),
        count("feed_forward_length", 48),
        count("attention.head_count", 4),
        count("vocab_size", 10),
        (format!("{architecture}.attention.layer_norm_rms_epsilon"), Entry::F32(0.5)),
    ]
}

fn set(mut entries: Entries, key: &str, value: Entry) -> Entries {
    entries.retain(|(known, _)| known != key);
    entries.push((key.into(), value));
    entries
}

fn tensor(name: &str, shape: &[usize]) -> Announced {
    Announced { name: name.into(), shape: shape.to_vec(), format: Format::F32 }
}

/// The bytes of a file whose tensors are `data`, or zeros where that is shorter.
fn file(entries: &Entries, tensors: &[Announced], data: &[f32]) -> Vec<u8> {
    let mut bytes = header(entries, tensors);
    let begin = bytes.len();
    let size: usize = tensors.iter().map(|tensor| tensor.size() + filler(tensor.size())).sum();
    bytes.extend(data.iter().flat_map(|value| value.to_le_bytes()));
    bytes.resize(begin + size, 0);
    bytes
}

fn config_of(bytes: &[u8]) -> Result<(ModelConfig, Vec<String>), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::open(&path).and_then(|gguf| gguf.config()).map_err(|error| error.to_string())
}

#[test]
fn a_configuration_is_what_the_keys_say_and_what_llama_cpp_takes_where_they_say_nothing() {
    let config = |entries: Entries| config_of(&file(&entries, &[], &[])).unwrap().0;
    let plain = config(llama());
    assert_eq!((plain.kv_heads, plain.head_dim, plain.rope_theta), (4, 8, 10_000.0));
    assert_eq!((plain.tie_word_embeddings, plain.attention_bias, plain.sliding_window), (true, false, None));
    assert_eq!((plain.architecture, plain.rope_scaling), (Architecture::LlamaForCausalLM, RopeScaling::None));
    assert_eq!(plain.rms_norm_eps, 0.5);

    let wide =
        set(set(llama(), "llama.attention.key_length", Entry::U32(16)), "llama.attention.value_length", Entry::U32(16));
    assert_eq!(config(wide).head_dim, 16);
    let window = config(set(llama(), "llama.attention.sliding_window", Entry::U32(24)));
    assert_eq!((window.architecture, window.sliding_window), (Architecture::MistralForCausalLM, Some(24)));
    let groups = config(set(llama(), "llama.attention.head_count_kv", Entry::I32s(vec![2, 2])));
    assert_eq!(groups.kv_heads, 2);
    let linear = set(llama(), "llama.rope.scaling.factor", Entry::F32(4.0));
    assert_eq!(config(linear).rope_scaling, RopeScaling::Linear { factor: 4.0 });
    let old = set(llama(), "llama.rope.scale_linear", Entry::F32(2.0));
    assert_eq!(config(old).rope_scaling, RopeScaling::Linear { factor: 2.0 });
    let none = set(
        set(llama(), "llama.rope.scaling.factor", Entry::F32(4.0)),
        "llama.rope.scaling.type",
        Entry::Text("none".into()),
    );
    assert_eq!(config(none).rope_scaling, RopeScaling::None);
    let yarn = set(
        set(llama(), "llama.rope.scaling.factor", Entry::F32(4.0)),
        "llama.rope.scaling.type",
        Entry::Text("yarn".into()),
    );
    let yarn = set(yarn, "llama.rope.scaling.original_context_length", Entry::U32(16));
    let RopeScaling::Yarn {
        factor,
        attention_factor,
        beta_fast,
        beta_slow,
        truncate,
        original_max_position_embeddings,
    } = config(yarn).rope_scaling
    else {
        panic!("it is yarn")
    };
    assert_eq!((factor, beta_fast, beta_slow, truncate, original_max_position_embeddings), (4.0, 32.0, 1.0, true, 16));
    assert!((attention_factor - (0.1 * 4.0f64.ln() + 1.0)).abs() < 1e-12);

    let head = config_of(&file(&llama(), &[tensor("output.weight", &[10, 32])], &[])).unwrap().0;
    assert!(!head.tie_word_embeddings);
    let bias = config_of(&file(&llama(), &[tensor("blk.0.attn_k.bias", &[32])], &[])).unwrap().0;
    assert!(bias.attention_bias && !bias.mlp_bias);
    let mut without = llama();
    without.retain(|(key, _)| key != "llama.vocab_size");
    let rows = config_of(&file(&without, &[tensor("token_embd.weight", &[7, 32])], &[])).unwrap().0;
    assert_eq!(rows.vocab_size, 7);
    let tokens = set(without, "tokenizer.ggml.tokens", Entry::Texts(vec!["a".into(), "b".into()]));
    assert_eq!(config(tokens).vocab_size, 2);
}

#[test]
fn what_makes_another_model_is_refused_by_its_key_and_what_is_unknown_is_said() {
    for (key, value, words) in [
        (
            "general.architecture",
            Entry::Text("qwen2moe".into()),
            "\"qwen2moe\" is not read from GGUF files; read are llama, qwen2",
        ),
        ("general.architecture", Entry::Text("x".repeat(10_000)), "xxx\" …"),
        ("general.architecture", Entry::U32(3), "expected a text"),
        ("llama.expert_count", Entry::U32(8), "mixture of 8 experts"),
        ("llama.attention.causal", Entry::Flag(false), "not causal"),
        ("llama.attention.scale", Entry::F32(0.1), "`llama.attention.scale` is 0.1"),
        ("llama.logit_scale", Entry::F32(0.5), "llama.logit_scale"),
        ("llama.attention.head_count_kv", Entry::I32s(vec![2, 4]), "another number in every layer"),
        ("llama.attention.head_count_kv", Entry::I32s(vec![]), "another number"),
        ("llama.attention.head_count_kv", Entry::U32(3), "num_key_value_heads"),
        ("llama.embedding_length", Entry::F32(32.0), "expected a whole number"),
        ("llama.embedding_length", Entry::U32(u32::MAX), "beyond reason"),
        ("llama.block_count", Entry::U32(0), "must be positive"),
        ("llama.attention.layer_norm_rms_epsilon", Entry::F32(f32::NAN), "rms_norm_eps"),
        ("llama.rope.scaling.type", Entry::Text("longrope".into()), "\"longrope\""),
        ("llama.rope.freq_base", Entry::F32(-1.0), "rope_theta"),
    ] {
        let error = config_of(&file(&set(llama(), key, value), &[], &[])).unwrap_err();
        assert!(error.contains(words) && error.contains("model.gguf") && error.len() < 1000, "{key}: {error}");
    }
    let partial =
        set(set(llama(), "llama.attention.key_length", Entry::U32(8)), "llama.rope.dimension_count", Entry::U32(4));
    assert!(config_of(&file(&partial, &[], &[])).unwrap_err().contains("4 of 8 channels"));
    for (key, _) in llama().iter().filter(|(key, _)| key != "llama.vocab_size") {
        let mut entries = llama();
        entries.retain(|(known, _)| known != key);
        let error = config_of(&file(&entries, &[], &[])).unwrap_err();
        assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
    }
    let (_, notes) = config_of(&file(&set(llama(), "llama.novelty", Entry::U32(1)), &[], &[])).unwrap();
    assert!(matches!(&notes[..], [note] if note.contains("`llama.novelty`")), "{notes:?}");
}

#[test]
fn other_architectures_are_read_by_their_own_keys_and_where_they_say_nothing_as_llama_cpp_reads_them() {
    let config = |entries: &Entries| config_of(&file(entries, &[], &[])).unwrap().0;
    for (name, architecture) in [
        ("qwen2", Architecture::Qwen2ForCausalLM),
        ("qwen3", Architecture::Qwen3ForCausalLM),
        ("smollm3", Architecture::SmolLM3ForCausalLM),
        ("phi3", Architecture::Phi3ForCausalLM),
        ("granite", Architecture::GraniteForCausalLM),
    ] {
        let plain = config(&of(name));
        assert_eq!(plain.architecture, architecture);
        // Not what the class in transformers has: heads of 128 channels, 32 or 4 KV heads, other θ, a BOS.
        assert_eq!((plain.kv_heads, plain.head_dim, plain.rope_theta), (4, 8, 10_000.0), "{name}");
        assert_eq!((plain.bos_token_id, plain.eos_token_ids.len()), (None, 0), "{name}");
        assert_eq!((plain.attention_bias, plain.output_bias), (name == "qwen2", false), "{name}");
        assert_eq!((plain.head_norms, plain.fused), (name == "qwen3", name == "phi3"), "{name}");
        assert!((plain.attention_scale() - 8f64.sqrt().recip()).abs() < 1e-15, "{name}");
        let partial = set(of(name), &format!("{name}.rope.dimension_count"), Entry::U32(6));
        let error = config_of(&file(&partial, &[], &[])).unwrap_err();
        assert!(error.contains("6 of 8 channels") && error.contains(&format!("`{name}.rope.")), "{error}");
        let window = set(of(name), &format!("{name}.attention.sliding_window"), Entry::U32(24));
        match config_of(&file(&window, &[], &[])) {
            Ok((window, _)) => assert_eq!((name, window.sliding_window), ("phi3", Some(24))),
            Err(error) => assert!(name != "phi3" && error.contains("in which layers"), "{error}"),
        }
        let scaled = set(of(name), &format!("{name}.attention.scale"), Entry::F32(0.25));
        match config_of(&file(&scaled, &[], &[])) {
            Ok((scaled, _)) => assert_eq!((name, scaled.attention_scale()), ("granite", 0.25)),
            Err(error) => assert!(name != "granite" && error.contains(&format!("`{name}.attention.scale`")), "{error}"),
        }
        let experts = set(of(name), &format!("{name}.expert_count"), Entry::U32(8));
        assert!(config_of(&file(&experts, &[], &[])).unwrap_err().contains(&format!("`{name}.expert_count`")));
        let missing: Entries = of(name).into_iter().filter(|(key, _)| !key.ends_with("block_count")).collect();
        assert!(
            config_of(&file(&missing, &[], &[])).unwrap_err().contains(&format!("`{name}.block_count` is missing"))
        );
        // Keys of another architecture say nothing.
        let other = set(of(name), "llama.attention.scale", Entry::F32(0.25));
        assert_eq!(config(&other), config(&of(name)));
    }
    let layers = config(&set(of("smollm3"), "smollm3.block_count", Entry::U32(6)));
    assert_eq!(layers.rotated.list(6), [true, true, true, false, true, true]);
    let factors = ["embedding_scale", "residual_scale", "logit_scale"];
    let granite = factors.iter().fold(of("granite"), |entries, key| {
        set(entries, &format!("granite.{key}"), Entry::F32(if *key == "logit_scale" { 8.0 } else { 0.5 }))
    });
    let scales = config(&granite).scales;
    assert_eq!((scales.embedding, scales.residual, scales.logits), (0.5, 0.5, 8.0));
    let unsaid = set(of("granite"), "granite.logit_scale", Entry::F32(0.0));
    assert_eq!(config(&unsaid).scales.logits, 1.0);
    for name in ["rope_factors_long.weight", "rope_factors_short.weight"] {
        let error = config_of(&file(&of("phi3"), &[tensor(name, &[4])], &[])).unwrap_err();
        assert!(error.contains(name) && error.contains("\"longrope\"") && error.contains("take the model"), "{error}");
    }
    let yarn = set(
        set(of("phi3"), "phi3.rope.scaling.type", Entry::Text("yarn".into())),
        "phi3.rope.scaling.factor",
        Entry::F32(4.0),
    );
    assert!(config_of(&file(&yarn, &[], &[])).unwrap_err().contains("Phi-3"));
}

#[test]
fn frequency_factors_are_recognised_as_llama_3_1s_or_refused() {
    let scaled = |factor: f64, original: usize| {
        let base = config_of(&file(&llama(), &[], &[])).unwrap().0;
        let rope_scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: original,
        };
        ModelConfig { rope_scaling, ..base }
    };
    let factors = |config: &ModelConfig| factors(config).into_iter().map(|factor| factor as f32).collect::<Vec<_>>();
    let read = |entries: &Entries, data: &[f32]| {
        config_of(&file(entries, &[tensor("rope_freqs.weight", &[data.len()])], data))
    };
    let (usual, short) = (scaled(8.0, 8192), scaled(32.0, 64));
    assert_eq!(read(&llama(), &factors(&usual)).unwrap().0, usual);
    let said = set(llama(), "llama.rope.scaling.original_context_length", Entry::U32(64));
    assert_eq!(read(&said, &factors(&short)).unwrap().0, short);
    assert_eq!(read(&llama(), &[1.0; 4]).unwrap().0.rope_scaling, RopeScaling::None);
    for (entries, data) in [
        (llama(), factors(&short)),
        (llama(), vec![2.0, 4.0, 8.0, 16.0]),
        (llama(), vec![1.0; 5]),
        (llama(), vec![f32::NAN; 4]),
        (set(llama(), "llama.rope.scaling.factor", Entry::F32(2.0)), factors(&usual)),
    ] {
        let error = read(&entries, &data).unwrap_err();
        assert!(error.contains("factors") || error.contains("rope_freqs"), "{error}");
    }
}

#[test]
fn a_bias_of_rotated_channels_in_blocks_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let bias = Announced { name: "blk.0.attn_q.bias".into(), shape: vec![32], format: Format::Q8_0 };
    std::fs::write(&path, file(&llama(), &[bias], &[])).unwrap();
    let loaded = crate::Model::load(&path, burn::tensor::DType::F32, &burn::tensor::Device::default());
    let error = loaded.unwrap_err().to_string();
    assert!(error.contains("blk.0.attn_q.bias is a vector in blocks of Q8_0"), "{error}");
}

/// What is wrong with a file.
fn refusal(bytes: &[u8]) -> String {
    match Header::parse(bytes).expect_err("it is damaged") {
        Refusal::Damaged(reason) | Refusal::Other(reason) => reason,
    }
}

/// The bytes of a header whose parts may be anything.
fn raw(keys: &[(&str, u32, &[u8])], tensors: &[(&str, &[u64], u32, u64)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes =
        [&b"GGUF\x03\0\0\0"[..], &(tensors.len() as u64).to_le_bytes(), &(keys.len() as u64).to_le_bytes()].concat();
    for (key, kind, value) in keys {
        bytes.extend([&text(key), &kind.to_le_bytes()[..], value].concat());
    }
    for (name, shape, kind, offset) in tensors {
        bytes.extend([&text(name), &(shape.len() as u32).to_le_bytes()[..]].concat());
        shape.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
        bytes.extend([&kind.to_le_bytes()[..], &offset.to_le_bytes()].concat());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 256, 0);
    bytes
}

#[test]
fn tensors_lie_in_the_file_apart_and_where_they_may_begin() {
    const F32: u32 = 0;
    assert!(Header::parse(&raw(&[], &[("a", &[8], F32, 0), ("b", &[4, 2], F32, 32)])).is_ok());
    type Tensors<'a> = &'a [(&'a str, &'a [u64], u32, u64)];
    let cases: [(Tensors<'_>, &str); 15] = [
        (&[("a", &[8], F32, 0), ("b", &[8], F32, 0)], "tensors a and b lie on one another"),
        (&[("a", &[16], F32, 0), ("b", &[8], F32, 32)], "lie on one another"),
        (&[("a", &[8], F32, 0), ("a", &[8], F32, 32)], "a is there twice"),
        (&[("a", &[8], F32, 4)], "no multiple of 32"),
        (&[("a", &[128], F32, 0)], "ends behind the file's end"),
        (&[("a", &[8], F32, u64::MAX - 31)], "ends behind the file's end"),
        (&[("a", &[8], F32, 1 << 62)], "ends behind the file's end"),
        (&[("a", &[], F32, 0)], "0 dimensions"),
        (&[("a", &[1, 1, 1, 1, 1], F32, 0)], "5 dimensions"),
        (&[("a", &[0], F32, 0)], "impossible shape"),
        (&[("a", &[u64::MAX, 2], F32, 0)], "impossible shape"),
        (&[("a", &[1 << 32, 1 << 31], F32, 0)], "impossible shape"),
        (&[("a", &[33], 2, 0)], "no whole blocks of Q4_0"),
        (&[("a", &[32], 23, 0)], "stored as IQ4_XS, which is not read; read are F32"),
        (&[("a", &[32], 99, 0)], "stored as number 99"),
    ];
    for (tensors, words) in cases {
        let found = refusal(&raw(&[], tensors));
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn metadata_is_refused_that_is_more_than_the_file_or_nothing_that_there_is() {
    let number = |n: u64| n.to_le_bytes();
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    type Keys<'a> = &'a [(&'a str, u32, &'a [u8])];
    let cases: [(Keys<'_>, &str); 14] = [
        (&[("k", 13, &[0])], "`k` is of type 13"),
        (&[("k", 7, &[2])], "neither true nor false"),
        (&[("k", 8, &number(1 << 40))], "more than the file has"),
        (&[("k", 8, &number(u64::MAX))], "more than the file has"),
        (&[("k", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff])], "not UTF-8"),
        (&[("k", 9, &list(9, 1))], "a list of lists"),
        (&[("k", 9, &list(77, 1))], "a list of type 77"),
        (&[("k", 9, &list(8, 1 << 24))], "more than the file has"),
        (&[("k", 9, &list(0, u64::MAX))], "beyond reason"),
        (&[("k", 9, &list(10, 1 << 24))], "more than the file has"),
        (&[("k", 0, &[1]), ("k", 0, &[1])], "`k` is there twice"),
        (&[("general.alignment", 4, &[3, 0, 0, 0])], "expected a power of two"),
        (&[("general.alignment", 4, &[0, 0, 0, 0])], "expected a power of two"),
        (&[("general.alignment", 8, &number(0))], "no whole number"),
    ];
    for (keys, words) in cases {
        let found = refusal(&raw(keys, &[]));
        assert!(found.contains(words), "{found}");
    }
    let long = "k".repeat(5000);
    assert!(refusal(&raw(&[(&long, 0, &[1])], &[])).contains("longer than"));
    let mut many = raw(&[], &[]);
    many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&many).contains("beyond reason"));
    many[8..16].copy_from_slice(&1_000_000u64.to_le_bytes());
    refusal(&many);
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused_by_their_key() {
    let texts = |texts: &[&str]| Entry::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    let plain = || {
        vec![
            ("tokenizer.ggml.model".to_owned(), Entry::Text("llama".into())),
            ("tokenizer.ggml.tokens".to_owned(), texts(&["<unk>", "a", "b", "ab"])),
            ("tokenizer.ggml.scores".to_owned(), Entry::F32s(vec![0.0, -2.0, -2.0, -1.0])),
            ("tokenizer.ggml.token_type".to_owned(), Entry::I32s(vec![2, 1, 1, 1])),
        ]
    };
    let read = |entries: Entries| vocabulary_of(&header(&entries, &[])).map(|vocabulary| vocabulary.tokenizer());
    assert_eq!(read(plain()).unwrap()["model"]["merges"], serde_json::json!([["a", "b"]]));
    for (key, value, words) in [
        ("model", Entry::Text("bert".into()), "\"bert\""),
        ("model", Entry::Text("no_vocab".into()), "no vocabulary"),
        ("tokens", Entry::Texts(vec![]), "missing or empty"),
        ("tokens", Entry::I32s(vec![1]), "expected a list of texts"),
        ("scores", Entry::F32s(vec![0.0]), "1 entries for 4 tokens"),
        ("token_type", Entry::I32s(vec![1]), "1 entries for 4 tokens"),
        ("bos_token_id", Entry::U32(4), "is 4, and there are 4 tokens"),
        ("merges", texts(&["ab"]), "\"ab\", which is no pair"),
        ("add_bos_token", Entry::U32(1), "expected true or false"),
    ] {
        let error = read(set(plain(), &format!("tokenizer.ggml.{key}"), value)).unwrap_err();
        assert!(error.contains(words), "{key}: {error}");
    }
    let gpt2 = set(plain(), "tokenizer.ggml.model", Entry::Text("gpt2".into()));
    assert!(read(gpt2.clone()).unwrap_err().contains("tokenizer.ggml.merges"));
    let merges = set(gpt2, "tokenizer.ggml.merges", texts(&["a b"]));
    let unknown = set(merges.clone(), "tokenizer.ggml.pre", Entry::Text("novel".into()));
    assert!(read(unknown).unwrap_err().contains("\"novel\""));
    // Llama 3's, which does not say that its texts begin with BOS.
    let silent = set(merges, "tokenizer.ggml.pre", Entry::Text("llama-bpe".into()));
    let notes = |entries: &Entries| vocabulary_of(&header(entries, &[])).unwrap().notes;
    assert!(notes(&silent)[0].contains("‘bos’ always"));
    assert!(notes(&set(silent, "tokenizer.ggml.add_bos_token", Entry::Flag(true))).is_empty());
}
