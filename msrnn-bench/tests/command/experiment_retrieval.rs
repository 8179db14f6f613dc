//! `msrnn experiment retrieval` on small inputs.

use crate::common::{msrnn, read_json, split, succeeds, text_of, write};
use crate::samples_fit::{lines, write_lines};

const SMALL: &str = "experiment retrieval --lengths 512 --depths 0,1 --trials 2 --policies tova --states 64 --json";

#[test]
fn every_task_is_asked_of_every_policy() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let arguments = format!("{SMALL} --task facts,passkey,needle --out {}", text_of(&out));
    let results = succeeds(&split(&arguments)).json();
    let skills = results["metrics"]["retrieval"].as_array().unwrap();
    assert_eq!(skills.len(), 2 * 3);
    for skill in skills {
        assert_eq!(skill["questions"], 4, "{skill}");
        assert_eq!(skill["cells"].as_array().unwrap().len(), 2);
        // Exact matches and choices are shares; a log-likelihood is negative.
        for value in ["exact", "choice"] {
            let share = skill[value]["mean"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share), "{skill}");
        }
        assert!(skill["log_likelihood"]["mean"].as_f64().unwrap() < 0.0);
    }
    let arms = results["arms"].as_array().unwrap();
    assert_eq!((&arms[0]["policy"], &arms[1]["policy"]), (&"full".into(), &"tova@64".into()));
    assert_eq!(arms[0]["omitted"], 0);
    assert!(arms[1]["omitted"].as_u64().unwrap() > 0 && arms[1]["max_rows"] == 64);
    let kinds: Vec<&str> =
        results["figures"].as_array().unwrap().iter().map(|f| f["content"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["table", "heat-map", "lines", "passages"].repeat(3));
    assert_eq!(read_json(&out.join("metrics.json")), results);
}

#[test]
fn a_haystack_of_ones_own_is_part_of_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let hay = write(directory.path(), "hay.txt", "Nothing happened. Nobody came, and nobody went. It rained.");
    let out = directory.path().join("run");
    let arguments = format!("{SMALL} --task needle --haystack {} --out {}", text_of(&hay), text_of(&out));
    succeeds(&split(&arguments));
    assert!(std::fs::read_to_string(out.join("manifest.toml")).unwrap().contains("hay.txt"));
    // Another text is another run.
    std::fs::write(&hay, "Something happened.").unwrap();
    let again = msrnn(&split(&arguments));
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("another run"), "{}", again.stderr);
}

#[test]
fn what_cannot_be_asked_is_refused_before_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let empty = write(directory.path(), "empty.txt", " \n");
    for (more, says) in [
        ("--lengths 100".to_owned(), "--lengths"),
        ("--depths 2".to_owned(), "from 0 to 1"),
        ("--trials 0".to_owned(), "at least one"),
        ("--states 600".to_owned(), "512"),
        (format!("--haystack {}", text_of(&empty)), "no sentence"),
        ("--haystack nowhere.txt".to_owned(), "nowhere.txt"),
    ] {
        let arguments = format!("experiment retrieval --task facts --lengths 512 {more} --out {}", text_of(&out));
        let arguments = match more.starts_with("--lengths") {
            true => arguments.replacen("--lengths 512", "", 1),
            false => arguments,
        };
        let done = msrnn(&split(&arguments));
        assert_eq!(done.code, Some(1), "{more}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{more}: {}", done.stderr);
        assert!(!out.join("samples.jsonl").exists(), "{more}");
    }
}

#[test]
fn a_dry_run_plans_without_working() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let plan = succeeds(&split(&format!("{SMALL} --dry-run --out {}", text_of(&out)))).json();
    assert_eq!(plan["units"].as_array().unwrap().len(), 4);
    assert_eq!(plan["tokens"], 4 * 2 * 512);
    assert!(!out.exists());
}

#[test]
fn asked_after_is_a_run_of_its_own_whose_states_grow_by_the_question() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let arguments = format!("{SMALL} --task facts,passkey --out {}", text_of(&out));
    let after = format!("{arguments} --ask-after");
    let results = succeeds(&split(&after)).json();
    assert!(results["notes"].to_string().contains("after the cut"), "{}", results["notes"]);
    let arms = results["arms"].as_array().unwrap();
    assert_eq!((&arms[0]["policy"], &arms[1]["policy"]), (&"full".into(), &"after-prompt(tova)@64".into()));
    assert!(arms[1]["omitted"].as_u64().unwrap() > 0 && arms[1]["max_rows"].as_u64().unwrap() > 64, "{arms:?}");
    let again = msrnn(&split(&arguments));
    assert!(again.code == Some(1) && again.stderr.contains("another run"), "{again:?}");
    assert!(std::fs::read_to_string(out.join("manifest.toml")).unwrap().contains("ask_after = true"));
}

/// Older versions wrote the same numbers and not what was said.
#[test]
fn runs_with_and_without_the_words_of_an_answer_go_together_whichever_comes_first() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let run = format!("{SMALL} --task facts --out ");
    let new = succeeds(&split(&format!("{run}{}", text_of(&at("new"))))).json();
    succeeds(&split(&format!("{run}{}", text_of(&at("old")))));
    let mut old = lines(&at("old"));
    for trial in old.iter_mut().flat_map(|line| line["sample"]["trials"].as_array_mut().unwrap()) {
        trial.as_object_mut().unwrap().remove("said").expect("what was said");
    }
    write_lines(&at("old"), &old);
    for (out, parts) in [("a", ["new", "old"]), ("b", ["old", "new"])] {
        let [one, other] = parts.map(at);
        let merged = succeeds(&["report", text_of(&one), text_of(&other), "--out", text_of(&at(out)), "--json"]);
        assert_eq!(merged.json(), new, "{parts:?}");
    }
    // An old directory is finished: it goes on as it is, and takes nothing for another's.
    let resumed = succeeds(&split(&format!("{run}{} --reuse {}", text_of(&at("old")), text_of(&at("new"))))).json();
    assert_eq!(resumed["metrics"], new["metrics"]);

    old[0]["sample"]["trials"][0]["rank"] = 99.into();
    write_lines(&at("old"), &old);
    let refused = msrnn(&["report", text_of(&at("new")), text_of(&at("old")), "--out", text_of(&at("c"))]);
    assert!(refused.code == Some(1) && refused.stderr.contains("says something else of unit"), "{refused:?}");
}
