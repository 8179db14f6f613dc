//! Texts that are no policy, and what is said of them.

use super::*;

#[test]
fn errors_point_at_the_character() {
    for (text, marked, says) in [
        ("tovaa@5", "tovaa", "here are full, window, window+i"),
        ("protect(tovaa, first=4)@512", "tovaa", "no policy is called \"tovaa\""),
        ("window+x@5", "x", "window+4"),
        ("window+99999999999999999999@5", "99999999999999999999", "whole number"),
        ("random:x", "x", "random:7"),
        ("tova:7", "7", "draws nothing at random"),
        ("tova(window=3)", "window", "takes none; leave it out"),
        ("tova(window)", ")", "expected = and"),
        ("tova@", "", "64MiB"),
        ("tova@12q", "12q", "64MiB"),
        ("", "", "expected a policy such as tova"),
        ("@5", "@", "expected a policy such as tova"),
        ("tova-", "-", "expected @ and a budget"),
        ("tova h2o", "h2o", "expected @ and a budget"),
        ("tova)", ")", "expected @ and a budget"),
        ("protect(tova", "", "expected , or )"),
        ("protect(tova, last=4)", "last", "it takes first, newest"),
        ("protect(tova, first=4, first=5)", "first", "twice"),
        ("protect(tova, first=-4)", "-4", "no value of first"),
        ("protect(tova@5, first=4)", "@", "protect(…)@512"),
        ("int4", "", "( as in int4(tova, recent=32)"),
        ("int4(tovaa)", "tovaa", "no policy is called"),
        ("int4(tova@5)", "@", "int4(…)@512"),
        ("int4(tova, recent=x)", "x", "no value of recent"),
        ("int4(tova, recent=9999999)", "9999999", "such as recent=32"),
        ("int4(tova, group=0)", "0", "such as group=32"),
        ("int4(tova, keys=row)", "row", "keys=token"),
        ("int4(tova, bits=2)", "bits", "it takes group, recent, keys"),
        ("int4(int8(tova))", "int8(tova)", "packed already"),
        ("int2(kivi)", "kivi", "packed already"),
        ("int3(tova)", "int3", "no policy is called"),
        ("int4(full)@512", "512", "keeps every state"),
        ("kivi(bits=2)@25%", "25%", "keeps every state"),
        ("layers(0: int8(full)@5, *: tova)", "@", "keeps every state"),
        ("kivi(bits=3)", "3", "bits=4"),
        ("kivi(group=32, recent=48)", "48", "multiple of the group"),
        ("kivi(group=32, recent=0)", "0", "multiple of the group"),
        ("kivi(keys=token)", "keys", "it takes bits, group, recent"),
        ("int4(tova, keys=channel)@64", "channel", "every(128, ..)"),
        ("protect(int4(h2o, keys=channel), first=4)@64", "channel", "keys=token"),
        ("score(age * head)", "head", "write per head"),
        ("score(head; per layer)", "head", "write per head"),
        ("score(weight; first head; per head)", "head", "follows from numbers and k"),
        ("merge(tova, threshold=1.5)", "1.5", "such as ema0.5"),
        ("merge(tova, threshold=ema2)", "ema2", "from 0 to 1"),
        ("merge(tova, threshold=ema)", "ema", "from 0 to 1"),
        ("merge(tova, threshold=nan)", "nan", "a cosine from -1 to 1"),
        ("merge(tova, weight=max)", "max", "mean or exp"),
        ("every(9, int4(merge(tova), keys=channel))@64", "channel", "merged into them"),
        ("protect(full)", "full", "layers(0-1: full"),
        ("pyramid(tova, beta=0)", "0", "has no top"),
        ("every(0, tova)", "0", "give 1"),
        ("every(tova)", "tova", "every(128, tova)"),
        ("every(3 tova)", "tova", "expected , and the policy"),
        ("layers(0: full)", ")", "*: tova"),
        ("layers(0: full, *: full)@5", "layers", "write full"),
        ("layers(0-3: full, 2-5: tova, *: tova)", "2-5", "layer 2 has a policy already"),
        ("layers(3-1: full, *: tova)", "3-1", "count up"),
        ("layers(0-999: full, *: tova)", "0-999", "255"),
        ("layers(*: tova, *: window)", "*", "twice"),
        ("layers(0: full@5, *: tova)", "@", "takes no budget"),
        ("layers(0: window@5, *: tova@6)", "6", "@5, but there is one k"),
        ("layers(0: full, *: tova@5)@6", "6", "inside already"),
        ("layers(x: full, *: tova)", "x", "* for the rest"),
        ("heads(0: full)", ")", "*: tova"),
        ("heads(0: full, *: full)@5", "heads", "write full"),
        ("heads(0-3: full, 2-5: tova, *: tova)", "2-5", "head 2 has a policy already"),
        ("heads(0-99: full, *: tova)", "0-99", "63"),
        ("heads(x: full, *: tova)", "x", "heads as in 0-1"),
        ("heads(0: oracle, *: tova)@5", "heads", "told what comes"),
        ("heads(0: heads(0: full, *: tova), *: tova)@5", "heads", "heads of its own"),
        ("heads(0: pooled(every(2, tova)), *: tova)@5", "heads", "compete"),
        ("heads(0: streaming, *: tova)@5", "heads", "around the whole"),
        ("score(weigth)", "weigth", "there are weight, max_weight"),
        ("score(m = 0.9 * m + weight)", ")", "keep m"),
        ("score(m = n + weight; keep m)", "n", "nor remembered"),
        ("score(m = weight; m = weight; keep m)", "m", "remembered already"),
        ("score(age = age + 1; keep age)", "age", "another name"),
        ("score(keep m; m = weight)", "m", "stands before the score"),
        ("score(weight; age)", "age", "two scores"),
        ("score(weight; first 4; first 5)", "first", "twice"),
        ("score(weight; first -4)", "-4", "give 0 or more"),
        ("score(weight; newest 0 / 0)", "0 / 0", "give 0 or more"),
        ("score(weight; newest age)", "age", "numbers and k"),
        ("score(weight; newest k + 1)@5", "score(weight; newest k + 1)", "no number of states is enough"),
        ("protect(score(weight; newest k - 2), first=3)", "protect(score(weight; newest k - 2), first=3)", "no number"),
        ("score(weight; per token)", "token", "expected head or layer"),
        ("score(weight; per head; per layer)", "per layer", "twice"),
        ("score(weight *)", ")", "expected a number, a name"),
        ("score(weight age)", "age", "expected an operator"),
        ("score(1 < age < 8)", "<", "multiply two comparisons"),
        ("score(sin(weight))", "sin", "there are abs, exp"),
        ("score(pow(weight))", ")", "argument 2 of 2"),
        ("score(exp(weight, 2))", ",", "expected an operator or )"),
        ("score(random)", "random", "takes arguments"),
        ("score(random(x))", "x", "random(7)"),
        ("score(weight + 1.2.3)", "1.2.3", "is not a number"),
        ("score(weight + 2k)", "2k", "is not a number"),
        ("score(1e999)", "1e999", "write inf"),
        ("score(weight = 3; keep weight)", "weight", "means something already"),
        ("score()", ")", "expected the score"),
        ("score", "", "score(weight)"),
        ("score(weight # 2)", "#", "expected an operator"),
        ("score(ä)", "ä", "expected a number, a name"),
    ] {
        let error = error(text);
        let place = error.place().unwrap_or_else(|| panic!("{text:?}: {error} has no place"));
        let shown: String = text.chars().skip(place.characters().start).take(place.characters().len()).collect();
        assert_eq!(shown, marked, "{text:?}: {error}");
        let message = error.to_string();
        assert!(message.contains(says), "{text:?}: {message}");
        let lines: Vec<&str> = message.lines().collect();
        let caret = lines[2].chars().take_while(|&sign| sign == ' ').count();
        assert_eq!(caret, 2 + place.characters().start, "{message}");
        assert_eq!((lines.len(), lines[1]), (3, format!("  {text}").as_str()), "{message}");
        let line = error.one_line();
        assert!(!line.contains('\n') && line.contains(says) && line.contains("character"), "{line}");
    }
    // What marks its last, where there are several.
    assert_eq!(error("protect(tova, first=4, first=5)").place().unwrap().characters(), 23..28);
    assert_eq!(error("score(1 < age < 8)").place().unwrap().characters(), 14..15);
    // These are about the whole.
    assert!(error("full@5").to_string().contains("takes none of \"@5\""));
}

#[test]
fn budgets_that_cannot_be_met_say_which_could() {
    let states = |text: &str| spec(text).compression(100, |_| 10).unwrap_err().to_string();
    assert!(states("tova").contains("tova@512"));
    assert!(states("tova@0").contains("at least one"));
    assert!(states("window+4@4").contains("window+4@5"));
    assert!(states("tova+2@1").contains("tova+2@3"));
    assert!(states("protect(tova, first=4, newest=16)@19").contains("newest=16)@20"));
    // In some layer, not in the first.
    assert!(states("layers(0-1: full, 5: window+7, *: tova)@7").contains("*: tova)@8"));
    assert!(states("score(weight; first 4, newest ceil(0.75 * k))@5").contains("@16"));
    assert!(states("layers(0: full, *: tova)@1KiB").contains("lets states grow"));
    assert!(states("after-prompt(tova)@1KiB").contains("lets states grow"));
    assert!(states("every(32, tova)@320B").contains("at least one"));
    let of = |text: &str| spec(text).compression(100, |_| 10).unwrap().states();
    assert_eq!([of("tova@1000B"), of("every(1, tova)@1000B"), of("every(20, tova)@1000B")], [99, 99, 80].map(Some));
}

#[test]
fn hostile_texts_are_refused_in_bounded_depth() {
    let many = |piece: &str, n: usize| piece.repeat(n);
    for text in [
        format!("score({})", many("(", 4000)),
        format!("score({})", many("-", 4000)),
        format!("score({})", many("exp(", 1000)),
        format!("score({}1)", many("1+", 2000)),
        format!("score({}1)", many("1*-", 1300)),
        many("every(1,", 500),
        many("layers(*:", 400),
    ] {
        assert!(matches!(error(&text), SpecError::TooDeep { .. }), "{}", error(&text));
    }
    assert!(matches!(error(&many("tova", 1 << 20)), SpecError::TooLong { .. }));
    // As long as may be, and still read with a budget.
    let long = format!("score({}1)", many(" ", 4096 - "score(1)".len()));
    round_trips(&spec(&long).with_budget(Budget::States(512)).to_string());
    assert!(matches!(error(&long.replace("1)", " 1)")), SpecError::TooLong { .. }));
    assert!(matches!(error(&format!("tova@{}", many("1", 9000))), SpecError::TooLong { .. }));
    // As deep as may be.
    round_trips(&format!("score({}weight{})", many("exp(", 60), many(")", 60)));
    round_trips(&format!("score({}1)", many("1+", 250)));
}

#[test]
fn a_layer_whose_heads_would_compete_for_one_row_is_refused_whichever_it_is() {
    let spec: PolicySpec = "layers(0-2: tova, *: pooled(tova))@8".parse().unwrap();
    let error = spec.compression(100, |_| 1).unwrap_err().to_string();
    assert!(error.contains("every(128, ..)"), "{error}");
}
