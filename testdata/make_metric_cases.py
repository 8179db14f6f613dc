"""Writes metrics/cases.json: scores that msrnn's own must equal.

ROUGE and Porter stems come from PyPI's rouge-score 0.1.2 (with nltk), token F1 and exact match from the
rules of the SQuAD 1.1 and QASPER evaluators, written down below in the regular expressions that they use.

    python3 -m venv venv && venv/bin/pip install rouge-score==0.1.2
    venv/bin/python testdata/make_metric_cases.py
"""

import collections
import json
import pathlib
import re
import string

from nltk.stem import porter
from rouge_score import rouge_scorer

# Prediction, reference.
PAIRS = [
    ("", ""),
    ("", "something"),
    ("something", ""),
    ("...", "!?"),
    ("the cat sat on the mat", "the cat sat on the mat"),
    ("the cat sat on the mat", "the mat sat on the cat"),
    ("a cat", "the cat sat on the mat"),
    ("the the the the", "the cat and the dog"),
    ("cat", "cats"),
    ("He was running through the relational databases", "he runs through relations and a database"),
    ("Don't stop; it's 3.5 metres!", "Do not stop. It is 3 5 metres"),
    ("Caf\u00e9s in Z\u00fcrich na\u00efvely opened", "Cafes in Zurich naively opened"),
    ("\u0130stanbul's \u212aelvin scale", "istanbul kelvin scale"),
    ("line one\nline two\nline three", "line three\nline two\nline one"),
    ("tab\tand\u00a0no-break\u2003em space", "tab and no break em space"),
    ("Unanswerable", "unanswerable."),
    ("unanswerable", "Yes"),
    ("The question is unanswerable", "Unanswerable"),
    ("Yes", "yes"),
    ("Yes, they do.", "Yes"),
    ("No", "Yes"),
    ("a an the", "the"),
    ("an apple a day", "apple day"),
    ("a\u2013b and the\u2014end", "b and end"),
    ("theatre another ant", "atre other nt"),
    ("state-of-the-art (SOTA)", "stateoftheart SOTA"),
    ("BERT, ELMo, GPT-2", "BERT-base, ELMo"),
    ("five\x1csix\x1fseven", "five six seven"),
    ("$47.50", "47.50"),
    ("_underscored_ words", "underscored words"),
    ("\u65e5\u672c\u8a9e text", "text \u65e5\u672c\u8a9e"),
    ("one two three four five six", "two four six one three five"),
    ("one two one two one two", "two one two one two one"),
    ("In the story, Strike is a captain who was exiled to Venus for insubordination.",
     "Strike, a disgraced Commander, is given command of the old ship Aphrodite on Venus."),
    ("Ivy designed the engine that saves the fleet, and she becomes an engineer on the ship.",
     "Ivy Hendricks is the engineer who had designed the ship's new drive; she saves the fleet with it."),
    ("The setting is a muddy, hot landing base on Venus and the space between Venus and the Sun.",
     "The story is set on Venus, where it is hot and rains mud, and in deep space near the Sun."),
    ("tokens with the lowest attention are dropped " * 5, "the states with lowest attention weights are dropped"),
]

SUFFIXES = [
    "", "s", "es", "ies", "sses", "y", "ed", "ing", "eed", "ied", "ying", "ation", "ational", "tional", "izer", "ized",
    "ably", "ibly", "ally", "fully", "ously", "ently", "ely", "ization", "ator", "alism", "iveness", "fulness",
    "ousness", "ality", "ivity", "bility", "ology", "logi", "icate", "ative", "alize", "icity", "ical", "ful", "ness",
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "sion", "tion", "ism",
    "ate", "iti", "ous", "ive", "ize", "e", "le", "ll", "lled", "tting",
]
STEMS = ["", "a", "t", "by", "fl", "sky", "toy", "hop", "fil", "tan", "rat", "cont", "oper", "trouble", "sensi", "contro", "enjo"]
WORDS = """sky skies dying lying tying news innings outing cannings howe proceed exceed succeed dies died ties tied
flies flied spied spies feed agreed bled plastered motoring sing conflated troubled sized hopping tanned falling hissing
fizzed failing filing happy sky enjoy enjoyment spy say relational conditional rational valency hesitancy digitizer
conformably radically differently vilely analogously vietnamization predication operator feudalism decisiveness
hopefulness callousness formality sensitivity sensibility geology theology archaeology philology triplicate formative
formalize electricity electrical hopeful goodness revival allowance inference airliner gyroscopic adjustable defensible
irritant replacement adjustment dependent adoption homologous communism activate angularity effective bowdlerize probate
rate cease controlled controlling roll generalization oscillators yyyy syzygy yes bye 2nd 1990s covid19 abcdefghij
captain insubordination aphrodite engineers designed becoming fleet's retention attention policies states omitted
was were has being does goes running runner easily beautifully national nationally nation""".split()


def normalise(text):
    """SQuAD 1.1: lower, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(prediction, reference):
    prediction, reference = normalise(prediction).split(), normalise(reference).split()
    common = sum((collections.Counter(prediction) & collections.Counter(reference)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(reference)
    return 2 * precision * recall / (precision + recall)


def main():
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorers = {stem: rouge_scorer.RougeScorer(kinds, use_stemmer=stem) for stem in (False, True)}
    cases = []
    for prediction, reference in PAIRS:
        case = {"prediction": prediction, "reference": reference}
        for stem, scorer in scorers.items():
            scores = scorer.score(reference, prediction)
            case["stemmed" if stem else "plain"] = {kind: list(map(float, scores[kind])) for kind in kinds}
        case["f1"] = float(token_f1(prediction, reference))
        case["exact"] = float(normalise(prediction) == normalise(reference))
        cases.append(case)
    stemmer = porter.PorterStemmer()
    words = sorted({stem + suffix for stem in STEMS for suffix in SUFFIXES} | {word for word in WORDS if word.isalnum()})
    stems = {word: stemmer.stem(word) for word in words if word}
    path = pathlib.Path(__file__).parent / "metrics" / "cases.json"
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f'{{"cases": [\n{lines}\n],\n"stems": {json.dumps(stems)}}}\n')
    print(f"{path}: {len(cases)} cases, {len(stems)} stems")


main()
