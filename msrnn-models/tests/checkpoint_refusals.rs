//! Checkpoints that could only give a wrong number, or none, are refused with what is wrong and what to do.

mod common;

use burn::tensor::{DType, Device};
use common::{Copy, Tensors, golden, read, tokens, values, write};
use msrnn_models::Model;
use msrnn_models::error::ModelError;
use msrnn_models::storage::{Storage, Weights};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn load(copy: &Copy, storage: impl Into<Storage>) -> Result<Model, ModelError> {
    Model::load(copy.path(), storage, &Device::default())
}

#[track_caller]
fn refuses(copy: &Copy, words: &[&str]) {
    let error = load(copy, DType::F32).expect_err("it must be refused").to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}\nshould say {words:?}");
}

#[track_caller]
fn refuses_config(changes: Value, words: &[&str]) {
    let copy = Copy::of("llama-gqa");
    copy.configure(&changes);
    refuses(&copy, &[&["config.json"], words].concat());
}

/// The last logits of the golden ids.
fn last(model: &Model) -> Vec<f64> {
    let ids: Value = golden("llama-sharded-bf16.json");
    let ids: Vec<u32> = serde_json::from_value(ids["ids"].clone()).unwrap();
    values(model.decoder.forward(tokens(&ids)))
}

#[test]
fn a_stale_tensor_in_another_file_does_not_win_over_the_one_that_the_index_names() {
    let name = "model.norm.weight";
    let whole = Copy::of("llama-sharded-bf16");
    let expected = last(&load(&whole, DType::F64).unwrap());
    let index: Value = serde_json::from_slice(&std::fs::read(whole.path().join(INDEX)).unwrap()).unwrap();
    let home = index["weight_map"][name].as_str().unwrap();
    let files: Vec<String> = (1..=3).map(|n| format!("model-0000{n}-of-00003.safetensors")).collect();
    for file in files.iter().filter(|file| *file != home) {
        let copy = Copy::of("llama-sharded-bf16");
        let mut stale = read(&copy.path().join(home))[name].clone();
        stale.2.fill(0);
        copy.change(file, |tensors| drop(tensors.insert(name.into(), stale)));
        let model = load(&copy, DType::F64).unwrap();
        assert_eq!(last(&model), expected, "{file}");
        assert_eq!(model.unused, [format!("{name} ({file})")]);
    }
}

#[test]
fn the_file_in_one_piece_wins_over_a_leftover_index() {
    let copy = Copy::of("llama-gqa");
    let mut other: Tensors = read(&copy.path().join(WEIGHTS));
    let expected = last(&load(&copy, DType::F64).unwrap());
    let map: serde_json::Map<String, Value> =
        other.keys().map(|name| (name.clone(), "other.safetensors".into())).collect();
    other.values_mut().for_each(|tensor| tensor.2.fill(0));
    write(&copy.path().join("other.safetensors"), &other);
    std::fs::write(copy.path().join(INDEX), json!({ "weight_map": map }).to_string()).unwrap();
    assert_eq!(last(&load(&copy, DType::F64).unwrap()), expected);
}

#[test]
fn an_index_may_only_name_safetensors_files_inside_the_directory_and_all_of_them_must_be_there() {
    for name in ["../model.safetensors", "/tmp/model.safetensors", "pytorch_model.bin", "..\\x.safetensors"] {
        let copy = Copy::of("llama-sharded-bf16");
        std::fs::write(copy.path().join(INDEX), json!({ "weight_map": { "model.norm.weight": name } }).to_string())
            .unwrap();
        refuses(&copy, &[INDEX, "inside the directory"]);
    }
    let copy = Copy::of("llama-sharded-bf16");
    for n in [1, 3] {
        std::fs::remove_file(copy.path().join(format!("model-0000{n}-of-00003.safetensors"))).unwrap();
    }
    let words = ["2 files of this index are missing", "model-00001-of-00003", "model-00003-of-00003", "download"];
    refuses(&copy, &words);
    std::fs::remove_file(copy.path().join(INDEX)).unwrap();
    refuses(&copy, &["model-00002-of-00003.safetensors", "index of this part is missing"]);
}

fn put(tensors: &mut Tensors, name: &str, at: usize, value: f32) {
    tensors.get_mut(name).unwrap().2[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_weight_that_is_no_number_is_refused_with_its_place_in_every_precision() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let int8 = Storage { weights: Weights::Int8, ..DType::F32.into() };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let copy = Copy::of("llama-gqa");
        // [48, 32]; and one in a later tensor, which must not be the one that is named.
        copy.change(WEIGHTS, |tensors| {
            put(tensors, name, 5 * 32 + 7, value);
            put(tensors, "model.norm.weight", 0, f32::NAN);
        });
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let error = load(&copy, dtype).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("[5, 7]"), "{dtype:?}: {error}");
            assert!(error.contains(&value.to_string()), "{dtype:?}: {error}");
        }
        let copy = blocks(&[(name, value)]);
        let error = load(&copy, int8).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(&value.to_string()), "int8: {error}");
    }
}

/// A checkpoint whose rows are whole blocks of 8-bit weights, with these values at the beginning of tensors.
fn blocks(values: &[(&str, f32)]) -> Copy {
    let copy = Copy::of("llama-gqa");
    copy.configure(&json!({ "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 64, "head_dim": 16 }));
    copy.change(WEIGHTS, |tensors| {
        for (name, (_, shape, bytes)) in tensors.iter_mut() {
            let wide = |at: usize, size: usize| match name.as_str() {
                name if at == 0 && (name.contains("embed") || name.contains("lm_head")) => size,
                name if at == 0 && (name.contains("k_proj") || name.contains("v_proj")) => 32,
                _ => 64,
            };
            *shape = shape.iter().enumerate().map(|(at, &size)| wide(at, size)).collect();
            *bytes = 0.5f32.to_le_bytes().repeat(shape.iter().product());
        }
        values.iter().for_each(|(name, value)| put(tensors, name, 0, *value));
    });
    copy
}

#[test]
fn the_checkpoint_of_whole_blocks_is_good_before_it_is_damaged() {
    assert!(load(&blocks(&[]), Storage { weights: Weights::Int8, ..DType::F32.into() }).is_ok());
}

#[test]
fn a_weight_that_is_too_large_for_a_precision_is_refused_with_one_that_holds_it() {
    let name = "model.layers.2.self_attn.o_proj.weight";
    let stored = |value: f32| {
        let copy = Copy::of("llama-gqa");
        copy.change(WEIGHTS, |tensors| put(tensors, name, 33, value));
        copy
    };
    let largest_f16 = stored(65_504.0);
    let above_f16 = stored(-70_000.0);
    let above_bf16 = stored(f32::MAX);
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        assert!(load(&largest_f16, dtype).is_ok(), "{dtype:?}");
    }
    let error = load(&above_f16, DType::F16).unwrap_err().to_string();
    assert!([name, "-7e4", "[1, 1]", "f16", "bf16 or f32"].iter().all(|word| error.contains(word)), "{error}");
    assert!(load(&above_f16, DType::BF16).is_ok() && load(&above_f16, DType::F32).is_ok());
    let error = load(&above_bf16, DType::BF16).unwrap_err().to_string();
    assert!(error.contains("bf16 can hold; load the model in f32"), "{error}");
    let copy = Copy::of("llama-gqa");
    copy.change(WEIGHTS, |tensors| {
        let (dtype, _, bytes) = tensors.get_mut("model.norm.weight").unwrap();
        *dtype = Dtype::F64;
        *bytes = 1e39f64.to_le_bytes().repeat(bytes.len() / 4);
    });
    let error = load(&copy, DType::F32).unwrap_err().to_string();
    assert!(error.contains("f32 can hold; load the model in f64"), "{error}");
    assert!(load(&copy, DType::F64).is_ok());
}

#[test]
fn rope_that_could_mean_two_things_or_is_unknown_is_refused_by_name() {
    let linear = |more: Value| {
        let mut rope = json!({ "factor": 4.0 });
        rope.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "rope_scaling": rope })
    };
    let nested = json!({ "rope_type": "linear", "factor": 4.0, "rope_theta": 1e4 });
    let cases: [(Value, &[&str]); 16] = [
        (linear(json!({ "type": "linear", "rope_type": "dynamic" })), &["\"dynamic\"", "\"linear\"", "keep one"]),
        (linear(json!({})), &["`factor`", "no `rope_type`"]),
        (linear(json!({ "rope_type": null })), &["`rope_type`", "null"]),
        (linear(json!({ "rope_type": "linear", "rope_theta": null })), &["`rope_theta` is null"]),
        (linear(json!({ "rope_type": "default" })), &["\"default\" knows no `factor`"]),
        (linear(json!({ "rope_type": "linear", "low_freq_factor": 1.0 })), &["knows no `low_freq_factor`"]),
        (linear(json!({ "rope_type": "longrope" })), &["longrope", "supported are"]),
        (linear(json!({ "rope_type": "linear", "factor": "4" })), &["`factor` is \"4\"", "a number"]),
        (linear(json!({ "rope_type": "yarn", "attention_factor": 0 })), &["`attention_factor` is 0"]),
        (linear(json!({ "rope_type": "yarn", "beta_fast": 1, "beta_slow": 2 })), &["`beta_fast` 1"]),
        (json!({ "rope_scaling": "linear" }), &["`rope_scaling` is \"linear\"", "an object"]),
        (json!({ "rope_parameters": { "full_attention": nested, "sliding_attention": nested } }), &["full_attention"]),
        (json!({ "rope_theta": null }), &["`rope_theta` is null"]),
        (json!({ "rope_theta": -1.0 }), &["`rope_theta` is -1"]),
        (json!({ "partial_rotary_factor": 0.5 }), &["`partial_rotary_factor` is 0.5"]),
        (
            json!({ "original_max_position_embeddings": 8,
                "rope_scaling": { "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16 } }),
            &["8", "16", "keep one"],
        ),
    ];
    for (changes, words) in cases {
        refuses_config(changes, words);
    }
}

#[test]
fn values_that_a_key_cannot_have_are_refused_with_key_and_value() {
    for key in ["hidden_size", "vocab_size", "num_hidden_layers", "max_position_embeddings", "num_attention_heads"] {
        for value in
            [json!(null), json!(32.0), json!("32"), json!(-1), json!(0), json!(true), json!(1_000_000_000_000u64)]
        {
            refuses_config(json!({ key: value }), &[&format!("`{key}` is {value}")]);
        }
    }
    for key in ["num_key_value_heads", "head_dim", "intermediate_size"] {
        for value in [json!(2.0), json!("2"), json!(-1), json!(1_000_000_000_000u64)] {
            refuses_config(json!({ key: value }), &[&format!("`{key}` is {value}")]);
        }
    }
    for key in ["tie_word_embeddings", "attention_bias", "mlp_bias", "rms_norm_eps", "hidden_act"] {
        refuses_config(json!({ key: null }), &[&format!("`{key}` is null")]);
    }
    for value in [json!(-1e-5), json!(1.0), json!(1e30), json!("1e-5")] {
        refuses_config(json!({ "rms_norm_eps": value }), &["`rms_norm_eps` is"]);
    }
    for value in [json!("2"), json!(2.5), json!([1, "2"]), json!(99_999_999_999u64)] {
        refuses_config(json!({ "eos_token_id": value }), &["`eos_token_id` is", "a token id"]);
    }
    refuses_config(json!({ "bos_token_id": [1] }), &["`bos_token_id` is [1]"]);
    refuses_config(json!({ "tie_word_embeddings": "false" }), &["`tie_word_embeddings` is \"false\""]);
    refuses_config(json!({ "quantization_config": { "quant_method": "gptq" } }), &["gptq", "dequantise"]);
    refuses_config(
        json!({ "layer_types": ["sliding_attention", "full_attention", "full_attention"] }),
        &["layer_types"],
    );
    refuses_config(json!({ "layer_types": ["full_attention"] }), &["1 entries for 3 layers"]);
    refuses_config(
        json!({ "model_type": "mistral", "architectures": ["MistralForCausalLM"], "use_sliding_window": false }),
        &["`use_sliding_window` is false", "4096"],
    );
}

#[test]
fn architectures_that_are_not_this_or_contradict_are_refused_by_name() {
    refuses_config(
        json!({ "architectures": ["LlamaForSequenceClassification"] }),
        &["SequenceClassification", "no head"],
    );
    refuses_config(json!({ "architectures": ["MistralForCausalLM"] }), &["MistralForCausalLM", "contradict"]);
    refuses_config(
        json!({ "model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"] }),
        &["qwen2_moe", "supported are", "Qwen2ForCausalLM", "Phi3ForCausalLM"],
    );
    refuses_config(json!({ "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"] }), &["gemma2", "supported"]);
    refuses_config(json!({ "model_type": null, "architectures": [] }), &["neither `model_type`", "architectures"]);
    refuses_config(json!({ "architectures": "LlamaForCausalLM" }), &["`architectures` is", "a list"]);
}

#[test]
fn tensors_under_a_foreign_prefix_are_refused_with_it() {
    for (prefix, found) in [
        ("_orig_mod.", "\"_orig_mod.\""),
        ("module.", "\"module.\""),
        ("language_model.", "\"language_model.\""),
        ("base_model.model.", "\"base_model.model.\""),
    ] {
        let copy = Copy::of("llama-gqa");
        copy.change(WEIGHTS, |tensors| {
            *tensors = std::mem::take(tensors).into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)).collect();
        });
        refuses(&copy, &["missing", found, "rename"]);
    }
    let copy = Copy::of("llama-gqa");
    copy.change(WEIGHTS, |tensors| {
        let renamed = |name: String| name.replacen("model.", "model._orig_mod.", 1);
        *tensors = std::mem::take(tensors).into_iter().map(|(name, t)| (renamed(name), t)).collect();
    });
    refuses(&copy, &["\"model._orig_mod.\"", "rename"]);
}

#[test]
fn quantised_tensors_denied_biases_and_a_missing_head_are_refused_with_what_to_do() {
    for ending in ["qweight", "SCB", "weight_scale", "g_idx"] {
        let copy = Copy::of("llama-gqa");
        let name = format!("model.layers.0.self_attn.q_proj.{ending}");
        copy.change(WEIGHTS, |tensors| drop(tensors.insert(name.clone(), (Dtype::I32, vec![1], vec![0; 4]))));
        refuses(&copy, &[&name, "quantised", "‘dtype’ int8"]);
    }
    for key in ["attention_bias", "mlp_bias"] {
        let copy = Copy::of("llama-bias");
        copy.configure(&json!({ key: false }));
        refuses(&copy, &["_proj.bias", "denies", "set `attention_bias`"]);
    }
    let copy = Copy::of("llama-tied");
    copy.configure(&json!({ "tie_word_embeddings": "absent" }));
    refuses(&copy, &["lm_head.weight", "`tie_word_embeddings`", "set it to true"]);
    let copy = Copy::of("llama-gqa");
    copy.configure(&json!({ "num_hidden_layers": 5 }));
    refuses(&copy, &["config.json says 5 layers, and the files hold 3"]);
}

#[test]
fn a_header_that_gives_a_tensor_two_places_is_refused() {
    let copy = Copy::of("llama-gqa");
    let path = copy.path().join(WEIGHTS);
    let file = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(file[8..8 + length].to_vec()).unwrap();
    let header: Value = serde_json::from_str(&header).unwrap();
    let other = &header["model.layers.0.input_layernorm.weight"];
    // JSON keeps the last of equal keys, as transformers does: here the place of another tensor.
    let text = header.to_string();
    let twice = format!("{}, \"model.norm.weight\": {other}}}", text.strip_suffix('}').unwrap());
    assert!(serde_json::from_str::<Value>(&twice).is_ok(), "{twice}");
    let bytes = [&(twice.len() as u64).to_le_bytes(), twice.as_bytes(), &file[8 + length..]].concat();
    std::fs::write(&path, bytes).unwrap();
    refuses(&copy, &[WEIGHTS, "not a whole safetensors file"]);
}

#[test]
fn pointers_and_other_forms_are_named_with_what_to_do() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n";
    for file in [WEIGHTS, "config.json", "tokenizer.json", "generation_config.json"] {
        let copy = Copy::of("llama-gqa");
        std::fs::write(copy.path().join(file), POINTER).unwrap();
        refuses(&copy, &[file, "Git LFS pointer", "git lfs pull"]);
    }
    let copy = Copy::of("llama-sharded-bf16");
    std::fs::write(copy.path().join(INDEX), POINTER).unwrap();
    refuses(&copy, &[INDEX, "Git LFS pointer"]);

    let copy = Copy::of("llama-gqa");
    std::fs::rename(copy.path().join(WEIGHTS), copy.path().join("pytorch_model.bin")).unwrap();
    refuses(&copy, &["pytorch_model.bin", "save_pretrained"]);
    let copy = Copy::of("llama-gqa");
    std::fs::write(copy.path().join("adapter_config.json"), "{}").unwrap();
    refuses(&copy, &["adapter_config.json", "merge"]);
    let copy = Copy::of("llama-gqa");
    let gguf = copy.path().join("model.gguf");
    std::fs::write(&gguf, "GGUF").unwrap();
    let error = Model::load(&gguf, DType::F32, &Device::default()).unwrap_err().to_string();
    assert!(error.contains("model.gguf") && error.contains("more than the file has"), "{error}");
    std::fs::remove_file(copy.path().join(WEIGHTS)).unwrap();
    refuses(&copy, &["model.gguf", "‘model’ with the path of the file"]);
}

#[test]
fn where_generation_config_is_there_it_alone_says_where_a_text_ends() {
    let ends = |generation: Option<&str>| {
        let copy = Copy::of("llama-gqa");
        copy.configure(&json!({ "eos_token_id": [5, -1] }));
        if let Some(text) = generation {
            std::fs::write(copy.path().join("generation_config.json"), text).unwrap();
        }
        load(&copy, DType::F32).map(|model| model.eos_token_ids).map_err(|error| error.to_string())
    };
    // As transformers 5.23 generates with these files: null, nothing and −1 go on to the last token.
    for (text, expected) in [
        (None, vec![5]),
        (Some(r#"{"eos_token_id": [7, 8]}"#), vec![7, 8]),
        (Some(r#"{"eos_token_id": 7}"#), vec![7]),
        (Some(r#"{"eos_token_id": null}"#), vec![]),
        (Some(r#"{"eos_token_id": -1}"#), vec![]),
        (Some("{}"), vec![]),
    ] {
        assert_eq!(ends(text), Ok(expected), "{text:?}");
    }
    for text in [r#"{"eos_token_id": "7"}"#, "[]", "{"] {
        assert!(ends(Some(text)).unwrap_err().contains("generation_config.json"), "{text}");
    }
}
