"""Makes testdata/texts/: a tokenizer, rows of text, and the perplexity of Hugging Face's guide on them.

Made with Python 3.11 and exactly these packages (computed on the CPU; any build of torch does):

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 \\
                numpy==2.4.6 tokenizers==0.23.3

Run from this directory (half a minute on one core):

    OMP_NUM_THREADS=1 python make_text_goldens.py

Writes

- ``texts/tokenizer.json``: characters and a few merges, 64 ids as ``checkpoints/llama-gqa`` has, with BOS (1)
  before a text;
- ``texts/rows.jsonl``: rows in the field ``text``, some of them empty, as in WikiText;
- ``texts/strided.json``: the rows joined, the number of ids, and for windows and strides the strided perplexity
  of https://huggingface.co/docs/transformers/perplexity, computed by that page's own loop.

``guide`` is that loop's perplexity: the mean loss of every window weighs its new tokens less one, also where all of
them were predicted. ``nll`` and ``tokens`` are the sum over all targets that the loop scores, each once, taken from
the same logits in float64. The loop's own loss is computed in float32, whatever the model's.
"""

from __future__ import annotations

import json
import math
from typing import Any

from make_goldens import CHECKPOINTS, HERE, float64_islands

TEXTS = HERE / "texts"
MODEL = CHECKPOINTS / "llama-gqa"
VOCABULARY = 64
SEPARATOR = "\n\n"

ROWS = [
    "",
    " = the lamp keeper = ",
    "",
    "mara kept the lamp on the hill. every evening she went up the steps, and every morning she came down.",
    "one night the wind took the light away. she looked for it in the harbour, in the fields and under the bridge.",
    "",
    "",
    " = = the search = = ",
    "an old man sold her a candle; it was small, yet it burned until the ships were home.",
    "\"keep it,\" he said, \"and keep the door closed.\"",
    "",
]
# Tokens of a window and stride. Few of them divide the number of ids.
WINDOWS = [(32, 32), (32, 16), (32, 31), (48, 20), (64, 7), (100, 33), (256, 64), (16, 1)]


def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Metaspace(prepend_scheme="never")
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    made.train_from_iterator([SEPARATOR.join(ROWS)], trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert made.get_vocab_size() == VOCABULARY
    return made


def guide(model: Any, input_ids: Any, max_length: int, stride: int) -> dict[str, Any]:
    import torch

    seq_len = input_ids.size(1)
    nll_sum, n_tokens, prev_end_loc = 0.0, 0, 0
    nll, targets = 0.0, []
    for begin_loc in range(0, seq_len, stride):
        end_loc = min(begin_loc + max_length, seq_len)
        trg_len = end_loc - prev_end_loc
        window = input_ids[:, begin_loc:end_loc]
        target_ids = window.clone()
        target_ids[:, :-trg_len] = -100
        with torch.no_grad():
            outputs = model(window, labels=target_ids)
        num_valid_tokens = (target_ids != -100).sum().item()
        num_loss_tokens = num_valid_tokens - target_ids.size(0)
        nll_sum += outputs.loss.item() * num_loss_tokens
        n_tokens += num_loss_tokens

        logits = outputs.logits[0, :-1]
        assert logits.dtype == torch.float64
        losses = torch.nn.functional.cross_entropy(logits, target_ids[0, 1:], ignore_index=-100, reduction="none")
        scored = (target_ids[0, 1:] != -100).nonzero().flatten() + 1
        nll += losses.sum().item()
        targets += (scored + begin_loc).tolist()

        prev_end_loc = end_loc
        if end_loc == seq_len:
            break
    assert len(targets) == len(set(targets)), "every token is scored once"
    return {
        "context": max_length,
        "stride": stride,
        "guide": math.exp(nll_sum / n_tokens),
        "nll": nll,
        "tokens": len(targets),
    }


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    TEXTS.mkdir(exist_ok=True)
    tokenizer().save(str(TEXTS / "tokenizer.json"))
    (TEXTS / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in ROWS))

    fast = PreTrainedTokenizerFast(tokenizer_file=str(TEXTS / "tokenizer.json"))
    text = SEPARATOR.join(ROWS)
    encodings = fast(text, return_tensors="pt")
    ids = encodings.input_ids
    assert ids[0, 0] == 1 and not (ids == 0).any() and fast.decode(ids[0, 1:]) == text
    with float64_islands():
        model = AutoModelForCausalLM.from_pretrained(
            MODEL, dtype=torch.float64, attn_implementation="eager", local_files_only=True
        ).eval()
        runs = [guide(model, ids, *window) for window in WINDOWS]
    document = {"rows": len(ROWS), "separator": SEPARATOR, "text": text, "ids": ids.size(1), "runs": runs}
    (TEXTS / "strided.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
